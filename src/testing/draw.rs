//! Random specifications: every kind of term, target, mask and output, in shapes of a few hundred logits.

use crate::spec::{
    Absent, Activation, Alpha, Average, ClassValues, ClassWeighting, Empty, FloatType, Form, HardCounts, Head,
    LabelType, Loss, LossSpec, MeanOver, MemoryFormat, Overlap, OverlapKind, Pixel, PixelKind, Product, Reduction,
    ScalarAlpha, Target,
};
use std::collections::BTreeMap;

use crate::testing::Tensors;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn weights(classes: usize) -> impl Strategy<Value = Option<Vec<f32>>> {
    option::of(vec(0.1_f32..3.0, classes))
}

/// The weight of a head or a term: sometimes 0, which switches it off.
fn weight() -> impl Strategy<Value = f32> {
    prop_oneof![9 => 0.1_f32..2.0, 1 => Just(0.0)]
}

fn overlap_kind() -> impl Strategy<Value = OverlapKind> {
    let weightings = vec![ClassWeighting::Square, ClassWeighting::Simple, ClassWeighting::Uniform];
    prop_oneof![
        3 => Just(OverlapKind::Dice),
        2 => Just(OverlapKind::Jaccard),
        1 => (0.1_f32..1.0, 0.1_f32..1.0).prop_map(|(alpha, beta)| OverlapKind::Tversky { alpha, beta }),
        1 => select(weightings).prop_map(|class_weighting| OverlapKind::GeneralizedDice { class_weighting }),
        1 => select(vec![0.0_f32, 0.5, 3.0]).prop_map(|smooth_counts| OverlapKind::Mcc { smooth_counts }),
    ]
}

/// The form, its exponent, and the least that a logarithm or a power sees.
fn form(classes: usize) -> impl Strategy<Value = (Form, Option<ClassValues>, f32)> {
    let forms = vec![Form::OneMinus, Form::OneMinus, Form::Negative, Form::Identity, Form::Log, Form::LogCosh];
    let exponent = || select(vec![0.5_f32, 0.75, 1.0, 2.0]);
    let gamma = prop_oneof![
        3 => Just(None),
        1 => exponent().prop_map(|gamma| Some(ClassValues::Same(gamma))),
        1 => vec(exponent(), classes).prop_map(|gammas| Some(ClassValues::Each(gammas))),
    ];
    (select(forms), gamma, select(vec![1e-4_f32, 1e-3, 0.3]))
}

fn overlap(classes: usize) -> impl Strategy<Value = Overlap> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let smooth = select(vec![(1e-5_f32, 1e-5_f32), (1.0, 2.0), (0.0, 1e-3)]);
    let floor = option::of(select(vec![1e-8_f32, 5.0]));
    let absent = select(vec![Absent::Count, Absent::Count, Absent::Skip, Absent::Zero]);
    let reduction = select(vec![Reduction::Mean, Reduction::Mean, Reduction::WeightedMean, Reduction::Sum]);
    let power = option::weighted(0.2, select(vec![0.75_f32, 2.0]));
    // an order of all classes, of which some take part
    let order: Vec<u32> = (0..u32::try_from(classes).unwrap_or(u32::MAX)).collect();
    let listed = option::weighted(0.2, (Just(order).prop_shuffle(), 1..=classes));
    let of_classes = (listed, weights(classes), form(classes));
    (overlap_kind(), flags, (smooth, floor), of_classes, (absent, reduction, power), weight()).prop_map(
        move |(kind, flags, (smooth, floor), (listed, weights, (form, gamma, eps)), of_rows, weight)| {
            let (include, batch, squared, minimum, ignore_single, micro) = flags;
            let (absent, reduction, power_of_mean) = of_rows;
            let is_mcc = matches!(kind, OverlapKind::Mcc { .. });
            let average = if micro && !is_mcc { Average::Micro } else { Average::Macro };
            let squared = squared && !is_mcc;
            // an ignored weight apart, a list per class is as long as the classes that take part
            let listed = listed.map(|(order, count)| order[..count].to_vec());
            let include_background = include || listed.is_some();
            let first_class = usize::from(!include_background && classes > 1);
            let taking_part = listed.as_ref().map_or(classes - first_class, Vec::len);
            let mut overlap = Overlap {
                kind,
                include_background,
                classes: listed,
                batch,
                squared,
                smooth_nr: smooth.0,
                smooth_dr: smooth.1,
                denominator_floor: floor,
                class_weights: weights.map(|w| w[..taking_part].to_vec()),
                ignore_single_class_weight: ignore_single,
                reduction,
                average,
                form,
                gamma: match gamma {
                    Some(ClassValues::Each(gammas)) => Some(ClassValues::Each(gammas[..taking_part].to_vec())),
                    other => other,
                },
                eps,
                product: if minimum && !squared { Product::Minimum } else { Product::Product },
                absent,
                power_of_mean,
                weight,
            };
            let has_power = !matches!(form, Form::Negative | Form::Identity);
            if !has_power || overlap.is_micro() && matches!(overlap.gamma, Some(ClassValues::Each(_))) {
                overlap.gamma = None;
            }
            if overlap.is_micro() {
                overlap.absent = Absent::Count;
            }
            overlap
        },
    )
}

fn pixel_kind(classes: usize) -> impl Strategy<Value = PixelKind> {
    let alpha = prop_oneof![
        Just(Alpha::None),
        (0.1_f32..0.9).prop_map(Alpha::Scalar),
        vec(0.1_f32..0.9, classes).prop_map(Alpha::PerClass)
    ];
    let scalar_alphas = vec![ScalarAlpha::FirstClass, ScalarAlpha::IgnoredWithoutBackground];
    let exponent = || select(vec![0.0_f32, 0.5, 1.0, 2.0, 3.5]);
    let gamma = prop_oneof![
        2 => exponent().prop_map(ClassValues::Same),
        1 => vec(exponent(), classes).prop_map(ClassValues::Each),
    ];
    let focal = (gamma, alpha, select(scalar_alphas), any::<bool>());
    prop_oneof![
        3 => Just(PixelKind::CrossEntropy),
        1 => (-0.9_f32..3.0).prop_map(|epsilon| PixelKind::PolyCrossEntropy { epsilon }),
        1 => (0.1_f32..=1.0).prop_map(|q| PixelKind::GeneralizedCrossEntropy { q }),
        1 => weights(classes).prop_map(|pos_weight| PixelKind::BinaryCrossEntropy { pos_weight }),
        2 => focal.prop_map(move |(gamma, alpha, scalar_alpha, include_background)| {
            let first_class = usize::from(!include_background && classes > 1);
            let alpha = match alpha {
                Alpha::PerClass(alpha) => Alpha::PerClass(alpha[first_class..].to_vec()),
                other => other,
            };
            let gamma = match gamma {
                ClassValues::Each(gammas) => ClassValues::Each(gammas[first_class..].to_vec()),
                same @ ClassValues::Same(_) => same,
            };
            PixelKind::Focal { gamma, alpha, scalar_alpha, include_background }
        }),
    ]
}

fn pixel(classes: usize) -> impl Strategy<Value = Pixel> {
    let smoothing = select(vec![0.0_f32, 0.1, 0.5, 1.0]);
    let reductions = vec![Reduction::Mean, Reduction::WeightedMean, Reduction::Sum, Reduction::SumOfItemMeans];
    let means = select(vec![MeanOver::Valid, MeanOver::Valid, MeanOver::Voxels, MeanOver::All]);
    let top_k = option::weighted(0.25, select(vec![20.0_f64, 50.0, 100.0]));
    let terms = (select(reductions), means, top_k, weight());
    (pixel_kind(classes), smoothing, weights(classes), terms).prop_map(
        move |(kind, label_smoothing, class_weights, (reduction, mean_over, k_percent, weight))| {
            let (smoothed, weighted, first_class) = match kind {
                PixelKind::BinaryCrossEntropy { .. } => (true, false, 0),
                PixelKind::Focal { include_background, .. } => {
                    (false, true, usize::from(!include_background && classes > 1))
                }
                _ => (true, true, 0),
            };
            let k_percent = k_percent.filter(|_| kind.is_cross_entropy());
            let is_taken = match reduction {
                Reduction::SumOfItemMeans => k_percent.is_none(),
                Reduction::WeightedMean => matches!(kind, PixelKind::Focal { .. }),
                Reduction::Mean | Reduction::Sum => true,
            };
            Pixel {
                kind,
                label_smoothing: if smoothed { label_smoothing } else { 0.0 },
                class_weights: class_weights.filter(|_| weighted).map(|w| w[first_class..].to_vec()),
                k_percent,
                reduction: if is_taken { reduction } else { Reduction::Mean },
                mean_over: if k_percent.is_some() { MeanOver::Valid } else { mean_over },
                weight,
                empty: Empty::Zero,
            }
        },
    )
}

fn loss(classes: usize) -> impl Strategy<Value = Loss> {
    let terms = prop_oneof![
        overlap(classes).prop_map(|o| Loss::new().overlap(o)),
        pixel(classes).prop_map(|p| Loss::new().pixel(p)),
        (overlap(classes), pixel(classes)).prop_map(|(o, p)| Loss::new().overlap(o).pixel(p)),
    ];
    let activations = vec![Activation::Softmax, Activation::Softmax, Activation::Sigmoid, Activation::None];
    (terms, select(activations)).prop_map(|(loss, activation)| {
        let focal = matches!(&loss.pixel, Some(Pixel { kind: PixelKind::Focal { .. }, .. }));
        let activation = if focal && activation == Activation::None { Activation::Sigmoid } else { activation };
        Loss { activation, ..loss }
    })
}

/// Replaces what would be a softmax over one class, which is refused.
fn several_classes(mut head: Head) -> Head {
    let classes = head.classes();
    let softmax = head.loss.activation == Activation::Softmax;
    if let Some(pixel) = &mut head.loss.pixel {
        match &mut pixel.kind {
            kind if kind.is_cross_entropy() && classes == 1 => {
                pixel.kind = PixelKind::BinaryCrossEntropy { pos_weight: None };
                pixel.class_weights = None;
                pixel.k_percent = None;
            }
            PixelKind::Focal { gamma, alpha, include_background, .. }
                if softmax && classes == 2 && !*include_background =>
            {
                *include_background = true;
                // class weights, γ and α were drawn for one class
                pixel.class_weights = None;
                *gamma = gamma.at(0).into();
                if let Alpha::PerClass(_) = alpha {
                    *alpha = Alpha::None;
                }
            }
            _ => {}
        }
    }
    if classes == 1 && softmax {
        head.loss.activation = Activation::Sigmoid;
    }
    head
}

type Tables = (Option<BTreeMap<u32, Option<u32>>>, Option<BTreeMap<u32, Option<Vec<u32>>>>);

/// No label table, a map, or regions. Every type holds the labels.
fn label_tables(classes: usize) -> impl Strategy<Value = Tables> {
    let most = u32::try_from(classes).unwrap_or(u32::MAX);
    let map = btree_map(0..100_u32, option::weighted(0.9, 0..most.max(2)), 1..6_usize);
    let regions = btree_map(0..100_u32, option::weighted(0.9, vec(0..most, 0..4)), 1..6_usize);
    prop_oneof![
        4 => Just((None, None)),
        1 => map.prop_map(|map| (Some(map), None)),
        1 => regions.prop_map(|regions| (None, Some(regions))),
    ]
}

fn head() -> impl Strategy<Value = Head> {
    let shape = (1..4_usize, prop_oneof![3 => 1..8_usize, 1 => 15..40_usize], vec(1..9_usize, 0..4));
    shape.prop_flat_map(|(items, classes, spatial)| {
        let axes = spatial.len();
        let shape: Vec<usize> = [items, classes].into_iter().chain(spatial).collect();
        let types = select(LabelType::ALL.to_vec());
        let floats = vec![FloatType::F32, FloatType::F32, FloatType::F16, FloatType::Bf16];
        let masks = (any::<bool>(), any::<bool>(), any::<bool>());
        let counts = select(vec![HardCounts::None, HardCounts::Batch, HardCounts::Item]);
        let formats = select(vec![MemoryFormat::ContiguousFormat, MemoryFormat::ChannelsLast]);
        let outputs = (counts, any::<bool>(), any::<bool>());
        let target = prop_oneof![
            2 => (types.clone(), Just(None)).prop_map(|(labels, resample)| (Target::Labels(labels), resample)),
            1 => (types, vec(1..12_usize, axes)).prop_map(|(labels, there)| (Target::Labels(labels), Some(there))),
            2 => select(floats.clone()).prop_map(|float| (Target::Probabilities(float), None)),
        ];
        let ignore = option::of(select(vec![0_i64, 255, -1]));
        let tables = label_tables(classes);
        (Just(shape), loss(classes), (target, tables, select(floats), formats), masks, (ignore, outputs), weight())
            .prop_map(
                |(
                    shape,
                    loss,
                    ((target, resample), (label_map, regions), logits, memory_format),
                    (mask, weight_map, sample_mask),
                    asked,
                    weight,
                )| {
                    let (ignore_index, (hard_counts, unreduced, check_finite)) = asked;
                    let holds =
                        |label: &i64| matches!(target, Target::Labels(labels) if labels.range().contains(label));
                    let ignore_index = ignore_index.filter(holds);
                    let mut loss = loss;
                    if let Some(Pixel { k_percent: Some(k_percent), .. }) = &mut loss.pixel
                        && shape.iter().product::<usize>() < 5 * shape[1]
                    {
                        // enough for one voxel
                        *k_percent = 100.0;
                    }
                    several_classes(Head {
                        logits,
                        memory_format,
                        target,
                        resample,
                        label_map: label_map.filter(|_| matches!(target, Target::Labels(_))),
                        regions: regions.filter(|_| matches!(target, Target::Labels(_))),
                        mask,
                        weight_map,
                        sample_mask,
                        ignore_index,
                        hard_counts,
                        unreduced,
                        check_finite,
                        ..Head::new(shape, loss).weight(weight)
                    })
                },
            )
    })
}

/// A specification with a number of heads in this range, and a seed for its tensors.
pub fn spec(heads: std::ops::Range<usize>) -> impl Strategy<Value = (LossSpec, u64)> {
    (vec(head(), heads).prop_map(|heads| LossSpec { heads }), any::<u64>())
}

/// Random tensors of a specification. The logits of a head without activation are probabilities.
#[must_use]
pub fn tensors(spec: &LossSpec, seed: u64) -> Vec<Tensors> {
    let heads = spec.heads.iter().zip((0..).map(|index| seed.wrapping_add(index)));
    heads
        .map(|(head, seed)| {
            let mut tensors = Tensors::random(head, 3.0, seed);
            if head.loss.activation == Activation::None {
                tensors.logits.iter_mut().for_each(|z| *z = z.abs() / 4.0);
            }
            tensors
        })
        .collect()
}
