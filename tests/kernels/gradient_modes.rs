//! Modes of the gradient: it overwrites a tensor, adds to one, or overwrites the logits; and whether it is finite.

use segloss::host::{float_bytes, floats_of_bytes, label_bytes};
use segloss::{FloatType, Head, HeadTensors, LabelType, Loss, LossSpec, Plan, Report, Scalars, Tensor, wgpu};

use crate::common::{Gpu, Tensors, all_gpus, download, evaluate, gpu, random_tensors, storage};

const FLOATS: [FloatType; 3] = [FloatType::F32, FloatType::F16, FloatType::Bf16];

/// Heads of few and many classes, rows of odd and even length, more than one item. A row is stored the same way for few
/// and for many classes, so each type has one row of either length, with the lengths swapped for halves. The last head
/// shares the text of the first.
fn heads(float: FloatType) -> LossSpec {
    let shapes = match float {
        FloatType::F32 => [[2, 3, 7, 5], [3, 20, 4, 4], [1, 3, 5, 3]],
        FloatType::F16 | FloatType::Bf16 => [[3, 4, 8, 8], [2, 20, 3, 11], [1, 4, 6, 6]],
    };
    let head = |shape| Head::new(shape, Loss::monai_dice_ce()).logits(float).check_finite(true);
    LossSpec { heads: shapes.map(head).to_vec() }
}

/// A head's logits, labels and gradient on the device.
struct Device {
    logits: wgpu::Buffer,
    labels: wgpu::Buffer,
    gradient: wgpu::Buffer,
}

fn upload(gpu: &Gpu, head: &Head, tensors: &Tensors, gradient: &[f32]) -> Device {
    Device {
        logits: storage(gpu, &float_bytes(&tensors.logits, head.logits)),
        labels: storage(gpu, &label_bytes(&tensors.labels, LabelType::U8)),
        gradient: storage(gpu, &float_bytes(gradient, head.logits)),
    }
}

type Bind = for<'a> fn(HeadTensors<'a>, &'a Device) -> HeadTensors<'a>;

/// Runs a step; the report is copied after the backward, which may set its flags.
fn step(gpu: &Gpu, spec: &LossSpec, devices: &[Device], bind: Bind, upstream: f32) -> Report {
    let plan = gpu.plans.plan(spec).expect("the plan is made");
    let bindings: Vec<_> = devices
        .iter()
        .map(|d| bind(HeadTensors::new(d.logits.as_entire_buffer_binding(), d.labels.as_entire_buffer_binding()), d))
        .collect();
    let upstream = storage(gpu, &upstream.to_le_bytes());
    let scalars = Scalars { upstream: Some(upstream.as_entire_buffer_binding()), weights: None };
    let step = plan.bind_with(&bindings, &scalars).expect("the tensors are bound");
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    step.forward(&mut encoder);
    step.backward(&mut encoder);
    let pending = step.report(&mut encoder).expect("a staging buffer is free");
    gpu.queue.submit([encoder.finish()]);
    pending.read_blocking().expect("the report arrives")
}

fn overwrite<'a>(tensors: HeadTensors<'a>, device: &'a Device) -> HeadTensors<'a> {
    tensors.gradient(device.gradient.as_entire_buffer_binding())
}

fn accumulate<'a>(tensors: HeadTensors<'a>, device: &'a Device) -> HeadTensors<'a> {
    tensors.accumulate(device.gradient.as_entire_buffer_binding())
}

fn in_place<'a>(tensors: HeadTensors<'a>, _: &'a Device) -> HeadTensors<'a> {
    tensors.in_place()
}

fn drawn(spec: &LossSpec, seed: u64) -> Vec<Tensors> {
    let mut random = fastrand::Rng::with_seed(seed);
    spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect()
}

#[test]
fn in_place_is_the_same_gradient_bit_for_bit() {
    for gpu in all_gpus() {
        for float in FLOATS {
            let spec = heads(float);
            let tensors = drawn(&spec, 41);
            let place = || spec.heads.iter().zip(&tensors).map(|(h, t)| upload(&gpu, h, t, &vec![7.0; t.logits.len()]));
            let apart: Vec<_> = place().collect();
            let over: Vec<_> = place().collect();
            let expected = step(&gpu, &spec, &apart, overwrite, 1.0);
            assert_eq!(step(&gpu, &spec, &over, in_place, 1.0), expected, "{} {float:?}", gpu.name);
            for (head, (apart, over)) in apart.iter().zip(&over).enumerate() {
                let (expected, given) = (download(&gpu, &apart.gradient), download(&gpu, &over.logits));
                let elements = tensors[head].logits.len();
                let numbers = |bytes: &[u8]| floats_of_bytes(bytes, float)[..elements].to_vec();
                assert_eq!(numbers(&given), numbers(&expected), "{} {float:?} head {head}", gpu.name);
            }
        }
    }
}

#[test]
fn accumulating_adds_and_rounds_once() {
    for gpu in all_gpus() {
        for float in FLOATS {
            let spec = heads(float);
            let tensors = drawn(&spec, 43);
            let mut random = fastrand::Rng::with_seed(47);
            // of the gradients' magnitude, and exact in their type
            let before: Vec<Vec<f32>> = tensors
                .iter()
                .map(|t| {
                    let drawn: Vec<f32> = t.logits.iter().map(|_| (random.f32() - 0.5) * 0.02).collect();
                    floats_of_bytes(&float_bytes(&drawn, float), float)[..t.logits.len()].to_vec()
                })
                .collect();
            let heads = || spec.heads.iter().zip(&tensors).zip(&before);
            let devices: Vec<_> = heads().map(|((h, t), before)| upload(&gpu, h, t, before)).collect();
            step(&gpu, &spec, &devices, accumulate, 2.0);
            let expected = evaluate(&spec, &tensors, 2.0);
            for (head, device) in devices.iter().enumerate() {
                let given = floats_of_bytes(&download(&gpu, &device.gradient), float);
                let half_step = match float {
                    FloatType::F32 => 0.0,
                    FloatType::F16 => 2.0_f64.powi(-11),
                    FloatType::Bf16 => 2.0_f64.powi(-8),
                };
                let largest = expected.heads[head].gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
                for ((x, old), new) in given.iter().zip(&before[head]).zip(&expected.heads[head].gradient) {
                    let sum = f64::from(*old) + new;
                    let bound = 4e-6 * largest + half_step * sum.abs() + 2.0_f64.powi(-25);
                    assert!((f64::from(*x) - sum).abs() <= bound, "{} {float:?} head {head}: {x} {sum}", gpu.name);
                }
            }
        }
    }
}

/// All heads in one buffer, one of each mode, so that all bindings are `read_write`.
#[test]
fn modes_mix_in_one_pool() {
    let gpu = gpu();
    let spec = LossSpec { heads: vec![Head::new([1, 3, 5, 3], Loss::monai_dice_ce()); 3] };
    let tensors = drawn(&spec, 53);
    let length = 45;
    // three logits, then two gradients
    let mut pool: Vec<f32> = tensors.iter().flat_map(|t| t.logits.clone()).collect();
    pool.extend(vec![1.0; 2 * length]);
    let pool = storage(&gpu, bytemuck::cast_slice(&pool));
    let labels: Vec<_> = tensors.iter().map(|t| storage(&gpu, &label_bytes(&t.labels, LabelType::U8))).collect();
    let at = |index: usize| wgpu::BufferBinding {
        buffer: &pool,
        offset: (index * length * 4) as u64,
        size: std::num::NonZeroU64::new(length as u64 * 4),
    };
    let head = |index: usize| HeadTensors::new(at(index), labels[index].as_entire_buffer_binding());
    let bindings = [head(0).gradient(at(3)), head(1).accumulate(at(4)), head(2).in_place()];
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let step = plan.bind(&bindings).expect("the tensors are bound");
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    step.forward(&mut encoder);
    step.backward(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    let after: Vec<f32> = bytemuck::pod_collect_to_vec(&download(&gpu, &pool));
    let expected = evaluate(&spec, &tensors, 1.0);
    for (head, place, before) in [(0, 3, 0.0), (1, 4, 1.0), (2, 2, 0.0)] {
        let given = &after[place * length..][..length];
        for (x, e) in given.iter().zip(&expected.heads[head].gradient) {
            assert!((f64::from(*x) - before - e).abs() < 2e-7, "head {head}: {x} {e}");
        }
    }
    assert_eq!(after[..2 * length], [&tensors[0].logits[..], &tensors[1].logits[..]].concat());
}

#[test]
fn logits_that_another_head_reads_are_not_overwritten() {
    let gpu = gpu();
    let spec = LossSpec { heads: vec![Head::new([1, 2, 8], Loss::monai_dice_ce()); 2] };
    let (logits, labels) = (storage(&gpu, &[0; 64]), storage(&gpu, &[0; 8]));
    let head = || HeadTensors::new(logits.as_entire_buffer_binding(), labels.as_entire_buffer_binding());
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let error = plan.bind(&[head().in_place(), head()]).map(|_| ()).expect_err("refused");
    assert!(
        matches!(error, segloss::Error::Overlapping { head: 0, other_head: 1, other: Tensor::Logits, .. }),
        "{error}"
    );
}

#[test]
fn what_is_not_finite_is_told_by_head() {
    for gpu in all_gpus() {
        for float in FLOATS {
            let mut spec = heads(float);
            spec.heads.iter_mut().for_each(|head| head.ignore_index = Some(255));
            let run = |tensors: &[Tensors], upstream: f32, bind: Bind| {
                let devices: Vec<_> =
                    spec.heads.iter().zip(tensors).map(|(h, t)| upload(&gpu, h, t, &t.logits)).collect();
                let report = step(&gpu, &spec, &devices, bind, upstream);
                report.heads.iter().map(|head| head.non_finite.expect("asked for")).collect::<Vec<_>>()
            };
            let tensors = drawn(&spec, 59);
            for found in run(&tensors, 1.0, overwrite) {
                assert!(found.logits == 0 && !found.gradient, "{} {float:?}: {found:?}", gpu.name);
            }
            // a gradient that overflows its type, as with a loss scale that is too large
            for bind in [overwrite as Bind, accumulate, in_place] {
                for found in run(&tensors, f32::MAX, bind) {
                    let overflows = float == FloatType::F16;
                    assert!(found.logits == 0 && found.gradient == overflows, "{} {float:?}: {found:?}", gpu.name);
                }
            }
            // two voxels of head 0, one of them ignored; one of head 1, in three classes
            let mut broken = tensors.clone();
            (broken[0].labels[3], broken[0].labels[4]) = (1, 255);
            (broken[0].logits[3], broken[0].logits[4]) = (f32::NAN, f32::INFINITY);
            let voxels = spec.heads[1].voxels();
            broken[1].labels[9] = 2;
            (0..3).for_each(|c| broken[1].logits[c * voxels + 9] = f32::NEG_INFINITY);
            broken[1].logits[2 * voxels + 9] = f32::NAN;
            let found = run(&broken, 1.0, overwrite);
            assert_eq!(found.iter().map(|f| f.logits).collect::<Vec<_>>(), [2, 1, 0], "{} {float:?}", gpu.name);
            assert_eq!(
                found.iter().map(|f| f.gradient).collect::<Vec<_>>(),
                [true, true, false],
                "{} {float:?}",
                gpu.name
            );
        }
    }
}
