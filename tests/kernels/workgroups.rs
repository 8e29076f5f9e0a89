//! Workgroups of one subgroup and of many, with subgroup operations and without: the barriers between invocations
//! suffice.

use segloss::{Head, Loss, LossSpec, Overlap, Pixel, Variant};

use crate::common::{differences, evaluate, gpu, random_tensors, run_variant};

/// Classes held by one invocation, split over several, and streamed; labels with and without smoothing and class
/// weights.
fn spec() -> LossSpec {
    let smoothed = || Pixel::cross_entropy().label_smoothing(0.1);
    let both = |pixel: Pixel| Loss::new().overlap(Overlap::dice()).pixel(pixel);
    LossSpec::new()
        .head(Head::new([2, 3, 41, 13], both(smoothed())).ignore_index(255))
        .head(Head::new([2, 3, 1030], both(smoothed().class_weights([0.5, 1.0, 2.0]))))
        .head(Head::new([3, 6, 700], both(smoothed())))
}

#[test]
fn workgroups_of_any_size_equal_the_reference() {
    let gpu = gpu();
    let default = Variant::for_device(&gpu.device);
    let spec = spec();
    let mut random = fastrand::Rng::with_seed(83);
    let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let expected = evaluate(&spec, &tensors, 1.0);
    for subgroups in if default.subgroups { vec![false, true] } else { vec![false] } {
        for (invocations, split_classes) in [(2, 3), (4, 0), (16, 3), (64, 3), (64, 0), (128, 2), (256, 3)] {
            let variant = Variant {
                invocations,
                fold_invocations: invocations,
                tile: 4 * invocations,
                register_classes: 3,
                register_classes_last: 3,
                split_classes,
                chunk: 2,
                subgroups,
                heads_per_dispatch: 1,
                ..default
            };
            let worst = differences(&run_variant(&gpu, &spec, &tensors, 1.0, variant), &expected);
            assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{variant:?}: {worst:?}");
        }
    }
}
