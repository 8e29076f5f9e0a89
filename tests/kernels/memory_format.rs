//! Channels last: the same numbers, read and written where they lie.

use segloss::{
    Alpha, FloatType, Head, LabelType, Loss, LossSpec, MemoryFormat, Overlap, Pixel, PixelKind, ScalarAlpha, Variant,
};

use crate::common::{Gpu, Tensors, all_gpus, differences, evaluate, gpu, random_tensors, run, run_variant};

/// Class counts of a quad that is held whole, shared by fours, shared one by one, and streamed.
const CLASSES: [usize; 7] = [2, 3, 4, 7, 14, 16, 37];

fn head(shape: impl Into<Vec<usize>>) -> Head {
    let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1));
    Head::new(shape, loss).labels(LabelType::U16).memory_format(MemoryFormat::ChannelsLast)
}

/// As software and as hardware walk a tile, and with no head split.
fn variants(gpu: &Gpu) -> [Variant; 3] {
    let device = Variant::for_device(&gpu.device);
    let hardware = Variant {
        invocations: 64,
        fold_invocations: 64,
        register_classes: 6,
        register_classes_last: 6,
        split_classes: 6,
        ..device
    };
    [device, Variant { subgroups: false, ..hardware }, Variant { register_classes_last: 8, split_classes: 0, ..device }]
}

fn check(gpu: &Gpu, head: Head, variant: Variant, seed: u64) {
    let spec = LossSpec::new().head(head);
    let mut random = fastrand::Rng::with_seed(seed);
    let tensors: Vec<Tensors> = spec.heads.iter().map(|head| random_tensors(head, 4.0, &mut random)).collect();
    let worst = differences(&run_variant(gpu, &spec, &tensors, 1.0, variant), &evaluate(&spec, &tensors, 1.0));
    let head = &spec.heads[0];
    assert!(
        worst.loss <= 2e-6 && worst.gradient <= 4e-6,
        "{}: {:?} {:?}: {worst:?}",
        gpu.name,
        head.shape,
        head.logits
    );
}

#[test]
fn channels_last_equals_the_reference_whatever_the_number_of_classes() {
    for gpu in all_gpus() {
        for variant in variants(&gpu) {
            for (classes, seed) in CLASSES.into_iter().zip(0..) {
                // rows of a multiple of four voxels, and others: the last quad is not full
                let side = if seed % 2 == 0 { 7 } else { 6 };
                check(&gpu, head([2, classes, side, 2 * side]), variant, seed);
            }
        }
    }
}

#[test]
fn channels_last_has_every_type() {
    let gpu = gpu();
    for variant in variants(&gpu) {
        for float in [FloatType::F32, FloatType::F16, FloatType::Bf16] {
            for (classes, voxels) in [(3, 40), (3, 37), (16, 37), (14, 40)] {
                let head = head([3, classes, voxels]).logits(float);
                check(&gpu, head.probabilities(float), variant, 1);
            }
        }
    }
}

/// The reference is not asked: where an invocation holds all classes of a quad, the order of every sum is the same.
#[test]
fn both_formats_give_the_same_bits_where_a_quad_is_held_whole() {
    let gpu = gpu();
    for (classes, voxels) in [(2, 1000), (3, 1001), (4, 999), (6, 512)] {
        let last = head([2, classes, voxels]);
        let first = Head { memory_format: MemoryFormat::ContiguousFormat, ..last.clone() };
        let mut random = fastrand::Rng::with_seed(3);
        let tensors = random_tensors(&first, 4.0, &mut random);
        let place = |item: usize, class: usize, voxel: usize| (item * voxels + voxel) * classes + class;
        let permuted = |contiguous: &[f32]| {
            let mut values = vec![0.0; contiguous.len()];
            for (at, value) in contiguous.iter().enumerate() {
                values[place(at / voxels / classes, at / voxels % classes, at % voxels)] = *value;
            }
            values
        };
        let same = Tensors { logits: permuted(&tensors.logits), ..tensors.clone() };
        let first = run(&gpu, &LossSpec::new().head(first), &[tensors], 1.0);
        let last = run(&gpu, &LossSpec::new().head(last), &[same], 1.0);
        assert_eq!(last.report, first.report, "{classes} classes");
        assert_eq!(last.gradients[0], permuted(&first.gradients[0]), "{classes} classes");
    }
}

/// A place that holds no class repeats another one's logit, which may be one that the focal term drops, and far above the others.
#[test]
fn a_class_that_the_focal_term_drops_stays_out_of_its_softmax() {
    let gpu = gpu();
    let device = Variant::for_device(&gpu.device);
    let focal = Pixel::focal(2.0, Alpha::None);
    let (gamma, alpha, scalar_alpha) = (2.0.into(), Alpha::None, ScalarAlpha::FirstClass);
    let kind = PixelKind::Focal { gamma, alpha, scalar_alpha, include_background: false };
    let loss = Loss::new().pixel(Pixel { kind, ..focal });
    for classes in [3, 4, 5] {
        let spec = LossSpec::new().head(Head { loss: loss.clone(), ..head([2, classes, 37]) });
        let mut tensors = random_tensors(&spec.heads[0], 4.0, &mut fastrand::Rng::with_seed(7));
        tensors.logits.iter_mut().step_by(classes).for_each(|background| *background += 200.0);
        let variant = Variant { register_classes: 1, register_classes_last: 2, split_classes: 2, ..device };
        let expected = evaluate(&spec, std::slice::from_ref(&tensors), 1.0);
        let worst = differences(&run_variant(&gpu, &spec, &[tensors], 1.0, variant), &expected);
        assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{classes} classes: {worst:?}");
    }
}
