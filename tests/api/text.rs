//! A specification as JSON and TOML.

use segloss::{
    Absent, Activation, Alpha, ClassWeighting, FloatType, HardCounts, Head, LabelType, Loss, LossSpec, MeanOver,
    Overlap, Pixel, Product, Reduction,
};

fn everything() -> LossSpec {
    let overlap = Overlap::tversky(0.3, 0.7).include_background(false).batch(true).class_weights([0.5, 2.0]);
    let focal = Pixel::focal(1.5, Alpha::PerClass(vec![0.25, 0.75])).mean_over(MeanOver::Voxels);
    let mcc = Overlap::mcc().classes([2, 0]).gamma([0.5, 0.75]).eps(1e-3).power_of_mean(0.5).absent(Absent::Zero);
    let regions = Loss { activation: Activation::Sigmoid, ..Loss::new().overlap(mcc) };
    let regions = regions.pixel(Pixel::focal([1.0, 2.0, 3.0], Alpha::None).reduction(Reduction::WeightedMean));
    let sigmoid = Loss { activation: Activation::Sigmoid, ..Loss::new().overlap(overlap).pixel(focal) };
    LossSpec::new()
        .head(Head::new([2, 4, 8, 8], Loss::nnunet_dc_ce()).labels(LabelType::I32).ignore_index(-1).resample([16, 16]))
        .head(Head::new([2, 3, 8], Loss::monai_generalized_dice()).weight(0.25).hard_counts(HardCounts::Item))
        .head(
            Head::new([1, 2, 5], sigmoid)
                .probabilities(FloatType::Bf16)
                .logits(FloatType::F16)
                .mask(true)
                .weight_map(true)
                .sample_mask(true)
                .unreduced(true)
                .check_finite(true),
        )
        .head(Head::new([1, 2], Loss::nnunet_dc_topk()).label_map([(0, Some(0)), (7, Some(1)), (9, None)]))
        .head(Head::new([1, 3, 4], regions).regions([(0, Some(vec![])), (1, Some(vec![0, 2])), (255, None)]))
        .head(Head::new(
            [1, 2, 3],
            Loss::new()
                .overlap(Overlap::generalized_dice(ClassWeighting::Simple).product(Product::Minimum))
                .pixel(Pixel::binary_cross_entropy_with([1.0, 3.0]).label_smoothing(0.1).reduction(Reduction::Sum)),
        ))
}

#[test]
fn json_and_toml_are_read_back_as_they_were() {
    let spec = everything();
    let json = serde_json::to_string(&spec).expect("written");
    assert_eq!(serde_json::from_str::<LossSpec>(&json).expect("read"), spec, "{json}");
    let toml = toml::to_string(&spec).expect("written");
    assert_eq!(toml::from_str::<LossSpec>(&toml).expect("read"), spec, "{toml}");
}

#[test]
fn what_is_left_out_is_what_the_builders_give() {
    let text = r#"
        [[heads]]
        shape = [2, 4, 64, 64]
        overlap = { kind = "dice", include_background = false, form = "negative", denominator_floor = 1e-8 }
        pixel = { kind = "cross_entropy" }

        [[heads]]
        shape = [2, 4, 32, 32]
        target = { kind = "labels", dtype = "u16", spatial = [64, 64], resample = "nearest-exact" }
        pixel = { kind = "focal", gamma = 2.0, alpha = 0.25 }
        weight = 0.5

        [[heads]]
        shape = [1, 2, 8]
        overlap = { present_classes_only = true }
        pixel = { kind = "top_k_cross_entropy", k_percent = 50.0 }
        [heads.target]
        kind = "labels"
        label_map = { 0 = 0, 3 = 1, 4 = "ignore" }

        [[heads]]
        shape = [1, 3, 8]
        activation = "sigmoid"
        target = { kind = "probabilities" }
        overlap = {}
    "#;
    let expected = LossSpec::new()
        .head(Head::new([2, 4, 64, 64], Loss::nnunet_dc_ce()))
        .head(
            Head::new([2, 4, 32, 32], Loss::new().pixel(Pixel::focal(2.0, Alpha::Scalar(0.25))))
                .labels(LabelType::U16)
                .resample([64, 64])
                .weight(0.5),
        )
        .head(
            Head::new(
                [1, 2, 8],
                Loss::new().overlap(Overlap::dice().absent(Absent::Skip)).pixel(Pixel::cross_entropy().k_percent(50.0)),
            )
            .label_map([(0, Some(0)), (3, Some(1)), (4, None)]),
        )
        .head(
            Head::new([1, 3, 8], Loss { activation: Activation::Sigmoid, ..Loss::monai_dice() })
                .probabilities(FloatType::F32),
        );
    assert_eq!(toml::from_str::<LossSpec>(text).expect("read"), expected);
}

#[test]
fn wrong_text_is_refused_by_name() {
    for (head, words) in [
        (r#""smooth": 1"#, "unknown field `smooth`"),
        (r#""overlap": {"kind": "dise"}"#, "unknown variant `dise`, expected one of `dice`"),
        (r#""overlap": {"kind": "tversky", "alpha": 0.5}"#, "overlap.beta: expected a value for tversky, got none"),
        (r#""overlap": {"kind": "dice", "beta": 0.5}"#, "overlap.beta: expected none for dice, got a value"),
        (r#""overlap": {"kind": "generalized_dice"}"#, "overlap.class_weighting: expected a value"),
        (r#""overlap": {"eps": 1e-3}"#, "overlap.eps: expected none for a term without a logarithm or a power"),
        (
            r#""overlap": {"absent": "skip", "present_classes_only": true}"#,
            "overlap.present_classes_only: expected none beside absent",
        ),
        (r#""pixel": {"kind": "cross_entropy", "gamma": 2}"#, "pixel.gamma: expected none for cross_entropy"),
        (r#""pixel": {"kind": "focal"}"#, "pixel.gamma: expected a value for focal, got none"),
        (r#""pixel": {"kind": "top_k_cross_entropy"}"#, "pixel.k_percent: expected a value"),
        (r#""pixel": {"reduction": "none"}"#, "unknown variant `none`"),
        (
            r#""target": {"kind": "labels", "dtype": "f16"}"#,
            "target.dtype: expected one of u8, u16, u32, i8, i16, i32, i64, got f16",
        ),
        (
            r#""target": {"kind": "labels", "label_map": {"one": 1}}"#,
            "target.label_map: expected labels, integers not below 0, got one",
        ),
        (r#""target": {"kind": "labels", "spatial": [4]}"#, "expected spatial and resample together"),
        (r#""dtype": "f64""#, "unknown variant `f64`"),
    ] {
        let text = format!(r#"{{"heads": [{{"shape": [1, 2, 8], {head}}}]}}"#);
        let error = serde_json::from_str::<LossSpec>(&text).expect_err(&text).to_string();
        assert!(error.contains(words), "{head}: {error}");
    }
}
