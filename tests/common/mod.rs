//! What the tests share: the adapters of this machine, random tensors, and the comparison with the reference.
#![allow(dead_code, missing_docs, reason = "each test uses a part of it")]

use segloss::host::{self, HostResult, HostTarget, HostTensors};
use segloss::reference::{self, Evaluation, HeadData, HeadEvaluation, TargetData};
use segloss::wgpu::util::DeviceExt as _;
use segloss::{
    AdapterChoice, ClassCounts, FloatType, Head, HeadReport, HeadTensors, LossSpec, Plan, Step, Target, Variant,
    open_adapter, wgpu,
};

/// A device of this machine.
pub struct Gpu {
    pub name: String,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
}

/// Every adapter of this machine. No adapter fails the test: it never passes by skipping.
pub fn all_gpus() -> Vec<Gpu> {
    let adapters = AdapterChoice::default().adapters();
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
    Gpu { name: adapter.get_info().name, device, queue }
}

fn open(adapter: &wgpu::Adapter) -> Gpu {
    let info = adapter.get_info();
    let (device, queue) = open_adapter(adapter).expect("the adapter opens");
    Gpu { name: format!("{} ({:?})", info.name, info.backend), device, queue }
}

/// The tensors of a head; those that it has not are empty.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    pub logits: Vec<f32>,
    pub labels: Vec<i64>,
    pub probabilities: Vec<f32>,
    pub mask: Vec<u8>,
    pub weight_map: Vec<f32>,
    pub sample_mask: Vec<u8>,
}

/// Random logits of this spread, and a random target: classes, and where the head has one, the ignore label; or
/// probabilities, one in three of them 0 or 1.
pub fn random_tensors(head: &Head, spread: f32, random: &mut fastrand::Rng) -> Tensors {
    let (items, classes, voxels) = (head.items(), head.classes(), head.items() * head.voxels());
    let mut tensors = Tensors {
        logits: (0..voxels * classes).map(|_| spread * (random.f32() * 2.0 - 1.0)).collect(),
        ..Tensors::default()
    };
    if let Target::Labels(_) = head.target {
        let label = |random: &mut fastrand::Rng| match head.ignore_index {
            Some(ignored) if random.u8(0..4) == 0 => ignored,
            _ => i64::try_from(random.usize(0..classes)).expect("few classes"),
        };
        tensors.labels = (0..head.target_elements()).map(|_| label(random)).collect();
    } else {
        let probability = |random: &mut fastrand::Rng| match random.u8(0..6) {
            0 => 0.0,
            1 => 1.0,
            _ => random.f32(),
        };
        tensors.probabilities = (0..head.target_elements()).map(|_| probability(random)).collect();
    }
    // numbers that the tensors' types hold
    tensors.logits = rounded(&tensors.logits, head.logits);
    if let Target::Probabilities(float) = head.target {
        tensors.probabilities = rounded(&tensors.probabilities, float);
    }
    let wanted = |wanted: bool, size: usize| if wanted { size } else { 0 };
    tensors.mask = (0..wanted(head.mask, voxels)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
    tensors.weight_map = (0..wanted(head.weight_map, voxels)).map(|_| random.f32() * 2.0).collect();
    tensors.sample_mask = (0..wanted(head.sample_mask, items)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
    tensors
}

fn rounded(values: &[f32], float: FloatType) -> Vec<f32> {
    let mut values_of_type = host::floats_of_bytes(&host::float_bytes(values, float), float);
    values_of_type.truncate(values.len());
    values_of_type
}

fn some<T>(values: &[T]) -> Option<&[T]> {
    (!values.is_empty()).then_some(values)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// The tensors in f64, as the reference takes them.
pub struct WideTensors<'a> {
    pub logits: Vec<f64>,
    probabilities: Vec<f64>,
    weight_map: Vec<f64>,
    tensors: &'a Tensors,
}

impl<'a> WideTensors<'a> {
    pub fn new(tensors: &'a Tensors) -> Self {
        let [logits, probabilities, weight_map] =
            [&tensors.logits, &tensors.probabilities, &tensors.weight_map].map(|values| wide(values));
        Self { logits, probabilities, weight_map, tensors }
    }

    pub fn data(&self) -> HeadData<'_> {
        let tensors = self.tensors;
        let labels = TargetData::Labels(&tensors.labels);
        let probabilities = some(&self.probabilities).map(TargetData::Probabilities);
        HeadData {
            logits: &self.logits,
            target: probabilities.unwrap_or(labels),
            mask: some(&tensors.mask),
            weight_map: some(&self.weight_map),
            sample_mask: some(&tensors.sample_mask),
        }
    }
}

pub fn evaluate(spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> Evaluation {
    let wide: Vec<_> = tensors.iter().map(WideTensors::new).collect();
    let data: Vec<_> = wide.iter().map(WideTensors::data).collect();
    reference::evaluate(spec, &data, f64::from(upstream)).expect("the reference takes it")
}

pub fn run(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> HostResult {
    run_variant(gpu, spec, tensors, upstream, Variant::for_device(&gpu.device))
}

/// The device's variant, with all heads in one dispatch as on hardware, also where software drivers take one a head.
pub fn one_dispatch(gpu: &Gpu) -> Variant {
    Variant { heads_per_dispatch: u32::MAX, ..Variant::for_device(&gpu.device) }
}

pub fn run_variant(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors], upstream: f32, variant: Variant) -> HostResult {
    let plan = Plan::with_variant(&gpu.device, &gpu.queue, spec, variant).expect("the plan is made");
    let host: Vec<_> = tensors.iter().map(host_tensors).collect();
    host::run(&plan, &host, upstream).expect("the step runs")
}

fn host_tensors(tensors: &Tensors) -> HostTensors<'_> {
    let labels = HostTarget::Labels(&tensors.labels);
    HostTensors {
        logits: &tensors.logits,
        target: some(&tensors.probabilities).map_or(labels, HostTarget::Probabilities),
        mask: some(&tensors.mask),
        weight_map: some(&tensors.weight_map),
        sample_mask: some(&tensors.sample_mask),
    }
}

/// The part of κ below which a gradient counts as cancelled.
const CANCELLING: f64 = 0.05;

/// Worst loss difference, relative to max(1, |expected|), and worst gradient difference, relative to the largest of its
/// head. Where a gradient nearly cancels (one class; a softmax that meets its smoothed target), it is relative to a part of
/// what cancels: κ of the pixel term.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Differences {
    pub loss: f64,
    pub gradient: f64,
}

pub fn differences(given: &HostResult, expected: &Evaluation) -> Differences {
    let relative = |given: f32, expected: f64| {
        let difference = (f64::from(given) - expected).abs() / expected.abs().max(1.0);
        assert!(!difference.is_nan(), "got {given}, expected {expected}");
        difference
    };
    let mut loss = relative(given.report.total, expected.total);
    let mut gradient = 0.0_f64;
    let heads = given.report.heads.iter().zip(&given.gradients).zip(&expected.heads);
    for (head, ((report, dz), expected)) in heads.enumerate() {
        loss = loss.max(report.overlap.map_or(0.0, |term| relative(term.value, expected.overlap)));
        loss = loss.max(report.pixel.map_or(0.0, |term| relative(term.value, expected.pixel)));
        loss = loss.max(output_differences(report, given.voxel_losses.get(head).and_then(Option::as_ref), expected));
        assert_eq!(u64::from(report.counted), expected.counted);
        assert_eq!(u64::from(report.ignored), expected.ignored);
        assert_eq!(u64::from(report.out_of_range), expected.out_of_range);
        let first = report.first_out_of_range.map(|first| (first.item as usize, first.voxel as usize));
        assert_eq!(first, expected.first_out_of_range);
        for (class, (given, expected)) in report.soft_dice.iter().zip(&expected.soft_dice).enumerate() {
            let same = given.is_nan() && expected.is_nan() || (f64::from(*given) - expected).abs() < 4e-6;
            assert!(same, "soft Dice of class {class}: got {given}, expected {expected}");
        }
        assert_eq!(dz.len(), expected.gradient.len());
        let largest = expected.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
        let worst = dz.iter().zip(&expected.gradient).fold(0.0_f64, |a, (&x, e)| {
            let difference = (f64::from(x) - e).abs();
            assert!(!difference.is_nan(), "got {x}, expected {e}");
            a.max(difference)
        });
        if worst > 0.0 {
            let scale = largest.max(CANCELLING * expected.kappa.abs());
            gradient = gradient.max(worst / if scale < 1e-9 { 1.0 } else { scale });
        }
    }
    Differences { loss, gradient }
}

/// What a head asks for: counts are equal; the worst difference of unreduced losses, relative to max(1, |expected|).
fn output_differences(report: &HeadReport, voxel_losses: Option<&Vec<f32>>, expected: &HeadEvaluation) -> f64 {
    let wide = |counts: &[ClassCounts]| -> Vec<[u64; 4]> {
        let of_class = |c: &ClassCounts| [c.true_positives, c.false_positives, c.false_negatives, c.true_negatives];
        counts.iter().map(|c| of_class(c).map(u64::from)).collect()
    };
    if let Some(counts) = &report.hard_counts {
        let over_items = |c: usize| {
            expected
                .hard_counts
                .iter()
                .fold([0; 4], |sum, item| std::array::from_fn(|which| sum[which] + item[c][which]))
        };
        assert_eq!(wide(counts), (0..counts.len()).map(over_items).collect::<Vec<_>>());
    }
    if let Some(items) = &report.item_counts {
        assert_eq!(items.iter().map(|item| wide(&item.classes)).collect::<Vec<_>>(), expected.hard_counts);
        assert_eq!(items.iter().map(|item| u64::from(item.counted)).sum::<u64>(), expected.counted);
    }
    if let Some(non_finite) = report.non_finite {
        assert_eq!(u64::from(non_finite.logits), expected.non_finite);
    }
    let worst = |given: &[f32], expected: &[f64]| {
        assert_eq!(given.len(), expected.len());
        let one = |(&x, &e): (&f32, &f64)| {
            assert_eq!(x.is_nan(), e.is_nan(), "unreduced: got {x}, expected {e}");
            if e.is_nan() { 0.0 } else { (f64::from(x) - e).abs() / e.abs().max(1.0) }
        };
        given.iter().zip(expected).map(one).fold(0.0, f64::max)
    };
    let mut all = voxel_losses.map_or(0.0, |losses| worst(losses, &expected.voxel_losses));
    if let Some(rows) = &report.overlap_losses {
        assert_eq!(rows.len(), expected.overlap_losses.len());
        let rows = rows.iter().zip(&expected.overlap_losses);
        all = rows.map(|(given, expected)| worst(given, expected)).fold(all, f64::max);
    }
    all
}

/// A head's tensors on the device, a buffer each.
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

    /// One forward and backward, as a trainer encodes it.
    pub fn step(&self, gpu: &Gpu, step: &Step) -> HostResult {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        step.forward(&mut encoder);
        let pending = step.report(&mut encoder).expect("a staging buffer is free");
        step.backward(&mut encoder);
        gpu.queue.submit([encoder.finish()]);
        let report = pending.read_blocking().expect("the report arrives");
        HostResult { report, gradients: self.gradients(gpu), voxel_losses: Vec::new() }
    }
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

/// Takes the one rounding to f16 or bf16 out of the gradients: a value within it of the reference's, beside f32 arithmetic's
/// own error, becomes the reference's. Others stay as they are, and fail.
pub fn without_rounding(spec: &LossSpec, mut given: HostResult, expected: &Evaluation) -> HostResult {
    for ((head, dz), expected) in spec.heads.iter().zip(&mut given.gradients).zip(&expected.heads) {
        // half a step of 11 or 8 significant bits, and of the smallest subnormal
        let (relative, least) = match head.logits {
            FloatType::F32 => continue,
            FloatType::F16 => (2.0_f64.powi(-11), 2.0_f64.powi(-25)),
            FloatType::Bf16 => (2.0_f64.powi(-8), 0.0),
        };
        let largest = expected.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
        for (x, e) in dz.iter_mut().zip(&expected.gradient) {
            if (f64::from(*x) - e).abs() <= (relative * e.abs()).max(least) + 4e-6 * largest.max(1e-3) {
                #[expect(clippy::cast_possible_truncation, reason = "within the bound that is checked")]
                let near = *e as f32;
                *x = near;
            }
        }
    }
    given
}
