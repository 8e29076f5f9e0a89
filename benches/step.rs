//! Forward and backward of one plan, checked before it is timed. `cargo bench --bench step`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use segloss::host;
use segloss::testing::{self, Tensors};
use segloss::wgpu::util::DeviceExt as _;
use segloss::{AdapterChoice, Head, HeadTensors, Loss, LossSpec, Plan, wgpu};

const SHAPES: [[usize; 5]; 3] = [[2, 4, 64, 64, 64], [1, 14, 48, 48, 48], [1, 105, 24, 24, 24]];

fn bench(criterion: &mut Criterion) {
    let (device, queue) = AdapterChoice::default().open().expect("an adapter");
    let mut group = criterion.benchmark_group("forward and backward");
    group.sample_size(15);
    for shape in SHAPES {
        let head = Head::new(shape, Loss::monai_dice_ce());
        let (classes, voxels) = (head.classes(), head.items() * head.voxels());
        let tensors = [Tensors::random(&head, 4.0, 1)];
        let spec = LossSpec::new().head(head);
        let plan = Plan::new(&device, &queue, &spec).expect("a plan");
        let given = host::run(&plan, &[tensors[0].data()], 1.0).expect("it runs");
        testing::check(&given, &testing::evaluate(&spec, &tensors, 1.0).expect("evaluated")).expect("as the reference");
        let [Tensors { logits, labels, .. }] = &tensors;

        let buffer = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::STORAGE;
            device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let buffers = [
            buffer(bytemuck::cast_slice(logits)),
            buffer(&host::label_bytes(labels, segloss::LabelType::U8)),
            buffer(bytemuck::cast_slice(logits)),
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

criterion_group!(benches, bench);
criterion_main!(benches);
