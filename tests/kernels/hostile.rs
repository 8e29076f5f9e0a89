//! Extreme numbers: NaN, infinities, denormals, the ends of f32, labels of all bit patterns, masks of garbage. Voxels
//! that do not count have no effect; the results of the others are right as far as f32 can represent them.

use segloss::host::{self, HostResult};
use segloss::{
    Activation, Alpha, ClassWeighting, FloatType, Head, LabelType, Loss, LossSpec, Overlap, Pixel, Target, Variant,
};

use crate::common::{Gpu, Tensors, all_gpus, differences, evaluate, random_tensors, run, run_variant};

/// A NaN of either sign and of several payloads, an infinity, an end of f32, a denormal, a zero, or any bits at all.
fn hostile(random: &mut fastrand::Rng) -> f32 {
    match random.u8(0..8) {
        0 => f32::from_bits(0x7fc0_0000 | random.u32(..) & 0x803f_ffff),
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => f32::MAX,
        4 => f32::MIN,
        5 => f32::from_bits(random.u32(..) & 0x807f_ffff),
        6 => -0.0,
        _ => f32::from_bits(random.u32(..)),
    }
}

/// Every kind of term, with every activation that it may have.
fn losses(classes: usize) -> Vec<Loss> {
    #[expect(clippy::cast_precision_loss, reason = "few classes")]
    let weights: Vec<f32> = (0..classes).map(|c| 0.5 + c as f32 / classes as f32).collect();
    let sigmoid = |loss: Loss| Loss { activation: Activation::Sigmoid, ..loss };
    let weighted = Pixel::cross_entropy().class_weights(weights.clone());
    vec![
        Loss::monai_dice_ce(),
        Loss::new().pixel(Pixel::cross_entropy().label_smoothing(0.1)),
        Loss::new().overlap(Overlap::jaccard().squared(true)).pixel(weighted.clone()),
        Loss::new().pixel(weighted.label_smoothing(0.1)),
        Loss::nnunet_dc_topk(),
        Loss::new().overlap(Overlap::generalized_dice(ClassWeighting::Uniform)).pixel(Pixel::focal(2.0, Alpha::None)),
        Loss::new().pixel(Pixel::focal(0.5, Alpha::PerClass(weights))),
        sigmoid(Loss::new().overlap(Overlap::tversky(0.3, 0.7)).pixel(Pixel::binary_cross_entropy())),
        sigmoid(Loss::new().pixel(Pixel::focal(2.0, Alpha::Scalar(0.25)))),
    ]
}

/// Class counts that are held by an invocation, split over several, and streamed.
fn variants(gpu: &Gpu) -> [(usize, Variant); 3] {
    let default = Variant::for_device(&gpu.device);
    let split = Variant { register_classes: 2, register_classes_last: 3, split_classes: 3, ..default };
    let streamed = Variant { register_classes: 2, register_classes_last: 2, split_classes: 0, chunk: 2, ..default };
    [(3, default), (5, split), (5, streamed)]
}

/// Losses, each with a variant and its number of classes: every loss streamed, and held by one invocation or by
/// several. The last two compute alike and a driver's compiler takes most of the time, so losses alternate between
/// them.
fn trials(gpu: &Gpu) -> Vec<(usize, Variant, Loss)> {
    let [held, split, streamed] = variants(gpu);
    let registers = [held, split].into_iter().cycle();
    let of = |(classes, variant): (usize, Variant), at: usize| (classes, variant, losses(classes).swap_remove(at));
    let all = 0..losses(3).len();
    all.clone().zip(registers).map(|(at, held)| of(held, at)).chain(all.map(|at| of(streamed, at))).collect()
}

/// The bits of a result: NaN is the same as itself.
fn bits(result: &HostResult) -> (String, Vec<u32>, Vec<u32>) {
    let of = |values: &Vec<f32>| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let losses = result.voxel_losses.iter().flatten().flat_map(of).collect();
    (format!("{:?}", result.report), result.gradients.iter().flat_map(of).collect(), losses)
}

/// Whether the voxel with this index over all items counts.
fn counts(head: &Head, tensors: &Tensors, at: usize) -> bool {
    let is = |mask: &[u8], at: usize| mask.get(at).is_none_or(|&m| m != 0);
    let labelled = matches!(head.target, Target::Probabilities(_)) || tensors.labels[at] < 200;
    labelled && is(&tensors.mask, at) && is(&tensors.sample_mask, at / head.voxels())
}

#[test]
fn what_a_voxel_holds_that_does_not_count_changes_no_bit() {
    for gpu in all_gpus() {
        for (number, (classes, variant, loss)) in trials(&gpu).into_iter().enumerate() {
            let head = Head::new([3, classes, 5, 13], loss.clone());
            let masked = head.clone().mask(true).sample_mask(true).weight_map(true).unreduced(true);
            // a loss has one of them in each of its two trials
            let three = [head.ignore_index(255).unreduced(true), masked.clone(), masked.probabilities(FloatType::F32)];
            let one = (number + number / losses(3).len()) % three.len();
            let spec = LossSpec { heads: vec![three[one].clone()] };
            let mut random = fastrand::Rng::with_seed(100 + number as u64);
            let mut tensors: Vec<_> = spec.heads.iter().map(|h| random_tensors(h, 3.0, &mut random)).collect();
            // labels outside the classes do not count either
            if spec.heads[0].ignore_index.is_some() {
                tensors[0].labels.iter_mut().step_by(7).for_each(|label| *label = 254);
            }
            let plan = gpu.plans.with_variant(&spec, variant).expect("the plan is made");
            let run = |tensors: &[Tensors]| {
                let host: Vec<_> = tensors.iter().map(Tensors::data).collect();
                bits(&host::run(&plan, &host, 1.0).expect("the step runs"))
            };
            let expected = run(&tensors);
            let mut changed = 0;
            for (head, tensors) in spec.heads.iter().zip(&mut tensors) {
                let voxels = head.voxels();
                let out: Vec<_> = (0..head.items() * voxels).filter(|&at| !counts(head, tensors, at)).collect();
                changed += out.len();
                for at in out {
                    let row = |c: usize| (at / voxels * classes + c) * voxels + at % voxels;
                    for c in 0..classes {
                        tensors.logits[row(c)] = hostile(&mut random);
                        if let Some(t) = tensors.probabilities.get_mut(row(c)) {
                            *t = hostile(&mut random);
                        }
                    }
                    if let Some(weight) = tensors.weight_map.get_mut(at) {
                        *weight = hostile(&mut random);
                    }
                }
            }
            assert!(changed > 40);
            assert!(run(&tensors) == expected, "{}: {classes} classes: {loss:?}", gpu.name);
        }
    }
}

#[test]
fn labels_of_all_bit_patterns_are_classes_or_counted_out_of_range() {
    let mut random = fastrand::Rng::with_seed(3);
    let edges = [0, 1, 4, 5, 127, 128, 255, 256, 32_767, 65_535, 65_536, 1 << 31, (1 << 31) - 1, u32::MAX];
    let words: Vec<u32> = edges.into_iter().chain((0..498).map(|_| random.u32(..))).collect();
    let signed: Vec<i64> = words.iter().map(|&word| word.cast_signed().into()).collect();
    // labels 0 to 6, two in three with random bits in the high word
    let long = (0..512).map(|label| if label % 3 == 0 { label % 7 } else { (random.i64(..) << 32) | (label % 7) });
    let edges =
        [-1, -7, i64::MIN, i64::MAX, i32::MIN.into(), i32::MAX.into(), 1 << 31, 1 << 32, -(1 << 32), -(1 << 31) + 1];
    let long: Vec<i64> = long.chain(edges).collect();
    let cases: [(LabelType, Vec<i64>, Vec<Option<i64>>); 8] = [
        (LabelType::U8, (0..512).map(|label| label % 256).collect(), vec![None, Some(255), Some(3)]),
        (LabelType::U16, (0..65_536).collect(), vec![None, Some(65_535)]),
        (LabelType::U32, words.into_iter().map(i64::from).collect(), vec![None, Some(1 << 31), Some(u32::MAX.into())]),
        (LabelType::I8, (0..512).map(|label| label % 256 - 128).collect(), vec![None, Some(-1), Some(-128), Some(3)]),
        (LabelType::I16, (-32_768..32_768).collect(), vec![None, Some(-1), Some(-32_768)]),
        (LabelType::I32, signed, vec![None, Some(-1), Some(i32::MIN.into())]),
        // rows of a multiple of 4, and others
        (LabelType::I64, long[10..].to_vec(), vec![None, Some(-1)]),
        (LabelType::I64, long, vec![None, Some(-1), Some(i32::MAX.into()), Some(-7)]),
    ];
    for gpu in all_gpus() {
        for (label_type, labels, ignored) in &cases {
            for ignore_index in ignored {
                let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy());
                let mut head = Head::new([2, 5, labels.len() / 2], loss).labels(*label_type);
                head.ignore_index = *ignore_index;
                let mut tensors = random_tensors(&head, 3.0, &mut random);
                tensors.labels.clone_from(labels);
                let spec = LossSpec::new().head(head);
                let expected = evaluate(&spec, std::slice::from_ref(&tensors), 1.0);
                let worst = differences(&run(&gpu, &spec, &[tensors], 1.0), &expected);
                let what = format!("{}: {label_type:?}, ignoring {ignore_index:?}", gpu.name);
                assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{what}: {worst:?}");
            }
        }
    }
}

#[test]
fn masks_of_garbage_count_where_they_are_not_zero() {
    for gpu in all_gpus() {
        let mut random = fastrand::Rng::with_seed(5);
        let head = Head::new([3, 3, 7, 11], Loss::monai_dice_ce()).mask(true).sample_mask(true);
        let mut tensors = random_tensors(&head, 3.0, &mut random);
        tensors.mask.iter_mut().for_each(|m| *m = if random.bool() { random.u8(..) } else { 0 });
        tensors.sample_mask = vec![0x80, 0, 0xff];
        let spec = LossSpec::new().head(head);
        let expected = evaluate(&spec, std::slice::from_ref(&tensors), 1.0);
        let worst = differences(&run(&gpu, &spec, &[tensors], 1.0), &expected);
        assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {worst:?}", gpu.name);
    }
}

/// Whether f32 can represent a number of the reference.
fn holds(x: f64) -> bool {
    x.abs() <= f64::from(f32::MAX)
}

fn is_top_k(loss: &Loss) -> bool {
    loss.pixel.as_ref().is_some_and(|pixel| pixel.k_percent.is_some())
}

/// Ordinary logits, and among them the ends of f32 and denormals.
fn extreme_logits(head: &Head, random: &mut fastrand::Rng) -> Tensors {
    let mut tensors = random_tensors(head, 3.0, random);
    for z in &mut tensors.logits {
        *z = match random.u8(0..10) {
            0 => f32::MAX,
            1 => f32::MIN,
            2 => 3e38,
            3 => -3e38,
            4 => 1e-40,
            5 => -f32::from_bits(1),
            _ => *z,
        };
    }
    // two voxels whose logits are all at an end of f32
    for row in tensors.logits.chunks_mut(head.voxels()) {
        (row[0], row[1]) = (f32::MIN, f32::MAX);
    }
    tensors
}

#[test]
fn finite_logits_up_to_the_ends_of_f32_give_the_references_losses_and_gradients() {
    for gpu in all_gpus() {
        for ((classes, variant, loss), seed) in trials(&gpu).into_iter().zip(200..) {
            let head = Head::new([1, classes, 163], loss.clone()).unreduced(true).check_finite(true);
            let tensors = extreme_logits(&head, &mut fastrand::Rng::with_seed(seed));
            let spec = LossSpec::new().head(head);
            let given = run_variant(&gpu, &spec, std::slice::from_ref(&tensors), 1.0, variant);
            let expected = &evaluate(&spec, std::slice::from_ref(&tensors), 1.0).heads[0];
            let what = format!("{}: {classes} classes: {loss:?}", gpu.name);
            if let Some(overlap) = given.report.heads[0].overlap {
                assert!((f64::from(overlap.value) - expected.overlap).abs() <= 4e-6, "{what}: {overlap:?}");
            }
            let smoothed = loss.pixel.as_ref().is_some_and(|pixel| pixel.label_smoothing > 0.0);
            for (v, (&x, &e)) in given.voxel_losses[0].iter().flatten().zip(&expected.voxel_losses).enumerate() {
                let of = |c: usize| f64::from(tensors.logits[c * 163 + v]);
                let peak = (0..classes).map(of).fold(f64::MIN, f64::max);
                let apart: Vec<f64> = (0..classes).map(|c| peak - of(c)).collect();
                // where a logit is further below the largest than f32 can represent, a loss with a share of it is
                // infinite; a smoothed loss has a share of every logit
                let one_beyond = apart.iter().any(|&d| !holds(d)) && e > 1e37;
                let beyond = !holds(e) || one_beyond || smoothed && !holds(apart.iter().sum());
                let near = (f64::from(x) - e).abs() <= 4e-6 * e.abs().max(1.0);
                assert!(near || beyond && x == f32::INFINITY, "{what}: voxel {v}, {apart:?} below {peak}: {x}, {e}");
            }
            // losses beyond f32 are all infinite, and a top-k divides its gradient among equal losses
            if is_top_k(&loss) {
                assert!(given.gradients[0].iter().all(|dz| dz.is_finite()), "{what}");
                continue;
            }
            let largest = expected.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
            for (at, (&x, e)) in given.gradients[0].iter().zip(&expected.gradient).enumerate() {
                // a focal slope may itself be beyond f32
                let beyond = !holds(*e) || e.abs() > 1e30;
                let near = (f64::from(x) - e).abs() <= 4e-6 * largest.max(1e-3);
                assert!(near || beyond, "{what}: element {at}: got {x}, expected {e}, largest {largest}");
            }
        }
    }
}

#[test]
fn a_class_at_minus_infinity_is_a_class_that_cannot_be() {
    for gpu in all_gpus() {
        // a smoothed target has a share of every class, so its loss is infinite
        let unsmoothed = |loss: &Loss| loss.pixel.as_ref().is_none_or(|pixel| pixel.label_smoothing <= 0.0);
        let cannot_be = |loss: &Loss| loss.activation == Activation::Softmax && unsmoothed(loss);
        let trials = trials(&gpu).into_iter().filter(|(.., loss)| cannot_be(loss));
        for ((classes, variant, loss), seed) in trials.zip(300..) {
            let head = Head::new([2, classes, 33], loss.clone()).unreduced(true);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut tensors = [random_tensors(&head, 3.0, &mut random)];
            let mut far = tensors.clone();
            for at in 0..66 {
                let class = random.usize(0..classes);
                if tensors[0].labels[at] != i64::try_from(class).expect("few classes") {
                    let row = (at / 33 * classes + class) * 33 + at % 33;
                    tensors[0].logits[row] = f32::NEG_INFINITY;
                    far[0].logits[row] = -1e30;
                }
            }
            let spec = LossSpec::new().head(head);
            let [given, expected] =
                [&tensors, &far].map(|tensors| bits(&run_variant(&gpu, &spec, tensors, 1.0, variant)));
            assert!(given == expected, "{}: {classes} classes: {loss:?}", gpu.name);
            assert!(!expected.0.contains("NaN"), "{}: {loss:?}: {}", gpu.name, expected.0);
        }
    }
}

#[test]
fn a_nan_that_counts_is_seen() {
    for gpu in all_gpus() {
        for ((classes, variant, loss), seed) in trials(&gpu).into_iter().zip(400..) {
            let head = Head::new([1, classes, 37], loss.clone()).unreduced(true).check_finite(true);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut tensors = [random_tensors(&head, 3.0, &mut random)];
            let class = usize::try_from(tensors[0].labels[20]).expect("a class");
            tensors[0].logits[class * 37 + 20] = f32::NAN;
            let result = run_variant(&gpu, &LossSpec::new().head(head), &tensors, 1.0, variant);
            let seen = result.report.heads[0].non_finite.expect("it was asked for");
            assert_eq!(seen.logits, 1, "{}: {loss:?}", gpu.name);
            assert!(!result.report.total.is_finite() || seen.gradient, "{}: {loss:?}", gpu.name);
            // a top-k sorts NaN above any number, as torch.topk does
            let pixel = result.report.heads[0].pixel.map_or(f32::NAN, |term| term.value);
            assert!(pixel.is_nan() || !is_top_k(&loss), "{}: {loss:?}: {pixel}", gpu.name);
        }
    }
}
