//! f16 and bf16: every value is converted as by the `half` crate, with odd rows and offsets.

use std::num::NonZeroU64;

use segloss::host::{self, HostResult};
use segloss::{Activation, FloatType, Head, HeadTensors, LabelType, Loss, LossSpec, Overlap, Pixel, Reduction, wgpu};

use crate::common::{
    self, Gpu, Tensors, all_gpus, differences, download, evaluate, forward_backward, random_tensors, storage,
};

/// The ways in which a device may convert: by integers, and f16 by WGSL's built-in functions where the device's are exact. A
/// device takes what is faster there, so both are held to the same bits.
fn conversions(gpu: &Gpu, float: FloatType) -> Vec<Option<bool>> {
    let answers = common::answers(gpu);
    let exact = answers.decodes_f16 && answers.encodes_f16;
    if float == FloatType::F16 && exact { vec![Some(false), Some(true)] } else { vec![Some(false)] }
}

/// The gradient by logits of `float` with these numbers as target, a head per row length: it is −t, rounded to the type. The
/// denominator is clamped at 2^40, and the upstream gradient is 2^39. Sums of 64 numbers of at most 2^30 stay below the clamp.
fn minus_gradients(
    gpu: &Gpu,
    values: &[f32],
    [logits, target]: [FloatType; 2],
    built_in: Option<bool>,
) -> Vec<(Vec<f32>, Vec<f32>)> {
    let overlap = Overlap::dice().denominator_floor(2.0_f32.powi(40)).reduction(Reduction::Sum);
    let loss = Loss { activation: Activation::None, ..Loss::new().overlap(overlap) };
    let of_rows = |voxels: usize| {
        let items = values.len() / voxels;
        let values = values[..items * voxels].to_vec();
        let head = Head::new([items, 1, voxels], loss.clone()).logits(logits).probabilities(target);
        let tensors = Tensors { logits: vec![0.0; values.len()], probabilities: values.clone(), ..Tensors::default() };
        let plan = gpu.plans.with(&LossSpec::new().head(head), None, built_in).expect("the plan is made");
        let given = host::run(&plan, &[tensors.data()], 2.0_f32.powi(39)).expect("the step runs");
        (values, given.gradients[0].iter().map(|dz| -dz).collect())
    };
    [64, 61].map(of_rows).to_vec()
}

/// All numbers of a type that a sum of 64 holds. Numbers that are subnormal in f32 may be flushed to 0.
fn all_of(float: FloatType) -> Vec<f32> {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let all = host::floats_of_bytes(bytemuck::cast_slice(&bits), float);
    all.into_iter().filter(|x: &f32| (*x == 0.0 || x.is_normal()) && x.abs() <= 2.0_f32.powi(30)).collect()
}

#[test]
fn every_half_is_read_exactly() {
    for gpu in all_gpus() {
        for float in [FloatType::F16, FloatType::Bf16] {
            let values = all_of(float);
            assert!(values.len() > 30_000, "{}", values.len());
            for built_in in conversions(&gpu, float) {
                for (expected, given) in minus_gradients(&gpu, &values, [FloatType::F32, float], built_in) {
                    assert_eq!(given, expected, "{}: {float:?}, {built_in:?}", gpu.name);
                }
            }
        }
    }
}

#[test]
fn every_tie_between_halves_is_rounded_to_even() {
    for gpu in all_gpus() {
        for float in [FloatType::F16, FloatType::Bf16] {
            // each number of the type, and half of the way to the next with what is beside it
            let half_way = if float == FloatType::F16 { 0x1000 } else { 0x8000 };
            let near = |x: &f32| {
                let next = |by: u32| f32::from_bits(x.to_bits() + by);
                let subnormal = (x.abs() < 2.0_f32.powi(-14)).then(|| x + x.signum() * 2.0_f32.powi(-25));
                [*x, next(half_way - 1), next(half_way), next(half_way + 1)].into_iter().chain(subnormal)
            };
            let values: Vec<f32> = all_of(float).iter().filter(|x| **x != 0.0).flat_map(near).collect();
            for built_in in conversions(&gpu, float) {
                for (exact, given) in minus_gradients(&gpu, &values, [float, FloatType::F32], built_in) {
                    let mut expected = host::floats_of_bytes(&host::float_bytes(&exact, float), float);
                    expected.truncate(exact.len());
                    assert_eq!(given, expected, "{}: {float:?}, {built_in:?}", gpu.name);
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
