//! Voxels that do not count: ignored ones, and those with a label out of range.

use segloss::testing::Tensors;
use segloss::{Empty, Head, LabelType, Loss, LossSpec, Overlap, Pixel};

use crate::common::{self, gpu, run};

#[test]
fn labels_out_of_range_count_nowhere_and_are_reported() {
    let gpu = gpu();
    let types = [
        (LabelType::U8, 200),
        (LabelType::U16, 65_535),
        (LabelType::U32, 1 << 31),
        (LabelType::I8, -7),
        (LabelType::I16, -300),
        (LabelType::I32, -7),
        (LabelType::I64, -7),
        (LabelType::I64, 1 << 32),
    ];
    // many classes are held otherwise, whatever the type of the labels
    let few = types.map(|(labels, strange)| (labels, strange, 3));
    let many = [types[0], types[7]].map(|(labels, strange)| (labels, strange, 30));
    for (labels, strange, classes) in few.into_iter().chain(many) {
        let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().class_weights(vec![1.5; classes]));
        let head = Head::new([2, classes, 5, 37], loss).labels(labels).ignore_index(1);
        let spec = LossSpec::new().head(head.clone());
        let mut tensors = vec![common::random_tensors(&head, 3.0, &mut fastrand::Rng::with_seed(41))];
        for at in [185 + 50, 185 + 184, 369] {
            tensors[0].labels[at] = strange;
        }
        let result = run(&gpu, &spec, &tensors, 1.0);
        let worst = common::differences(&result, &common::evaluate(&spec, &tensors, 1.0));
        assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{labels:?}: {worst:?}");
        let first = result.report.heads[0].first_out_of_range.expect("there is one");
        assert_eq!((result.report.heads[0].out_of_range, first.item, first.voxel), (2, 1, 50));
    }
}

#[test]
fn ignored_voxels_have_zero_gradient_whatever_their_logits() {
    let gpu = gpu();
    for classes in [4, 20] {
        let head = Head::new([1, classes, 64], Loss::monai_dice_ce()).ignore_index(255);
        let mut tensors = vec![common::random_tensors(&head, 3.0, &mut fastrand::Rng::with_seed(43))];
        let ignored: Vec<usize> = (0..64).filter(|v| tensors[0].labels[*v] == 255).collect();
        assert!(ignored.len() > 5);
        for &voxel in &ignored {
            tensors[0].logits[voxel] = f32::NAN;
        }
        let result = run(&gpu, &LossSpec::new().head(head), &tensors, 1.0);
        assert!(result.report.total.is_finite());
        for c in 0..classes {
            assert!(ignored.iter().all(|v| result.gradients[0][c * 64 + v].to_bits() << 1 == 0));
        }
    }
}

#[test]
fn all_voxels_ignored_is_zero_or_nan_as_chosen() {
    let gpu = gpu();
    for (empty, expected) in [(Empty::Zero, Some(0.0_f32)), (Empty::Nan, None)] {
        let loss = Loss::new().pixel(Pixel::cross_entropy().empty(empty).label_smoothing(0.1));
        let spec = LossSpec::new().head(Head::new([1, 3, 16], loss).ignore_index(9));
        let tensors = [Tensors { logits: vec![0.5; 48], labels: vec![9; 16], ..Tensors::default() }];
        let result = run(&gpu, &spec, &tensors, 1.0);
        match expected {
            Some(zero) => assert!((result.report.total - zero).abs() < f32::EPSILON),
            None => assert!(result.report.total.is_nan()),
        }
        assert!(result.gradients[0].iter().all(|g| *g == 0.0));
        assert_eq!((result.report.heads[0].counted, result.report.heads[0].ignored), (0, 16));
        assert!(result.report.heads[0].soft_dice.iter().all(|dice| dice.is_nan()));
    }
}
