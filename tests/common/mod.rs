//! What the tests share: the adapters of this machine, random tensors, and the comparison with the reference.
#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use segloss::host::{self, HostResult};
use segloss::reference::Evaluation;
pub use segloss::testing::{Differences, Plans, Tensors};
use segloss::testing::{Expected, Tolerance};
use segloss::wgpu::util::DeviceExt as _;
use segloss::{
    AdapterChoice, Answers, Head, HeadTensors, LossSpec, Report, Step, Target, Variant, open_adapter, testing, wgpu,
};

/// A device of this machine.
pub struct Gpu {
    pub name: String,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// All plans of a test share kernels, since compiling takes most of its time.
    pub plans: Plans,
}

impl Gpu {
    pub fn new(name: String, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        Self { name, plans: Plans::new(&device, &queue), device, queue }
    }
}

/// Every adapter of this machine; with `SEGLOSS_ADAPTERS=1` only the best, with `others` all but it. Without an adapter the test
/// fails instead of being skipped.
pub fn all_gpus() -> Vec<Gpu> {
    let mut adapters = AdapterChoice::default().adapters();
    match std::env::var("SEGLOSS_ADAPTERS").as_deref() {
        Err(_) | Ok("all") => {}
        Ok("others") => drop(adapters.drain(..adapters.len().min(1))),
        Ok(most) => adapters.truncate(most.parse().expect("a number, all or others")),
    }
    assert!(!adapters.is_empty(), "no adapter: install a GPU driver, or Mesa's software driver (mesa-vulkan-drivers)");
    adapters.iter().map(open).collect()
}

/// The best adapter of this machine.
pub fn gpu() -> Gpu {
    let adapters = AdapterChoice::default().adapters();
    open(adapters.first().expect("no adapter: install a GPU driver, or Mesa's software driver (mesa-vulkan-drivers)"))
}

/// The best adapter, opened with these limits.
pub fn gpu_with_limits(required_limits: wgpu::Limits) -> Gpu {
    let adapter = AdapterChoice::default().adapters().into_iter().next().expect("an adapter");
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the device opens");
    Gpu::new(adapter.get_info().name, device, queue)
}

fn open(adapter: &wgpu::Adapter) -> Gpu {
    let info = adapter.get_info();
    let (device, queue) = open_adapter(adapter).expect("the adapter opens");
    Gpu::new(format!("{} ({:?})", info.name, info.backend), device, queue)
}

/// What the device answers to questions with known answers.
pub fn answers(gpu: &Gpu) -> Answers {
    Answers::of(&gpu.device, &gpu.queue).expect("the device answers")
}

/// [`Tensors::random`] with a seed drawn from `random`.
pub fn random_tensors(head: &Head, spread: f32, random: &mut fastrand::Rng) -> Tensors {
    Tensors::random(head, spread, random.u64(..))
}

pub fn evaluate(spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> Evaluation {
    testing::evaluate(spec, tensors, upstream).expect("the reference takes it")
}

/// The worst differences. Fails where results that must be equal are not.
pub fn differences(given: &HostResult, expected: &Evaluation) -> Differences {
    let tolerance = Tolerance { loss: f64::INFINITY, gradient: f64::INFINITY, ..Tolerance::DEVICE };
    let mut expected = Expected::of_evaluation(expected);
    if given.voxel_losses.is_empty() {
        // the test itself binds them, and does not read them back
        expected.heads.iter_mut().for_each(|head| head.voxel_losses = None);
    }
    let comparison = testing::compare(&expected, given, tolerance);
    comparison.tolerated().unwrap_or_else(|phrase| panic!("{phrase}"))
}

pub fn run(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> HostResult {
    run_variant(gpu, spec, tensors, upstream, Variant::for_device(&gpu.device))
}

/// The device's variant with all heads in one dispatch, as on hardware; software drivers' default is one dispatch per
/// head.
pub fn one_dispatch(gpu: &Gpu) -> Variant {
    Variant { heads_per_dispatch: u32::MAX, ..Variant::for_device(&gpu.device) }
}

pub fn run_variant(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors], upstream: f32, variant: Variant) -> HostResult {
    let host: Vec<_> = tensors.iter().map(Tensors::data).collect();
    let plan = gpu.plans.with_variant(spec, variant).expect("the plan is made");
    host::run(&plan, &host, upstream).expect("the step runs")
}

/// A head's tensors on the device, each in its own buffer.
pub struct Buffers {
    heads: Vec<[wgpu::Buffer; 3]>,
}

impl Buffers {
    pub fn upload(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors]) -> Self {
        let heads = spec.heads.iter().zip(tensors);
        let heads = heads.map(|(head, tensors)| {
            let Target::Labels(label_type) = head.target else { unreachable!("used with labels alone") };
            let logits: &[u8] = bytemuck::cast_slice(&tensors.logits);
            [
                storage(gpu, logits),
                storage(gpu, &host::label_bytes(&tensors.labels, label_type)),
                storage(gpu, &vec![0xff; logits.len()]),
            ]
        });
        Self { heads: heads.collect() }
    }

    pub fn bindings(&self) -> Vec<HeadTensors<'_>> {
        let heads = self.heads.iter();
        heads
            .map(|[logits, target, gradient]| {
                HeadTensors::new(logits.as_entire_buffer_binding(), target.as_entire_buffer_binding())
                    .gradient(gradient.as_entire_buffer_binding())
            })
            .collect()
    }

    pub fn gradients(&self, gpu: &Gpu) -> Vec<Vec<f32>> {
        self.heads.iter().map(|[.., gradient]| bytemuck::pod_collect_to_vec(&download(gpu, gradient))).collect()
    }

    /// One forward and backward.
    pub fn step(&self, gpu: &Gpu, step: &Step) -> HostResult {
        HostResult { report: forward_backward(gpu, step), gradients: self.gradients(gpu), voxel_losses: Vec::new() }
    }
}

/// Encodes and submits one forward and backward, as a trainer does, and waits for the report.
pub fn forward_backward(gpu: &Gpu, step: &Step) -> Report {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    step.forward(&mut encoder);
    step.backward(&mut encoder);
    let pending = step.report(&mut encoder).expect("a staging buffer is free");
    gpu.queue.submit([encoder.finish()]);
    pending.read_blocking().expect("the report arrives")
}

pub fn storage(gpu: &Gpu, contents: &[u8]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
}

pub fn download(gpu: &Gpu, buffer: &wgpu::Buffer) -> Vec<u8> {
    let host = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &host, 0, buffer.size());
    gpu.queue.submit([encoder.finish()]);
    host.map_async(wgpu::MapMode::Read, .., |result| result.expect("mapped"));
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
    host.get_mapped_range(..).expect("mapped").to_vec()
}
