//! Tensors of many windows and many voxels: they do not fit in one binding, and their sums must stay exact enough.
#![allow(missing_docs, reason = "a test's name is its claim")]
#![allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]

mod common;

use common::{download, forward_backward, gpu, storage};
use segloss::{Head, HeadTensors, Loss, LossSpec, Plan, wgpu};

/// Logits that repeat with a period: the expected results follow from one period, in f64.
const PERIOD: usize = 1024;

/// Dice + cross-entropy of a head whose voxels repeat: the total, and the gradient of one period.
fn expected(spec: &LossSpec, logits: &[f32], labels: &[u8]) -> (f64, Vec<f64>) {
    let head = &spec.heads[0];
    let (classes, voxels) = (head.classes(), head.voxels());
    let all = (head.items() * voxels) as f64;
    let (mut i, mut p, mut t) = (vec![0.0; classes], vec![0.0; classes], vec![0.0; classes]);
    let mut cross_entropy = 0.0;
    let softmax: Vec<Vec<f64>> = (0..PERIOD)
        .map(|v| {
            let z: Vec<f64> = (0..classes).map(|c| f64::from(logits[c * PERIOD + v])).collect();
            let peak = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = z.iter().map(|z| (z - peak).exp()).sum();
            z.iter().map(|z| (z - peak).exp() / sum).collect()
        })
        .collect();
    for v in 0..PERIOD {
        let times = (voxels / PERIOD + usize::from(v < voxels % PERIOD)) as f64;
        let label = usize::from(labels[v]);
        cross_entropy -= times * softmax[v][label].ln();
        i[label] += times * softmax[v][label];
        t[label] += times;
        (0..classes).for_each(|c| p[c] += times * softmax[v][c]);
    }
    let (nr, dr, rows) = (f64::from(1e-5_f32), f64::from(1e-5_f32), classes as f64);
    let dice: f64 = (0..classes).map(|c| 1.0 - (2.0 * i[c] + nr) / (p[c] + t[c] + dr)).sum::<f64>() / rows;
    let share = 1.0 / (rows * head.items() as f64);
    let gradient = (0..PERIOD).flat_map(|v| {
        let label = usize::from(labels[v]);
        let g: Vec<f64> = (0..classes)
            .map(|c| {
                let den = p[c] + t[c] + dr;
                let by_p = (2.0 * i[c] + nr) / (den * den);
                share * (by_p - if c == label { 2.0 / den } else { 0.0 })
            })
            .collect();
        let mean: f64 = g.iter().zip(&softmax[v]).map(|(g, s)| g * s).sum();
        let slope = |c: usize| softmax[v][c] * (g[c] - mean) + (softmax[v][c] - f64::from(u8::from(c == label))) / all;
        (0..classes).map(slope).collect::<Vec<_>>()
    });
    // items repeat as well
    (dice + cross_entropy / voxels as f64, gradient.collect())
}

/// Checks a head of `shape` whose voxels repeat, at its start, its middle and its end.
fn check(shape: &[usize], label: fn(&mut fastrand::Rng) -> u8) {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new(shape, Loss::monai_dice_ce()));
    let head = &spec.heads[0];
    let (items, classes, voxels) = (head.items(), head.classes(), head.voxels());
    let mut random = fastrand::Rng::with_seed(61);
    let logits: Vec<f32> = (0..classes * PERIOD).map(|_| random.f32() * 6.0 - 3.0).collect();
    let labels: Vec<u8> = (0..PERIOD).map(|_| label(&mut random)).collect();
    let repeated = |row: &[f32]| row.iter().copied().cycle().take(voxels).collect::<Vec<f32>>();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    let size = (items * classes * voxels * 4) as u64;
    let buffer =
        || gpu.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
    let (on_device, gradient) = (buffer(), buffer());
    for row in 0..items * classes {
        let values = repeated(&logits[row % classes * PERIOD..][..PERIOD]);
        gpu.queue.write_buffer(&on_device, (row * voxels * 4) as u64, bytemuck::cast_slice(&values));
        gpu.queue.submit([]);
    }
    let of_item: Vec<u8> = labels.iter().copied().cycle().take(voxels).collect();
    let mut all_labels = of_item.repeat(items);
    all_labels.resize(all_labels.len().next_multiple_of(4), 0);
    let target = storage(&gpu, &all_labels);
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    assert!(plan.memory() <= size / 100 + (1 << 20), "{} bytes for {size}", plan.memory());
    let tensors = HeadTensors::new(on_device.as_entire_buffer_binding(), target.as_entire_buffer_binding());
    let step = plan.bind(&[tensors.gradient(gradient.as_entire_buffer_binding())]).expect("the tensors are bound");
    let report = forward_backward(&gpu, &step);
    let (total, dz) = expected(&spec, &logits, &labels);
    let loss = (f64::from(report.total) - total).abs() / total.abs().max(1.0);
    let largest = dz.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
    let mut worst = 0.0_f64;
    // three runs of each row: the first, one in the middle, the last
    for row in [0, classes / 2, items * classes - 1] {
        for first in [0, voxels / 2 / PERIOD * PERIOD, (voxels - 1) / PERIOD * PERIOD] {
            let length = PERIOD.min(voxels - first);
            let part = gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: (length * 4) as u64,
                usage,
                mapped_at_creation: false,
            });
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(&gradient, ((row * voxels + first) * 4) as u64, &part, 0, part.size());
            gpu.queue.submit([encoder.finish()]);
            let given: Vec<f32> = bytemuck::pod_collect_to_vec(&download(&gpu, &part));
            for (v, x) in given.iter().enumerate() {
                worst = worst.max((f64::from(*x) - dz[v * classes + row % classes]).abs());
            }
        }
    }
    println!("{shape:?}: loss {loss:.1e}, gradient {:.1e} of the largest", worst / largest);
    assert!(loss <= 2e-6 && worst <= 2e-6 * largest, "{shape:?}: {loss:.1e} {:.1e}", worst / largest);
}

#[test]
fn two_items_of_105_classes_in_743_megabytes_of_logits() {
    check(&[2, 105, 96, 96, 96], |random| random.u8(0..105));
}

#[test]
fn two_to_the_27_voxels_nearly_all_of_one_class() {
    check(&[1, 2, 1 << 27], |random| u8::from(random.u8(0..64) == 0));
}
