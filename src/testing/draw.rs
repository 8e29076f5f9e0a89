//! Random specifications: every kind of term, target, mask and output, in shapes of a few hundred logits.

use crate::spec::{
    Activation, Alpha, ClassWeighting, Empty, FloatType, Form, HardCounts, Head, LabelType, Loss, LossSpec,
    MemoryFormat, Overlap, OverlapKind, Pixel, PixelKind, Product, Reduction, ScalarAlpha, Target,
};
use crate::testing::Tensors;
use proptest::collection::vec;
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

fn overlap(classes: usize) -> impl Strategy<Value = Overlap> {
    let forms = vec![Form::OneMinus, Form::OneMinus, Form::Negative, Form::Log { eps: 1e-7 }, Form::Log { eps: 0.3 }];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), select(forms), any::<bool>());
    let smooth = select(vec![(1e-5_f32, 1e-5_f32), (1.0, 2.0), (0.0, 1e-3)]);
    let floor = option::of(select(vec![1e-8_f32, 5.0]));
    let weightings = vec![ClassWeighting::Square, ClassWeighting::Simple, ClassWeighting::Uniform];
    let kind = prop_oneof![
        3 => Just(OverlapKind::Dice),
        2 => Just(OverlapKind::Jaccard),
        1 => (0.1_f32..1.0, 0.1_f32..1.0).prop_map(|(alpha, beta)| OverlapKind::Tversky { alpha, beta }),
        1 => select(weightings).prop_map(|class_weighting| OverlapKind::GeneralizedDice { class_weighting }),
    ];
    (kind, flags, any::<[bool; 2]>(), smooth, floor, weights(classes), any::<bool>(), weight()).prop_map(
        move |(
            kind,
            (include, batch, squared, form, present),
            [minimum, ignore_single],
            smooth,
            floor,
            weights,
            summed,
            weight,
        )| {
            let first_class = usize::from(!include && classes > 1);
            let generalized = matches!(kind, OverlapKind::GeneralizedDice { .. });
            let squared = squared && matches!(kind, OverlapKind::Dice | OverlapKind::Jaccard);
            Overlap {
                kind,
                include_background: include,
                batch,
                squared,
                smooth_nr: smooth.0,
                smooth_dr: smooth.1,
                denominator_floor: floor,
                class_weights: weights.filter(|_| !generalized).map(|w| w[first_class..].to_vec()),
                ignore_single_class_weight: ignore_single,
                reduction: if summed { Reduction::Sum } else { Reduction::Mean },
                form,
                product: if minimum && !squared { Product::Minimum } else { Product::Product },
                present_classes_only: present && !generalized,
                weight,
            }
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
    let focal = (select(vec![0.0_f32, 0.5, 1.0, 2.0, 3.5]), alpha, select(scalar_alphas), any::<bool>());
    prop_oneof![
        2 => Just(PixelKind::CrossEntropy),
        1 => select(vec![20.0_f64, 50.0, 100.0]).prop_map(|k_percent| PixelKind::TopKCrossEntropy { k_percent }),
        1 => weights(classes).prop_map(|pos_weight| PixelKind::BinaryCrossEntropy { pos_weight }),
        2 => focal.prop_map(move |(gamma, alpha, scalar_alpha, include_background)| {
            let first_class = usize::from(!include_background && classes > 1);
            let alpha = match alpha {
                Alpha::PerClass(alpha) => Alpha::PerClass(alpha[first_class..].to_vec()),
                other => other,
            };
            PixelKind::Focal { gamma, alpha, scalar_alpha, include_background }
        }),
    ]
}

fn pixel(classes: usize) -> impl Strategy<Value = Pixel> {
    let smoothing = select(vec![0.0_f32, 0.1, 0.5, 1.0]);
    let reductions = vec![Reduction::Mean, Reduction::Sum, Reduction::SumOfItemMeans];
    (pixel_kind(classes), smoothing, weights(classes), select(reductions), any::<bool>(), weight()).prop_map(
        move |(kind, label_smoothing, class_weights, reduction, over_voxels, weight)| {
            let top_k = matches!(kind, PixelKind::TopKCrossEntropy { .. });
            let of_classes = matches!(kind, PixelKind::BinaryCrossEntropy { .. } | PixelKind::Focal { .. });
            let (smoothed, weighted, first_class) = match kind {
                PixelKind::BinaryCrossEntropy { .. } => (true, false, 0),
                PixelKind::Focal { include_background, .. } => {
                    (false, true, usize::from(!include_background && classes > 1))
                }
                _ => (true, true, 0),
            };
            Pixel {
                kind,
                label_smoothing: if smoothed { label_smoothing } else { 0.0 },
                class_weights: class_weights.filter(|_| weighted).map(|w| w[first_class..].to_vec()),
                reduction: if top_k && reduction == Reduction::SumOfItemMeans { Reduction::Mean } else { reduction },
                mean_over_voxels: of_classes && over_voxels,
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
            PixelKind::CrossEntropy | PixelKind::TopKCrossEntropy { .. } if classes == 1 => {
                pixel.kind = PixelKind::BinaryCrossEntropy { pos_weight: None };
                pixel.class_weights = None;
            }
            PixelKind::Focal { alpha, include_background, .. } if softmax && classes == 2 && !*include_background => {
                *include_background = true;
                // class weights and α were drawn for one class
                pixel.class_weights = None;
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
        (Just(shape), loss(classes), (target, select(floats), formats), masks, (ignore, outputs), weight()).prop_map(
            |(
                shape,
                loss,
                ((target, resample), logits, memory_format),
                (mask, weight_map, sample_mask),
                asked,
                weight,
            )| {
                let (ignore_index, (hard_counts, unreduced, check_finite)) = asked;
                let holds = |label: &i64| matches!(target, Target::Labels(labels) if labels.range().contains(label));
                let ignore_index = ignore_index.filter(holds);
                let mut loss = loss;
                if let Some(Pixel { kind: PixelKind::TopKCrossEntropy { k_percent }, .. }) = &mut loss.pixel
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
