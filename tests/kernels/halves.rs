//! f16 and bf16: every value is converted as by the `half` crate, with odd rows and offsets.

use std::num::NonZeroU64;

use segloss::host::{self, HostResult};
use segloss::{
    Activation, Answers, FloatType, Head, HeadTensors, LabelType, Loss, LossSpec, Overlap, Pixel, Reduction, wgpu,
};

use crate::common::{
    self, Tensors, all_gpus, differences, download, evaluate, forward_backward, random_tensors, storage,
};

/// Devices convert by WGSL's built-in functions or by integers, whichever is right and faster there: it may not matter which.
#[test]
fn built_in_functions_and_integers_give_the_same_bits() {
    for gpu in all_gpus() {
        let answers = Answers::of(&gpu.device, &gpu.queue).expect("the device answers");
        let exact = answers.decodes_f16 && answers.encodes_f16;
        // every half as a logit, rows of any length, gradients from subnormal to infinite
        let logits: Vec<f32> = (0..=u16::MAX).map(|bits| half::f16::from_bits(bits).to_f32()).collect();
        for voxels in [1 << 15, (1 << 15) - 1] {
            let loss = Loss { activation: Activation::None, ..Loss::new().overlap(Overlap::dice()) };
            let head = Head::new([1, 2, voxels], loss).logits(FloatType::F16);
            let mut tensors = random_tensors(&head, 1.0, &mut fastrand::Rng::with_seed(5));
            tensors.logits = logits[..2 * voxels].to_vec();
            let spec = LossSpec::new().head(head);
            for upstream in [1.0, 1e-3, 3e4, 1e9] {
                let run = |built_in| {
                    let plan = gpu.plans.with(&spec, None, Some(built_in)).expect("the plan is made");
                    let result = host::run(&plan, &[tensors.data()], upstream).expect("the step runs");
                    let bits = |x: &f32| if x.is_nan() { u32::MAX } else { x.to_bits() };
                    result.gradients[0].iter().map(bits).collect::<Vec<_>>()
                };
                if exact {
                    assert!(run(true) == run(false), "{}: {voxels} voxels, upstream {upstream}", gpu.name);
                }
            }
        }
    }
}

#[test]
fn a_gradient_is_rounded_once_to_nearest_at_every_magnitude() {
    for gpu in all_gpus() {
        for float in [FloatType::F16, FloatType::Bf16] {
            let voxels = 512;
            let head = |logits| Head::new([1, 2, voxels], Loss::new().pixel(Pixel::cross_entropy())).logits(logits);
            let tensors = [random_tensors(&head(float), 6.0, &mut fastrand::Rng::with_seed(7))];
            for exponent in -24..=24 {
                let upstream = 2.0_f32.powi(exponent);
                let half = common::run(&gpu, &LossSpec::new().head(head(float)), &tensors, upstream);
                let full = common::run(&gpu, &LossSpec::new().head(head(FloatType::F32)), &tensors, upstream);
                // the same arithmetic, then one rounding
                let rounded = host::floats_of_bytes(&host::float_bytes(&full.gradients[0], float), float);
                assert_eq!(half.gradients[0], rounded, "{}: {float:?}, 2^{exponent}", gpu.name);
            }
        }
    }
}

/// With a denominator that is clamped at 2^40 and an upstream gradient of 2^39, the gradient is −t: it reads the target
/// back.
#[test]
fn every_half_is_read_exactly() {
    for gpu in all_gpus() {
        for float in [FloatType::F16, FloatType::Bf16] {
            let bits: Vec<u16> = (0..=u16::MAX).collect();
            let all = host::floats_of_bytes(bytemuck::cast_slice(&bits), float);
            // sums of 64 numbers stay below the clamp; numbers that are subnormal in f32 may be flushed to 0
            let fits = |x: &f32| (*x == 0.0 || x.is_normal()) && x.abs() <= 2.0_f32.powi(30);
            let mut values: Vec<f32> = all.into_iter().filter(fits).collect();
            values.truncate(values.len() / 64 * 64);
            assert!(values.len() > 30_000, "{}", values.len());
            let overlap = Overlap::dice().denominator_floor(2.0_f32.powi(40)).reduction(Reduction::Sum);
            let loss = Loss { activation: Activation::None, ..Loss::new().overlap(overlap) };
            for voxels in [64, 61] {
                let items = values.len() / voxels;
                let values = values[..items * voxels].to_vec();
                let head = Head::new([items, 1, voxels], loss.clone()).probabilities(float);
                let tensors =
                    [Tensors { logits: vec![0.0; values.len()], probabilities: values.clone(), ..Tensors::default() }];
                let given = common::run(&gpu, &LossSpec::new().head(head), &tensors, 2.0_f32.powi(39));
                let read: Vec<f32> = given.gradients[0].iter().map(|dz| -dz).collect();
                assert_eq!(read, values, "{}: {float:?}", gpu.name);
            }
        }
    }
}

#[test]
fn odd_rows_at_odd_offsets_share_words_and_nothing_else_changes() {
    const GUARD: u8 = 0xa5;
    for gpu in all_gpus() {
        for float in [FloatType::F16, FloatType::Bf16] {
            for (shape, classes) in [([2, 3, 5, 7], 3), ([3, 20, 1, 9], 20), ([2, 4, 8, 8], 4)] {
                let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1));
                let spec = LossSpec::new().head(Head::new(shape, loss).logits(float));
                let tensors = [random_tensors(&spec.heads[0], 3.0, &mut fastrand::Rng::with_seed(11))];
                let elements = tensors[0].logits.len();
                assert_eq!(spec.heads[0].classes(), classes);
                for odd in [1, 2, 3, 4] {
                    let logits = host::float_bytes(&tensors[0].logits, float);
                    let first = 2 * odd;
                    let mut pool = vec![GUARD; first];
                    pool.extend(&logits[..2 * elements]);
                    let gradient_first = pool.len() + 2 * odd;
                    pool.resize((gradient_first + 2 * elements + 9).next_multiple_of(4), GUARD);
                    let buffer = storage(&gpu, &pool);
                    let labels = storage(&gpu, &host::label_bytes(&tensors[0].labels, LabelType::U8));
                    let bind = |first: usize| wgpu::BufferBinding {
                        buffer: &buffer,
                        offset: first as u64,
                        size: NonZeroU64::new(2 * elements as u64),
                    };
                    let head =
                        HeadTensors::new(bind(first), labels.as_entire_buffer_binding()).gradient(bind(gradient_first));
                    let plan = gpu.plans.plan(&spec).expect("the plan is made");
                    let step = plan.bind(&[head]).expect("the tensors are bound");
                    let report = forward_backward(&gpu, &step);
                    let mut after = download(&gpu, &buffer);
                    let written = gradient_first..gradient_first + 2 * elements;
                    let gradient = host::floats_of_bytes(&after[written.clone()], float);
                    let given = HostResult { report, gradients: vec![gradient], voxel_losses: Vec::new() };
                    let expected = evaluate(&spec, &tensors, 1.0);
                    let worst = differences(&given, &expected);
                    assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {float:?}: {worst:?}", gpu.name);
                    after[written].fill(GUARD);
                    assert!(after == pool, "{}: {float:?}: bytes outside of the gradient changed", gpu.name);
                }
            }
        }
    }
}
