//! Forward and backward of one plan, checked before it is timed. `cargo bench --bench step`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use segloss::host::{self, HostTensors};
use segloss::reference::{self, HeadData, TargetData};
use segloss::wgpu::util::DeviceExt as _;
use segloss::{AdapterChoice, Head, HeadTensors, Loss, LossSpec, Plan, wgpu};

const SHAPES: [[usize; 5]; 3] = [[2, 4, 64, 64, 64], [1, 14, 48, 48, 48], [1, 105, 24, 24, 24]];
const TOLERANCE: f64 = 2e-6;

fn bench(criterion: &mut Criterion) {
    let (device, queue) = AdapterChoice::default().open().expect("an adapter");
    let mut group = criterion.benchmark_group("forward and backward");
    group.sample_size(15);
    for shape in SHAPES {
        let head = Head::new(shape, Loss::monai_dice_ce());
        let (classes, voxels) = (head.classes(), head.items() * head.voxels());
        let mut random = fastrand::Rng::with_seed(1);
        let logits: Vec<f32> = (0..voxels * classes).map(|_| random.f32() * 8.0 - 4.0).collect();
        let labels: Vec<i64> = (0..voxels).map(|_| i64::try_from(random.usize(0..classes)).expect("small")).collect();
        let plan = Plan::new(&device, &queue, &LossSpec::new().head(head)).expect("a plan");
        check(&plan, &logits, &labels);

        let buffer = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::STORAGE;
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let buffers = [
            buffer(bytemuck::cast_slice(&logits)),
            buffer(&host::label_bytes(&labels, segloss::LabelType::U8)),
            buffer(bytemuck::cast_slice(&logits)),
        ];
        let [logits_buffer, target, gradient] = buffers.each_ref().map(wgpu::Buffer::as_entire_buffer_binding);
        let tensors = HeadTensors::new(logits_buffer, target).gradient(gradient);
        let step = plan.bind(&[tensors]).expect("bound");
        step.warm_up().expect("warm");

        // logits read twice, labels twice, gradient written once
        group.throughput(Throughput::Bytes((3 * 4 * voxels * classes + 2 * voxels) as u64));
        group.bench_function(format!("{shape:?}"), |bencher| {
            bencher.iter(|| {
                let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                step.forward(&mut encoder);
                step.backward(&mut encoder);
                queue.submit([encoder.finish()]);
                device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
            });
        });
    }
}

/// The step against the f64 reference.
fn check(plan: &Plan, logits: &[f32], labels: &[i64]) {
    let given = host::run(plan, &[HostTensors::labels(logits, labels)], 1.0).expect("it runs");
    let wide: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let target = TargetData::Labels(labels);
    let data = HeadData { logits: &wide, target, mask: None, weight_map: None, sample_mask: None };
    let expected = reference::evaluate(plan.spec(), &[data], 1.0).expect("evaluated");
    assert!((f64::from(given.report.total) - expected.total).abs() <= TOLERANCE * expected.total.abs().max(1.0));
    let expected = &expected.heads[0].gradient;
    let largest = expected.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
    for (given, expected) in given.gradients[0].iter().zip(expected) {
        assert!((f64::from(*given) - expected).abs() <= TOLERANCE * largest, "{given} {expected}");
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
