//! Weights in a buffer of the caller's: they change between steps without a new plan, and the report has the total's
//! derivative by each.

use std::num::NonZeroU64;

use segloss::host::{HostResult, float_bytes, label_bytes};
use segloss::{
    Activation, Alpha, Empty, FloatType, Head, HeadTensors, LabelType, Loss, LossSpec, Overlap, Pixel, Plan, Scalars,
    Variant, wgpu,
};

use crate::common::{self, Buffers, Gpu, Tensors, all_gpus, download, random_tensors, storage};

/// A head with both terms, one with overlap alone, one with a pixel term alone; with these weights, three per head.
fn spec(weights: [f32; 9]) -> LossSpec {
    let losses = [Loss::monai_dice_ce(), Loss::monai_dice(), Loss::torch_cross_entropy()];
    let heads = losses.into_iter().zip(weights.chunks_exact(3)).map(|(mut loss, weights)| {
        if let Some(overlap) = &mut loss.overlap {
            overlap.weight = weights[1];
        }
        if let Some(pixel) = &mut loss.pixel {
            pixel.weight = weights[2];
        }
        Head::new([2, 3, 5, 7], loss).weight(weights[0])
    });
    LossSpec { heads: heads.collect() }
}

#[test]
fn weights_in_a_buffer_equal_those_of_a_specification() {
    for gpu in all_gpus() {
        let sets =
            [[1.0; 9], [0.7, 0.3, 1.7, 0.0, 2.0, 1.0, 0.25, 1.0, 3.0], [2.0, 0.0, 0.5, 1.5, 0.1, 0.0, 1.0, 0.0, 0.1]];
        let unweighted = spec([1.0; 9]);
        let mut random = fastrand::Rng::with_seed(53);
        let tensors: Vec<Tensors> =
            unweighted.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
        let buffers = Buffers::upload(&gpu, &unweighted, &tensors);
        // at an offset of an odd number of words
        let words = 13;
        let pool = storage(&gpu, &[0xff; 4 * (13 + 9)]);
        let plan = Plan::new(&gpu.device, &gpu.queue, &unweighted).expect("the plan is made");
        let binding = wgpu::BufferBinding { buffer: &pool, offset: 4 * words, size: NonZeroU64::new(4 * 9) };
        let scalars = Scalars { upstream: None, weights: Some(binding) };
        let step = plan.bind_with(&buffers.bindings(), &scalars).expect("the tensors are bound");
        for weights in sets {
            gpu.queue.write_buffer(&pool, 4 * words, bytemuck::cast_slice(&weights));
            let given = buffers.step(&gpu, &step);
            let expected = common::evaluate(&spec(weights), &tensors, 1.0);
            let worst = common::differences(&given, &expected);
            assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {weights:?}: {worst:?}", gpu.name);
        }
    }
}

#[test]
fn the_report_has_the_derivative_by_each_weight() {
    let gpu = common::gpu();
    let weights = [0.7, 0.3, 1.7, 0.5, 2.0, 1.0, 0.25, 1.0, 3.0];
    let mut random = fastrand::Rng::with_seed(59);
    let tensors: Vec<Tensors> = spec(weights).heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let report = common::run(&gpu, &spec(weights), &tensors, 1.0).report;
    for at in 0..9 {
        // the total is linear in each weight
        let mut moved = weights;
        moved[at] += 0.5;
        let slope = 2.0
            * (common::evaluate(&spec(moved), &tensors, 1.0).total
                - common::evaluate(&spec(weights), &tensors, 1.0).total);
        let head = &report.heads[at / 3];
        let given = [head.d_weight, head.d_overlap_weight, head.d_pixel_weight][at % 3];
        assert!((f64::from(given) - slope).abs() < 4e-6, "weight {at}: got {given}, expected {slope}");
    }
}

/// Losses with every way in which two terms are combined in a gradient; infinite logits make a part of each NaN.
fn two_terms() -> Vec<Loss> {
    let sigmoid = |loss: Loss| Loss { activation: Activation::Sigmoid, ..loss };
    let dice = || Loss::new().overlap(Overlap::dice().smooth(0.0, 0.0));
    vec![
        Loss::monai_dice_ce(),
        dice().pixel(Pixel::cross_entropy().label_smoothing(0.1).class_weights([1.0, 2.0, 3.0])),
        Loss::nnunet_dc_topk(),
        dice().pixel(Pixel::binary_cross_entropy()),
        dice().pixel(Pixel::focal(2.0, Alpha::None)),
        sigmoid(dice().pixel(Pixel::cross_entropy())),
        sigmoid(dice().pixel(Pixel::focal(2.0, Alpha::Scalar(0.25)))),
        Loss { activation: Activation::None, ..Loss::new().overlap(Overlap::dice().squared(true)) }
            .pixel(Pixel::binary_cross_entropy()),
        Loss { activation: Activation::None, ..dice() }.pixel(Pixel::cross_entropy()),
    ]
}

/// Variants with held, split and streamed classes.
fn variants(gpu: &Gpu) -> [Variant; 3] {
    let default = Variant::for_device(&gpu.device);
    let split = Variant { register_classes: 2, register_classes_last: 2, split_classes: 2, ..default };
    [default, split, Variant { register_classes: 2, register_classes_last: 2, split_classes: 0, chunk: 2, ..default }]
}

/// Losses, each with a variant: every loss streamed, and held by one invocation or by several. The last two compute
/// alike, so losses alternate between them. A driver's compiler takes most of the time, so all tests below have weight
/// maps, although only one is about them, and share kernels.
fn trials(gpu: &Gpu) -> Vec<(Variant, Loss)> {
    let [held, split, streamed] = variants(gpu);
    let registers = [held, split].into_iter().cycle().zip(two_terms());
    registers.chain(two_terms().into_iter().map(|loss| (streamed, loss))).collect()
}

fn result(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors], variant: Variant) -> HostResult {
    common::run_variant(gpu, spec, tensors, 1.0, variant)
}

fn zero(gradient: &[f32]) -> bool {
    gradient.iter().all(|dz| dz.to_bits() == 0)
}

#[test]
fn a_head_of_weight_0_adds_exactly_0_whatever_its_logits_hold() {
    for gpu in all_gpus() {
        for ((variant, loss), seed) in trials(&gpu).into_iter().zip(1..) {
            let mut random = fastrand::Rng::with_seed(seed);
            let on = Head::new([2, 3, 37], Loss::monai_dice_ce());
            let tensors = random_tensors(&on, 3.0, &mut random);
            let alone = result(&gpu, &LossSpec::new().head(on.clone()), std::slice::from_ref(&tensors), variant);
            let off = Head::new([2, 3, 37], loss.clone()).weight(0.0).weight_map(true);
            let mut spoiled = random_tensors(&off, 3.0, &mut random);
            for z in spoiled.logits.iter_mut().step_by(5) {
                *z = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN][random.usize(0..5)];
            }
            let spec = LossSpec::new().head(on).head(off);
            let given = result(&gpu, &spec, &[tensors.clone(), spoiled], variant);
            let what = format!("{}: {loss:?}", gpu.name);
            assert_eq!(given.report.total.to_bits(), alone.report.total.to_bits(), "{what}");
            assert_eq!(given.gradients[0], alone.gradients[0], "{what}");
            assert!(zero(&given.gradients[1]), "{what}: {:?}", given.gradients[1]);
            let report = &given.report.heads[1];
            for term in [report.overlap, report.pixel].into_iter().flatten() {
                assert_eq!(term.weighted.to_bits(), 0, "{what}");
            }
            // the unweighted terms are reported, and so is the derivative by the weight
            assert!(report.d_weight.is_nan() || report.d_weight.is_infinite(), "{what}: {}", report.d_weight);
            assert_eq!([report.d_overlap_weight, report.d_pixel_weight].map(f32::to_bits), [0; 2], "{what}");
        }
    }
}

#[test]
fn all_ignored_and_out_of_what_f32_holds_is_0_in_a_head_of_weight_0() {
    for gpu in all_gpus() {
        let on = Head::new([1, 2, 2], Loss::monai_dice_ce());
        let empty = Loss::new().pixel(Pixel::cross_entropy().empty(Empty::Nan));
        let spec = LossSpec::new().head(on).head(Head::new([1, 2, 1], empty).ignore_index(255).weight(0.0));
        let tensors = [
            Tensors { logits: vec![1.0, -0.5, 0.25, 2.0], labels: vec![0, 1], ..Tensors::default() },
            Tensors { logits: vec![0.5, -0.5], labels: vec![255], ..Tensors::default() },
        ];
        let given = common::run(&gpu, &spec, &tensors, 1.0);
        assert!(given.report.total.is_finite() && given.report.heads[1].pixel.expect("a term").value.is_nan());
        assert!(zero(&given.gradients[1]));
    }
}

#[test]
fn a_term_of_weight_0_adds_exactly_0_to_the_gradient_of_the_other() {
    for gpu in all_gpus() {
        for ((variant, loss), seed) in trials(&gpu).into_iter().zip(31..) {
            let mut random = fastrand::Rng::with_seed(seed);
            let head = |loss: &Loss| LossSpec::new().head(Head::new([2, 3, 41], loss.clone()).weight_map(true));
            let tensors = [random_tensors(&head(&loss).heads[0], 3.0, &mut random)];
            let (mut no_overlap, mut no_pixel) = (loss.clone(), loss.clone());
            no_overlap.overlap.as_mut().expect("it has one").weight = 0.0;
            no_pixel.pixel.as_mut().expect("it has one").weight = 0.0;
            for (off, alone) in
                [(no_overlap, Loss { overlap: None, ..loss.clone() }), (no_pixel, Loss { pixel: None, ..loss.clone() })]
            {
                // where the overlap term is off: a class without a voxel and with p = 0, which gives 0/0 without
                // smoothing
                let mut absent = tensors.clone();
                if off.overlap.as_ref().is_some_and(|overlap| overlap.weight == 0.0) {
                    absent[0].labels.iter_mut().for_each(|label| *label %= 2);
                    absent[0].logits.chunks_mut(41).skip(2).step_by(3).for_each(|row| row.fill(-1e30));
                }
                for tensors in [&tensors, &absent] {
                    let [given, expected] = [&off, &alone].map(|loss| result(&gpu, &head(loss), tensors, variant));
                    let what = format!("{}: {off:?}", gpu.name);
                    let (given_total, total) = (given.report.total, expected.report.total);
                    assert!(
                        (given_total - total).abs() <= 1e-6 * total.abs().max(1.0),
                        "{what}: {given_total}, {total}"
                    );
                    let largest = expected.gradients[0].iter().fold(0.0_f32, |a, g| a.max(g.abs()));
                    for (x, e) in given.gradients[0].iter().zip(&expected.gradients[0]) {
                        assert!((x - e).abs() <= 2e-6 * largest, "{what}: {x}, not {e}");
                    }
                }
            }
        }
    }
}

/// Where the terms share no softmax, logits that make the term of weight 0 NaN do not change the other's gradient.
#[test]
fn logits_that_spoil_a_term_of_weight_0_leave_the_other_terms_gradient() {
    let gpu = common::gpu();
    for variant in variants(&gpu) {
        // the softmax Dice of an infinite logit is NaN, its binary cross-entropy is not
        let mut loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::binary_cross_entropy());
        loss.overlap.as_mut().expect("it has one").weight = 0.0;
        let alone = Loss { overlap: None, ..loss.clone() };
        let head = |loss: Loss| LossSpec::new().head(Head::new([1, 3, 8], loss).labels(LabelType::I8));
        let mut tensors = [random_tensors(&head(alone.clone()).heads[0], 3.0, &mut fastrand::Rng::with_seed(3))];
        tensors[0].labels[5] = 1;
        tensors[0].logits[8 + 5] = f32::INFINITY;
        let [given, expected] = [loss, alone].map(|loss| result(&gpu, &head(loss), &tensors, variant));
        assert!(expected.gradients[0].iter().all(|dz| dz.is_finite()));
        assert_eq!(given.gradients, expected.gradients);
        assert_eq!(given.report.total.to_bits(), expected.report.total.to_bits());
        assert!(given.report.heads[0].overlap.expect("it has one").value.is_nan());
    }
}

#[test]
fn a_head_of_weight_0_writes_zeros_and_leaves_what_it_accumulates_onto_bit_for_bit() {
    for gpu in all_gpus() {
        // rows of a multiple of 4, and others
        let floats = [FloatType::F32, FloatType::F16, FloatType::Bf16];
        for (float, elements) in floats.into_iter().flat_map(|float| [(float, 72), (float, 74)]) {
            let head = Head::new([1, 2, elements / 2], Loss::monai_dice_ce()).logits(float);
            let spec = LossSpec::new().head(head);
            let mut logits = vec![0.5_f32; elements];
            logits[3] = f32::NAN;
            let logits = float_bytes(&logits, float);
            let labels = storage(&gpu, &label_bytes(&vec![0; elements / 2], LabelType::U8));
            // random bits: among them −0, subnormals, infinities and NaN of any payload
            let mut random = fastrand::Rng::with_seed(61);
            let mut before: Vec<u8> = (0..logits.len()).map(|_| random.u8(..)).collect();
            let [minus_zero, signalling] = match float {
                FloatType::F32 => [0x8000_0000, 0x7f80_0001],
                FloatType::F16 => [0x8000_8000, 0x7c01_fc01],
                FloatType::Bf16 => [0x8000_8000, 0x7f81_ff81_u32],
            };
            let edges = [minus_zero, signalling, 1, 0x8000_0001, minus_zero];
            before[..20].copy_from_slice(bytemuck::cast_slice(&edges));
            let weights = storage(&gpu, bytemuck::cast_slice(&[0.0_f32, 1.0, 1.0]));
            let scalars = Scalars { upstream: None, weights: Some(weights.as_entire_buffer_binding()) };
            let plan = gpu.plans.plan(&spec).expect("the plan is made");
            let (z, dz) = (storage(&gpu, &logits), storage(&gpu, &before));
            let tensors = HeadTensors::new(z.as_entire_buffer_binding(), labels.as_entire_buffer_binding());
            let run = |tensors: HeadTensors<'_>| {
                let step = plan.bind_with(&[tensors], &scalars).expect("the tensors are bound");
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                step.forward(&mut encoder);
                step.backward(&mut encoder);
                gpu.queue.submit([encoder.finish()]);
            };
            run(tensors.clone().accumulate(dz.as_entire_buffer_binding()));
            assert_eq!(download(&gpu, &dz), before, "{} {float:?}", gpu.name);
            run(tensors.clone().gradient(dz.as_entire_buffer_binding()));
            assert!(
                download(&gpu, &dz)[..logits.len() / 4 * 4].iter().all(|&byte| byte == 0),
                "{} {float:?}",
                gpu.name
            );
            run(tensors.in_place());
            assert!(download(&gpu, &z)[..logits.len() / 4 * 4].iter().all(|&byte| byte == 0), "{} {float:?}", gpu.name);
        }
    }
}

#[test]
fn a_voxel_of_weight_0_adds_exactly_0_whatever_its_logits_hold() {
    for gpu in all_gpus() {
        for ((variant, loss), seed) in trials(&gpu).into_iter().zip(71..) {
            let mut random = fastrand::Rng::with_seed(seed);
            let spec = LossSpec::new().head(Head::new([2, 3, 29], loss.clone()).weight_map(true));
            let mut tensors = [random_tensors(&spec.heads[0], 3.0, &mut random)];
            tensors[0].weight_map.iter_mut().step_by(4).for_each(|m| *m = 0.0);
            let bits = |tensors: &[Tensors]| {
                let given = result(&gpu, &spec, tensors, variant);
                let dz: Vec<u32> = given.gradients[0].iter().map(|dz| dz.to_bits()).collect();
                (format!("{:?}", given.report), dz)
            };
            let expected = bits(&tensors);
            for at in (0..58).step_by(4) {
                for class in 0..3 {
                    tensors[0].logits[(at / 29 * 3 + class) * 29 + at % 29] = f32::NAN;
                }
            }
            assert!(bits(&tensors) == expected, "{}: {loss:?}", gpu.name);
        }
    }
}
