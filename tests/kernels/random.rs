//! Random specifications: the reference against finite differences, and the kernels against the reference.

use proptest::prelude::*;
use proptest::sample::select;
use segloss::host::HostResult;
use segloss::reference::Evaluation;
use segloss::{Activation, FloatType, Head, Loss, LossSpec, MemoryFormat, Pixel, Variant, pytorch_label_smoothing};

use crate::common::{Tensors, all_gpus, differences, evaluate, gpu, run, run_variant};
use crate::specs::{runner, spec, tensors, upstream};

const CASES: u32 = 24;
/// The step h of the finite differences: their error is h⁴ from the five-point formula and 1e-16 / h from rounding.
const H: f64 = 1e-5;

#[test]
fn the_references_gradient_is_its_finite_difference() {
    let strategy = (spec(1..3), 0.5_f32..3.0);
    // many trials, since they run on the CPU only
    runner(400)
        .run(&strategy, |((spec, seed), upstream)| {
            let tensors = tensors(&spec, seed);
            let analytic = evaluate(&spec, &tensors, upstream);
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..8 {
                let head = random.usize(0..spec.heads.len());
                let at = random.usize(0..tensors[head].logits.len());
                let total = |by: f64| {
                    let mut moved: Vec<_> = tensors.iter().map(Tensors::wide).collect();
                    moved[head].logits[at] += by;
                    let data: Vec<_> = moved.iter().map(Tensors::data).collect();
                    segloss::reference::evaluate(&spec, &data, 1.0).expect("evaluated").total
                };
                let difference = 8.0 * (total(H) - total(-H)) - (total(2.0 * H) - total(-2.0 * H));
                let numeric = f64::from(upstream) * difference / (12.0 * H);
                let given = analytic.heads[head].gradient[at];
                // the totals are off by a few units in the last place, and their difference is divided by h
                let rounding = 4.0 * f64::EPSILON * f64::from(upstream) * analytic.total.abs() / H;
                let bound = 1e-7 + rounding + 1e-6 * given.abs();
                prop_assert!((numeric - given).abs() <= bound, "{numeric} {given} {bound}");
            }
            Ok(())
        })
        .expect("holds");
}

fn near(given: &HostResult, expected: &Evaluation) -> Result<(), TestCaseError> {
    let worst = differences(given, expected);
    prop_assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{worst:?}");
    Ok(())
}

#[test]
fn the_kernels_equal_the_reference_in_the_middle_of_a_graph() {
    let gpu = gpu();
    runner(CASES)
        .run(&spec(1..4), |(spec, seed)| {
            let (tensors, upstream) = (tensors(&spec, seed), upstream(seed));
            near(&run(&gpu, &spec, &tensors, upstream), &evaluate(&spec, &tensors, upstream))
        })
        .expect("holds");
}

#[test]
fn every_variant_equals_the_reference() {
    let gpu = gpu();
    let default = Variant::for_device(&gpu.device);
    let variants = (
        select(vec![4_u32, 8, 16, 64, 128]),
        select(vec![1_u32, 3, 8]),
        (0..40_u32, 0..40_u32, 0..9_u32, 0..40_u32),
        (any::<bool>(), any::<bool>()),
        1..4_u32,
    );
    // hardly two of them share a kernel, and all of their heads are in one
    runner(CASES / 3)
        .run(
            &(spec(1..3), variants),
            |(
                (spec, seed),
                (
                    invocations,
                    chunk,
                    (register_classes, register_classes_last, split_classes, streamed_gradient),
                    (subgroups, wide),
                    steps,
                ),
            )| {
                let variant = Variant {
                    invocations,
                    chunk,
                    register_classes,
                    register_classes_last,
                    split_classes,
                    streamed_gradient,
                    wide,
                    subgroup_size: default.subgroup_size,
                    unchecked: chunk == 3,
                    heads_per_dispatch: if chunk == 1 { 1 } else { u32::MAX },
                    subgroups: subgroups && default.subgroups,
                    tile: 4 * invocations * steps,
                    fold_invocations: 32,
                };
                let tensors = tensors(&spec, seed);
                near(&run_variant(&gpu, &spec, &tensors, 1.0, variant), &evaluate(&spec, &tensors, 1.0))
            },
        )
        .expect("holds");
}

#[test]
fn every_adapter_equals_the_reference() {
    for gpu in all_gpus() {
        runner(8)
            .run(&spec(1..4), |(spec, seed)| {
                let tensors = tensors(&spec, seed);
                near(&run(&gpu, &spec, &tensors, 1.0), &evaluate(&spec, &tensors, 1.0))
            })
            .unwrap_or_else(|error| panic!("{}: {error}", gpu.name));
    }
}

#[test]
fn smoothings_two_conventions_agree_at_the_converted_epsilon() {
    // ε/(C−1) to each wrong class and 1−ε to the right one, written out for one voxel
    let (classes, epsilon) = (5_u8, 0.2_f64);
    let logits = [0.3_f64, -1.0, 2.0, 0.1, 0.7];
    let label = 2;
    let ln_sum = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
    let wrong = epsilon / f64::from(classes - 1);
    let expected: f64 =
        logits.iter().enumerate().map(|(k, z)| -(if k == label { 1.0 - epsilon } else { wrong }) * (z - ln_sum)).sum();
    let pixel = Pixel::cross_entropy().label_smoothing_wrong_only(0.2, classes.into());
    assert!((f64::from(pixel.label_smoothing) - 0.25).abs() < 1e-7, "{}", pixel.label_smoothing);
    let spec = LossSpec::new().head(Head::new([1, classes.into()], Loss::new().pixel(pixel)));
    let logits = logits.iter().map(|&z| {
        #[expect(clippy::cast_possible_truncation, reason = "a logit is f32")]
        let z = z as f32;
        z
    });
    let tensors = [Tensors { logits: logits.collect(), labels: vec![2], ..Tensors::default() }];
    let total = run(&gpu(), &spec, &tensors, 1.0).report.total;
    assert!((f64::from(total) - expected).abs() < 1e-6, "{total} {expected}");
    assert!(pytorch_label_smoothing(0.5, 1).abs() < f32::EPSILON);
}

#[test]
fn ten_runs_are_equal_bit_for_bit() {
    for gpu in all_gpus() {
        let spec = LossSpec::new()
            .head(Head::new([2, 4, 33, 31, 29], Loss::monai_dice_ce()))
            .head(Head::new([2, 40, 17, 19], Loss::nnunet_dc_ce()).ignore_index(255));
        let tensors = tensors(&spec, 11);
        let first = run(&gpu, &spec, &tensors, 1.0);
        for _ in 1..10 {
            let again = run(&gpu, &spec, &tensors, 1.0);
            assert_eq!(again.report.total.to_bits(), first.report.total.to_bits(), "{}", gpu.name);
            assert_eq!(again.report, first.report, "{}", gpu.name);
            assert_eq!(again.gradients, first.gradients, "{}", gpu.name);
        }
    }
}

#[test]
fn large_logits_and_shared_offsets_stay_exact() {
    for gpu in all_gpus() {
        for (offset, spread) in [(8192.0_f32, 3.0), (0.0, 65504.0), (-8192.0, 3.0), (65504.0, 0.0), (1e6, 1e4)] {
            let spec = LossSpec::new()
                .head(Head::new([1, 3, 64], Loss::new().pixel(Pixel::cross_entropy().label_smoothing(0.1))))
                .head(Head::new([1, 20, 64], Loss::monai_dice_ce()));
            let mut tensors = tensors(&spec, 13);
            for z in tensors.iter_mut().flat_map(|t| &mut t.logits) {
                *z = offset + *z / 3.0 * spread;
            }
            let worst = differences(&run(&gpu, &spec, &tensors, 1.0), &evaluate(&spec, &tensors, 1.0));
            assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {offset} {spread}: {worst:?}", gpu.name);
        }
    }
}

/// The tensors of a head with items and voxels in another order.
fn permuted(head: &Head, tensors: &Tensors, order: &[usize], items: &[usize]) -> Tensors {
    fn rows<T: Copy>(values: &[T], channels: usize, order: &[usize], items: &[usize]) -> Vec<T> {
        let (voxels, all) = (order.len(), values.is_empty());
        let places = items.iter().flat_map(|&n| (0..channels).map(move |c| (n * channels + c) * voxels));
        if all { Vec::new() } else { places.flat_map(|row| order.iter().map(move |&v| values[row + v])).collect() }
    }
    let classes = |values: &[f32]| {
        if head.memory_format == MemoryFormat::ContiguousFormat {
            return rows(values, head.classes(), order, items);
        }
        // a voxel is a row of classes
        let voxels = items.iter().flat_map(|&n| order.iter().map(move |&v| n * order.len() + v));
        let of_voxel = |voxel: usize| values.chunks(head.classes()).nth(voxel).unwrap_or_default().to_vec();
        voxels.flat_map(of_voxel).collect()
    };
    Tensors {
        logits: classes(&tensors.logits),
        labels: rows(&tensors.labels, 1, order, items),
        probabilities: classes(&tensors.probabilities),
        mask: rows(&tensors.mask, 1, order, items),
        weight_map: rows(&tensors.weight_map, 1, order, items),
        sample_mask: rows(&tensors.sample_mask, 1, &[0], items),
    }
}

/// One head whose results do not depend on the order of voxels.
fn placeless_spec() -> impl Strategy<Value = (LossSpec, u64)> {
    spec(1..4).prop_map(|(mut spec, seed)| {
        spec.heads.truncate(1);
        spec.heads[0].resample = None;
        (spec, seed)
    })
}

#[test]
fn the_order_of_voxels_and_samples_does_not_matter() {
    let gpu = gpu();
    runner(CASES)
        .run(&placeless_spec(), |(spec, seed)| {
            let tensors = tensors(&spec, seed);
            let head = &spec.heads[0];
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut order, mut items): (Vec<_>, Vec<_>) = ((0..head.voxels()).collect(), (0..head.items()).collect());
            random.shuffle(&mut order);
            random.shuffle(&mut items);
            let moved = [permuted(head, &tensors[0], &order, &items)];
            let (first, second) = (run(&gpu, &spec, &tensors, 1.0), run(&gpu, &spec, &moved, 1.0));
            let (a, b) = (first.report.total, second.report.total);
            prop_assert!((a - b).abs() <= 2e-6 * a.abs().max(1.0), "{a} {b}");
            let counts = |result: &HostResult| result.report.heads[0].hard_counts.clone();
            prop_assert_eq!(counts(&first), counts(&second));
            let gradient = Tensors { logits: first.gradients[0].clone(), ..Tensors::default() };
            let expected = permuted(head, &gradient, &order, &items).logits;
            let largest = expected.iter().fold(0.0_f32, |a, g| a.max(g.abs()));
            // the rounding to the gradient's type may go up in one and down in the other
            let step = match head.logits {
                FloatType::F32 => 8e-6,
                FloatType::F16 => 1e-3,
                FloatType::Bf16 => 8e-3,
            };
            for (x, e) in second.gradients[0].iter().zip(&expected) {
                prop_assert!((x - e).abs() <= step * largest.max(1e-3), "{x} {e} {largest}");
            }
            Ok(())
        })
        .expect("holds");
}

#[test]
fn a_voxel_that_does_not_count_has_a_gradient_of_zero() {
    let gpu = gpu();
    runner(CASES)
        .run(&placeless_spec(), |(spec, seed)| {
            let tensors = tensors(&spec, seed);
            let head = &spec.heads[0];
            let out_of = |mask: &[u8], at: usize| mask.get(at) == Some(&0);
            let gradient = &run(&gpu, &spec, &tensors, 1.0).gradients[0];
            for (at, dz) in gradient.iter().enumerate() {
                let (classes, voxels) = (head.classes(), head.voxels());
                let item = at / (classes * voxels);
                let voxel = match head.memory_format {
                    MemoryFormat::ContiguousFormat => at % voxels,
                    MemoryFormat::ChannelsLast => at / classes % voxels,
                };
                let place = item * head.voxels() + voxel;
                let ignored = head.ignore_index.is_some() && tensors[0].labels.get(place) == head.ignore_index.as_ref();
                if ignored || out_of(&tensors[0].mask, place) || out_of(&tensors[0].sample_mask, item) {
                    prop_assert_eq!(dz.to_bits() & 0x7fff_ffff, 0, "voxel {} of item {}: {}", voxel, item, dz);
                }
            }
            Ok(())
        })
        .expect("holds");
}

#[test]
fn a_plan_of_many_heads_is_as_many_plans_of_one() {
    let gpu = gpu();
    runner(CASES)
        .run(&spec(1..4), |(spec, seed)| {
            let tensors = tensors(&spec, seed);
            let together = run(&gpu, &spec, &tensors, 1.0);
            for (index, head) in spec.heads.iter().enumerate() {
                let alone = LossSpec { heads: vec![head.clone()] };
                let apart = run(&gpu, &alone, &tensors[index..=index], 1.0);
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&apart.gradients[0]), bits(&together.gradients[index]));
                prop_assert_eq!(&apart.voxel_losses[0], &together.voxel_losses[index]);
                // compared as text, since some numbers are NaN, where no voxel of a class counts
                let text = |report: &segloss::HeadReport| format!("{report:?}");
                prop_assert_eq!(text(&apart.report.heads[0]), text(&together.report.heads[index]));
            }
            Ok(())
        })
        .expect("holds");
}

/// Logits up to the ends of f16, and ten thousand times the usual spread in f32: results are finite and right.
#[test]
fn every_term_stays_finite_and_right_at_extreme_logits() {
    let gpu = gpu();
    runner(CASES)
        .run(&placeless_spec(), |(mut spec, seed)| {
            let float = spec.heads[0].logits;
            let spread = match float {
                FloatType::F16 => 65504.0_f32,
                FloatType::F32 => 3e4,
                FloatType::Bf16 => 1e6,
            };
            if spec.heads[0].loss.activation == Activation::None {
                // without an activation the logits would be probabilities, which cannot have such a spread
                spec.heads[0].loss.activation = Activation::Sigmoid;
            }
            let mut tensors = tensors(&spec, seed);
            let mut random = fastrand::Rng::with_seed(seed);
            for z in &mut tensors[0].logits {
                *z = match random.u8(0..4) {
                    0 => spread,
                    1 => -spread,
                    _ => *z,
                };
            }
            let bytes = segloss::host::float_bytes(&tensors[0].logits, float);
            let elements = tensors[0].logits.len();
            tensors[0].logits = segloss::host::floats_of_bytes(&bytes, float)[..elements].to_vec();
            let given = run(&gpu, &spec, &tensors, 1.0);
            prop_assert!(given.report.total.is_finite());
            prop_assert!(given.gradients[0].iter().all(|g| g.is_finite()));
            near(&given, &evaluate(&spec, &tensors, 1.0))
        })
        .expect("holds");
}
