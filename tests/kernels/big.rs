//! Big shapes against the f64 reference.

use segloss::{Activation, Head, LabelType, Loss, LossSpec, Overlap, Pixel};

use crate::common::{self, Tensors, all_gpus, differences, evaluate, gpu, random_tensors, run};

/// The bound that the crate documents for its main shape.
const BOUND: f64 = 2e-6;

fn check(spec: &LossSpec, seed: u64, bound: f64) {
    let gpu = gpu();
    let mut random = fastrand::Rng::with_seed(seed);
    let tensors: Vec<Tensors> = spec.heads.iter().map(|head| random_tensors(head, 4.0, &mut random)).collect();
    let worst = differences(&run(&gpu, spec, &tensors, 1.0), &evaluate(spec, &tensors, 1.0));
    println!("{}: {:?}: {worst:?}", gpu.name, spec.heads[0].shape);
    assert!(worst.loss <= bound && worst.gradient <= bound, "{worst:?}");
}

fn smoothed() -> Loss {
    Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1))
}

#[test]
fn two_items_of_four_classes_of_128_cubed_voxels() {
    check(&LossSpec::new().head(Head::new([2, 4, 128, 128, 128], smoothed())), 1, BOUND);
}

#[test]
fn a_row_of_2_to_the_24_plus_3_voxels() {
    // more than one storage binding where its limit is 128 MiB; no row but the first starts at a multiple of 16 bytes
    let voxels = (1 << 24) + 3;
    check(&LossSpec::new().head(Head::new([1, 2, voxels], smoothed()).labels(LabelType::U16)), 2, BOUND);
}

#[test]
fn many_classes() {
    for (classes, side) in [(17, 40), (24, 32), (105, 32), (256, 24), (600, 13)] {
        let spec = LossSpec::new().head(Head::new([2, classes, side, side, side], smoothed()).labels(LabelType::U16));
        check(&spec, 3, BOUND);
    }
}

#[test]
fn more_workgroups_than_a_dimension_holds() {
    // tiles of 32 voxels, so that a tensor of 66,000 tiles is small
    let gpu = gpu();
    let variant = segloss::Variant { invocations: 8, tile: 32, ..segloss::Variant::for_device(&gpu.device) };
    let spec = LossSpec::new().head(Head::new([2, 2, 33_000 * 32], smoothed()));
    let mut random = fastrand::Rng::with_seed(4);
    let tensors = vec![random_tensors(&spec.heads[0], 4.0, &mut random)];
    let result = common::run_variant(&gpu, &spec, &tensors, 1.0, variant);
    let worst = differences(&result, &evaluate(&spec, &tensors, 1.0));
    assert!(worst.loss <= BOUND && worst.gradient <= BOUND, "{worst:?}");
}

#[test]
fn odd_shapes_on_every_adapter() {
    for gpu in all_gpus() {
        for shape in
            [vec![1, 1, 1], vec![3, 2, 1], vec![1, 3], vec![2, 5, 7, 11, 13], vec![1, 2, 65_537], vec![5, 19, 3, 1, 9]]
        {
            // a softmax over one class is refused
            let regions = Loss::new().overlap(Overlap::dice()).pixel(Pixel::binary_cross_entropy());
            let sigmoid = Loss { activation: Activation::Sigmoid, ..regions };
            let loss = if shape[1] == 1 { sigmoid } else { smoothed() };
            let spec = LossSpec::new().head(Head::new(shape.clone(), loss));
            let mut random = fastrand::Rng::with_seed(5);
            let tensors = vec![random_tensors(&spec.heads[0], 4.0, &mut random)];
            let worst = differences(&run(&gpu, &spec, &tensors, 1.0), &evaluate(&spec, &tensors, 1.0));
            assert!(worst.loss <= BOUND && worst.gradient <= 4e-6, "{}: {shape:?}: {worst:?}", gpu.name);
        }
    }
}

/// Mesa's software driver ends the loops of a shader after 65,535 iterations in all.
#[test]
fn many_items_and_many_streamed_classes_are_all_counted() {
    for gpu in all_gpus() {
        for shape in [vec![70_000, 2, 3], vec![20_000, 14, 1], vec![3, 2, 70_001], vec![1, 3000, 515]] {
            let spec = LossSpec::new().head(Head::new(shape, smoothed()).labels(LabelType::U16));
            let tensors = vec![random_tensors(&spec.heads[0], 4.0, &mut fastrand::Rng::with_seed(6))];
            let worst = differences(&common::run(&gpu, &spec, &tensors, 1.0), &evaluate(&spec, &tensors, 1.0));
            assert!(worst.loss <= BOUND && worst.gradient <= BOUND, "{}: {worst:?}", gpu.name);
        }
    }
}
