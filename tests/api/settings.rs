//! Every wrong setting is refused with the head, its name, what was expected and what was given.

use segloss::{
    Absent, Activation, Alpha, Average, ClassWeighting, Error, FloatType, Form, HardCounts, Head, LabelType, Loss,
    LossSpec, MeanOver, Overlap, Pixel, PixelKind, Product, Reduction,
};

fn refusal(head: Head) -> String {
    let good = Head::new([1, 2, 4], Loss::monai_dice_ce());
    let spec = LossSpec::new().head(good).head(head);
    let error = spec.validate().expect_err(&format!("{:?}", spec.heads[1].loss));
    assert!(matches!(error, Error::Spec { head: 1, .. }), "{error:?}");
    error.to_string()
}

fn with_pixel(pixel: Pixel) -> Head {
    Head::new([1, 3, 4], Loss::new().pixel(pixel))
}

/// A focal term that drops class 0 before the activation.
fn without_background(mut pixel: Pixel) -> Pixel {
    let PixelKind::Focal { include_background, .. } = &mut pixel.kind else { unreachable!("used with focal alone") };
    *include_background = false;
    pixel
}

fn with_overlap(overlap: Overlap) -> Head {
    Head::new([1, 3, 4], Loss::new().overlap(overlap))
}

/// Each head is refused with these words.
fn refused(cases: &[(Head, &str)]) {
    for (head, words) in cases {
        assert_eq!(&refusal(head.clone()), words);
    }
}

#[test]
fn wrong_settings_of_a_head_are_refused_by_name() {
    let ce = Pixel::cross_entropy;
    refused(&[
        (Head::new([3], Loss::monai_dice_ce()), "head 1: shape: expected at least two axes, [N, C, *spatial], got [3]"),
        (Head::new([1, 0, 4], Loss::monai_dice_ce()), "head 1: shape: expected at least one class, got [1, 0, 4]"),
        (Head::new([0, 2, 4], Loss::monai_dice_ce()), "head 1: shape: expected no axis of length 0, got [0, 2, 4]"),
        (
            Head::new([1, (1 << 24) + 1], Loss::monai_dice_ce()),
            "head 1: shape: expected at most 16777216 classes, got [1, 16777217]",
        ),
        (Head::new([1, 2, 0], Loss::monai_dice_ce()), "head 1: shape: expected no axis of length 0, got [1, 2, 0]"),
        (
            Head::new([1, 2, 4], Loss::new()),
            "head 1: loss: expected an overlap term, a pixel term, or both, got neither",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).weight(-1.0),
            "head 1: weight: expected a finite number, not negative, got -1",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).ignore_index(1 << 40),
            "head 1: ignore_index: expected a label of u8, 0 to 255, got 1099511627776",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).ignore_index(-1),
            "head 1: ignore_index: expected a label of u8, 0 to 255, got -1",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).labels(LabelType::I64).ignore_index(i64::from(i32::MIN)),
            "head 1: ignore_index: expected a label of i64, -2147483647 to 2147483647, got -2147483648",
        ),
        (
            Head::new([1, 300, 4], Loss::monai_dice_ce()),
            "head 1: target: expected a label type that names 300 classes, got u8",
        ),
        (
            Head::new([1, 129, 4], Loss::monai_dice_ce()).labels(LabelType::I8),
            "head 1: target: expected a label type that names 129 classes, got i8",
        ),
        (
            Head::new([1, 1, 4], Loss::monai_dice()),
            "head 1: activation: expected sigmoid or none for one class, of which the softmax is always 1, got softmax",
        ),
        (
            Head::new([1, 1, 4], Loss::new().pixel(Pixel::focal(2.0, Alpha::None))).probabilities(FloatType::F32),
            "head 1: activation: expected sigmoid or none for one class, of which the softmax is always 1, got softmax",
        ),
        (
            Head::new([1, 1, 4], Loss::new().pixel(Pixel::binary_cross_entropy())).hard_counts(HardCounts::Batch),
            "head 1: activation: expected sigmoid or none for one class, of which the softmax is always 1, got softmax",
        ),
        (
            Head::new([1, 2, 4, 4], Loss::monai_dice_ce()).resample([8]),
            "head 1: resample: expected 2 axes of at least one voxel, as the logits, got [8]",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).probabilities(FloatType::F32).resample([8]),
            "head 1: resample: expected none, since the target is probabilities, got [8]",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).probabilities(FloatType::F32).ignore_index(3),
            "head 1: ignore_index: expected none, since the target is probabilities, got 3",
        ),
        (
            with_pixel(ce()).label_map([(5, Some(3))]),
            "head 1: label_map: expected a class below 3 of each label, got 3 of label 5",
        ),
        (
            with_pixel(ce()).regions([(3, Some(vec![0, 5]))]),
            "head 1: regions: expected channels below 3 of each label, got 5 of label 3",
        ),
        (
            with_pixel(ce()).label_map([(3, Some(1))]).regions([(3, None)]),
            "head 1: label_map: expected none beside regions, got a table",
        ),
        (with_pixel(ce()).label_map([]), "head 1: label_map: expected at least one label, got an empty table"),
        (with_pixel(ce()).label_map([(256, None)]), "head 1: label_map: expected labels that u8 holds, got 256"),
        (
            with_pixel(ce()).labels(LabelType::I32).label_map([(65_536, None)]),
            "head 1: label_map: expected labels up to 65535, got 65536",
        ),
        (
            with_pixel(ce()).probabilities(FloatType::F32).regions([(1, None)]),
            "head 1: regions: expected none, since the target is probabilities, got a table",
        ),
    ]);
    assert_eq!(LossSpec::new().validate(), Err(Error::NoHeads));
}

#[test]
fn wrong_settings_of_an_overlap_term_are_refused_by_name() {
    refused(&[
        (
            with_overlap(Overlap::dice().reduction(Reduction::SumOfItemMeans)),
            "head 1: overlap.reduction: expected mean, weighted_mean or sum: the others are of pixel terms, got sum_of_item_means",
        ),
        (
            with_overlap(Overlap::dice().include_background(false).class_weights([1.0; 3])),
            "head 1: overlap.class_weights: expected 2 weights, one per class that takes part, got 3 weights",
        ),
        (
            with_overlap(Overlap::dice().smooth(-1.0, 0.0)),
            "head 1: overlap.smooth_nr: expected a finite number, not negative, got -1",
        ),
        (
            with_overlap(Overlap::dice().smooth(0.0, f32::NAN)),
            "head 1: overlap.smooth_dr: expected a finite number, not negative, got NaN",
        ),
        (
            with_overlap(Overlap::dice().denominator_floor(-1e-8)),
            "head 1: overlap.denominator_floor: expected a finite number, not negative, got -0.00000001",
        ),
        (
            with_overlap(Overlap::dice().weight(f32::NAN)),
            "head 1: overlap.weight: expected a finite number, not negative, got NaN",
        ),
        (
            with_overlap(Overlap::tversky(-0.5, 0.5)),
            "head 1: overlap.alpha: expected a finite number, not negative, got -0.5",
        ),
        (with_overlap(Overlap::mcc().squared(true)), "head 1: overlap.squared: expected false, for mcc, got true"),
        (
            with_overlap(Overlap::dice().squared(true).product(Product::Minimum)),
            "head 1: overlap.squared: expected false, with the minimum as product, got true",
        ),
        (
            with_overlap(Overlap::mcc().average(Average::Micro)),
            "head 1: overlap.average: expected macro, for mcc, got micro",
        ),
        (
            with_overlap(Overlap::dice().average(Average::Micro).gamma([0.5, 0.5])),
            "head 1: overlap.gamma: expected one number, since no class axis is left, got a list",
        ),
        (
            with_overlap(Overlap::dice().form(Form::Negative).gamma(0.5)),
            "head 1: overlap.gamma: expected none: it is the exponent of one_minus, log or log_cosh, got an exponent",
        ),
        (
            with_overlap(Overlap::dice().gamma([0.5])),
            "head 1: overlap.gamma: expected one number, or 3, one per class that takes part, got 1 numbers",
        ),
        (
            with_overlap(Overlap::dice().power_of_mean(0.0)),
            "head 1: overlap.power_of_mean: expected a positive number that f32 holds in full, got 0",
        ),
        (
            with_overlap(Overlap::dice().form(Form::Log).eps(-1e-7)),
            "head 1: overlap.eps: expected a positive number that f32 holds in full, got -0.0000001",
        ),
        (
            with_overlap(Overlap::dice().classes([0, 3])),
            "head 1: overlap.classes: expected one class or more, each below 3, got [0, 3]",
        ),
        (
            with_overlap(Overlap::dice().classes([1, 1])),
            "head 1: overlap.classes: expected each class once, got [1, 1]",
        ),
        (
            with_overlap(Overlap::dice().classes([1]).include_background(false)),
            "head 1: overlap.include_background: expected true beside a list of classes, got false",
        ),
        (
            with_overlap(Overlap::generalized_dice(ClassWeighting::Square).absent(Absent::Skip)),
            "head 1: overlap.absent: expected count, since no class axis is left, got skip",
        ),
    ]);
}

#[test]
fn wrong_settings_of_a_pixel_term_are_refused_by_name() {
    let ce = Pixel::cross_entropy;
    refused(&[
        (
            Head::new([1, 1, 4], Loss::torch_cross_entropy()),
            "head 1: pixel.kind: expected binary_cross_entropy or a sigmoid focal for one class, of which the softmax is \
             always 1, got a softmax cross-entropy",
        ),
        (
            Head::new([1, 1, 4], Loss::new().pixel(Pixel::top_k_cross_entropy(50.0))),
            "head 1: pixel.kind: expected binary_cross_entropy or a sigmoid focal for one class, of which the softmax is \
             always 1, got a softmax cross-entropy",
        ),
        (
            Head::new([1, 2, 4], Loss::new().pixel(without_background(Pixel::focal(2.0, Alpha::None)))),
            "head 1: pixel.include_background: expected true for two classes, since the softmax of the one that is left is \
             always 1; alpha = [0, 1] leaves class 0 out after the softmax, got false",
        ),
        (
            with_pixel(Pixel::top_k_cross_entropy(50.0).reduction(Reduction::SumOfItemMeans)),
            "head 1: pixel.reduction: expected mean or sum, for a top-k of the batch, got sum_of_item_means",
        ),
        (with_pixel(ce().label_smoothing(1.5)), "head 1: pixel.label_smoothing: expected a number in [0, 1], got 1.5"),
        (
            with_pixel(ce().k_percent(50.0).mean_over(MeanOver::Voxels)),
            "head 1: pixel.mean_over: expected valid, for a top-k, whose mean is over k, got voxels",
        ),
        (
            with_pixel(Pixel::binary_cross_entropy().k_percent(50.0)),
            "head 1: pixel.k_percent: expected none, for binary_cross_entropy, got 50",
        ),
        (
            with_pixel(ce().reduction(Reduction::WeightedMean)),
            "head 1: pixel.reduction: expected mean, sum or sum_of_item_means, except for focal, got weighted_mean",
        ),
        (with_pixel(Pixel::generalized_cross_entropy(0.0)), "head 1: pixel.q: expected a number in (0, 1], got 0"),
        (
            with_pixel(Pixel::poly_cross_entropy(f32::INFINITY)),
            "head 1: pixel.epsilon: expected a finite number, got inf",
        ),
        (
            with_pixel(ce().label_smoothing(f32::NAN)),
            "head 1: pixel.label_smoothing: expected a number in [0, 1], got NaN",
        ),
        (
            with_pixel(ce().weight(f32::INFINITY)),
            "head 1: pixel.weight: expected a finite number, not negative, got inf",
        ),
        (
            with_pixel(ce().class_weights([1.0, 2.0])),
            "head 1: pixel.class_weights: expected 3 weights, one per class that takes part, got 2 weights",
        ),
        (
            with_pixel(ce().class_weights([1.0, -2.0, 1.0])),
            "head 1: pixel.class_weights: expected a finite number, not negative, got -2",
        ),
        (with_pixel(Pixel::top_k_cross_entropy(0.0)), "head 1: pixel.k_percent: expected a number in (0, 100], got 0"),
        (
            with_pixel(Pixel::top_k_cross_entropy(10.0)),
            "head 1: pixel.k_percent: expected enough for one voxel, got 10 of 4 voxels",
        ),
        (
            with_pixel(Pixel::binary_cross_entropy_with([1.0])),
            "head 1: pixel.pos_weight: expected 3 weights, one per class that takes part, got 1 weights",
        ),
        (
            with_pixel(Pixel::binary_cross_entropy().class_weights([1.0; 3])),
            "head 1: pixel.class_weights: expected none: binary_cross_entropy has pos_weight, got weights",
        ),
        (
            with_pixel(Pixel::focal(-1.0, Alpha::None)),
            "head 1: pixel.gamma: expected a finite number, not negative, got -1",
        ),
        (
            with_pixel(Pixel::focal(2.0, Alpha::Scalar(1.5))),
            "head 1: pixel.alpha: expected a number in [0, 1], got 1.5",
        ),
        (
            with_pixel(Pixel::focal(2.0, Alpha::None).label_smoothing(0.1)),
            "head 1: pixel.label_smoothing: expected 0, for focal, got 0.1",
        ),
    ]);
}

#[test]
fn a_softmax_over_one_class_is_taken_where_no_term_uses_it() {
    // a softmax Dice leaves the background out after the softmax, and binary cross-entropy has no softmax
    let dice = Loss::new().overlap(Overlap::dice().include_background(false));
    let regions = Loss { activation: Activation::Sigmoid, ..Loss::new().overlap(Overlap::dice()) };
    for head in [
        Head::new([1, 2, 4], dice),
        Head::new([1, 1, 4], Loss::new().pixel(Pixel::binary_cross_entropy())),
        Head::new([1, 1, 4], regions.clone().pixel(without_background(Pixel::focal(2.0, Alpha::None)))),
        Head::new([1, 2, 4], regions.pixel(without_background(Pixel::focal(2.0, Alpha::None)))),
        Head::new([1, 3, 4], Loss::new().pixel(without_background(Pixel::focal(2.0, Alpha::None)))),
        Head::new([1, 256, 4], Loss::monai_dice()),
        Head::new([1, 128, 4], Loss::monai_dice()).labels(LabelType::I8).ignore_index(-1),
    ] {
        assert_eq!(LossSpec::new().head(head).validate(), Ok(()));
    }
}
