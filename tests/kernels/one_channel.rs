//! One channel with labels: 0 is the background and 1 the class, as in a binary mask.

use segloss::host::HostResult;
use segloss::{Activation, Alpha, FloatType, HardCounts, Head, LabelType, Loss, LossSpec, Overlap, Pixel, Reduction};

use crate::common::{Gpu, Tensors, all_gpus, differences, evaluate, gpu, run};

/// Every term that one channel may have.
fn losses() -> Vec<Loss> {
    let sigmoid = |loss: Loss| Loss { activation: Activation::Sigmoid, ..loss };
    let dice = || Loss::new().overlap(Overlap::dice());
    vec![
        sigmoid(dice().pixel(Pixel::binary_cross_entropy().label_smoothing(0.1))),
        sigmoid(Loss::new().overlap(Overlap::jaccard().squared(true)).pixel(Pixel::focal(2.0, Alpha::Scalar(0.25)))),
        sigmoid(Loss::new().overlap(Overlap::tversky(0.3, 0.7).include_background(false).batch(true))),
        sigmoid(Loss::new().pixel(Pixel::binary_cross_entropy_with([2.5]).reduction(Reduction::SumOfItemMeans))),
        Loss { activation: Activation::None, ..dice() },
        Loss::new().pixel(Pixel::binary_cross_entropy()),
    ]
}

/// Logits of these voxels; probabilities where the loss has no activation.
fn logits(loss: &Loss, elements: usize, random: &mut fastrand::Rng) -> Vec<f32> {
    let p = loss.activation == Activation::None;
    (0..elements).map(|_| if p { random.f32() } else { 6.0 * random.f32() - 3.0 }).collect()
}

fn given(gpu: &Gpu, head: Head, tensors: Tensors) -> HostResult {
    let spec = LossSpec::new().head(head);
    let tensors = [tensors];
    let result = run(gpu, &spec, &tensors, 1.0);
    let worst = differences(&result, &evaluate(&spec, &tensors, 1.0));
    assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {worst:?}: {spec:?}", gpu.name);
    result
}

#[test]
fn labels_0_and_1_are_the_probabilities_0_and_1() {
    for gpu in all_gpus() {
        for (number, loss) in losses().into_iter().enumerate() {
            // rows of a multiple of 4, and others. A type is read in the same way for every loss, so the first loss has
            // all types and the others one each
            for (odd, voxels) in [64, 37].into_iter().enumerate() {
                let mine = |at: usize| number == 0 || at % losses().len() == number;
                if number > 0 && number % 2 != odd {
                    continue;
                }
                let mut random = fastrand::Rng::with_seed(1 + number as u64);
                let head = Head::new([3, 1, voxels], loss.clone());
                let logits = logits(&loss, 3 * voxels, &mut random);
                let labels: Vec<i64> = (0..3 * voxels).map(|_| random.i64(0..2)).collect();
                #[expect(clippy::cast_precision_loss, reason = "0 and 1")]
                let probabilities = labels.iter().map(|&label| label as f32).collect();
                let dense = Tensors { logits: logits.clone(), probabilities, ..Tensors::default() };
                let expected = given(&gpu, head.clone().probabilities(FloatType::F32), dense);
                let types = LabelType::ALL.into_iter().enumerate().filter(|(at, _)| mine(*at));
                for (_, label_type) in types {
                    let tensors = Tensors { logits: logits.clone(), labels: labels.clone(), ..Tensors::default() };
                    let given = given(&gpu, head.clone().labels(label_type), tensors);
                    // within the rounding of a product that only one of the two texts has
                    let near = |x: f32, e: f32| (x - e).abs() <= 1e-6 * e.abs().max(1e-3);
                    let same = near(given.report.total, expected.report.total)
                        && given.gradients[0].iter().zip(&expected.gradients[0]).all(|(x, e)| near(*x, *e));
                    assert!(same, "{} {label_type:?} {loss:?}", gpu.name);
                }
            }
        }
    }
}

#[test]
fn ignored_voxels_and_labels_out_of_range_count_nowhere() {
    let gpu = gpu();
    for label_type in LabelType::ALL {
        let ignored = if label_type.range().contains(&-1) { -1 } else { 255 };
        let head = Head::new([1, 1, 6], losses()[0].clone()).labels(label_type).ignore_index(ignored);
        let labels = vec![1, 0, ignored, 2, 1, 100];
        let tensors = Tensors { logits: vec![0.5, -1.0, 2.0, 1.0, -0.25, 3.0], labels, ..Tensors::default() };
        let result = given(&gpu, head, tensors);
        let report = &result.report.heads[0];
        assert_eq!((report.counted, report.ignored, report.out_of_range), (3, 1, 2), "{label_type:?}");
        assert!([2, 3, 5].iter().all(|&v| result.gradients[0][v] == 0.0), "{label_type:?}");
        // label 0 has a gradient as well: it is the background, not out of range
        assert!(result.gradients[0][1] > 0.0, "{label_type:?}");
    }
    // the background may be the ignore label
    let head = Head::new([1, 1, 4], losses()[0].clone()).ignore_index(0);
    let tensors = Tensors { logits: vec![0.5; 4], labels: vec![0, 1, 0, 1], ..Tensors::default() };
    assert_eq!(given(&gpu, head, tensors).report.heads[0].counted, 2);
}

#[test]
fn hits_and_misses_of_one_channel_are_those_of_label_1() {
    let gpu = gpu();
    let head = Head::new([1, 1, 8], losses()[0].clone()).hard_counts(HardCounts::Item);
    // predicted: 1 1 1 1 0 0 0 0
    let logits = vec![1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0];
    let tensors = Tensors { logits, labels: vec![1, 1, 1, 0, 0, 0, 1, 1], ..Tensors::default() };
    let report = &given(&gpu, head, tensors).report.heads[0];
    let counts = report.hard_counts.as_ref().expect("asked for")[0];
    assert_eq!([counts.true_positives, counts.false_positives], [3, 1]);
    assert_eq!([counts.false_negatives, counts.true_negatives], [2, 2]);
}

#[test]
fn labels_of_another_resolution_are_read_as_of_one_channel() {
    let gpu = gpu();
    for label_type in LabelType::ALL {
        let head = Head::new([2, 1, 4, 4], losses()[0].clone()).labels(label_type).resample([8, 8]);
        let mut random = fastrand::Rng::with_seed(7);
        let labels: Vec<i64> = (0..128).map(|_| random.i64(0..2)).collect();
        let tensors = Tensors { logits: logits(&head.loss, 32, &mut random), labels, ..Tensors::default() };
        assert_eq!(given(&gpu, head, tensors).report.heads[0].out_of_range, 0);
    }
}
