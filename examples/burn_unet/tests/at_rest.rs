//! What a training step at rest makes, in wgpu's trace of the calls that reach the device.

#[path = "../src/unet.rs"]
mod unet;

use std::collections::BTreeMap;
use std::path::Path;

use burn::backend::wgpu::WgpuSetup;
use burn::nn::conv::Conv2dConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor};
use segloss::burn::{Bridge, HeadTensors};
use segloss::{Head, Loss, LossSpec, wgpu};

/// A wgpu device that records its calls, for burn.
fn traced(folder: &Path) -> WgpuSetup {
    let instance = wgpu::Instance::default();
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
    let adapter = adapter.expect("an adapter");
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: adapter.limits(),
        required_features: adapter.features() - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS,
        trace: wgpu::Trace::Directory(folder.to_owned()),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the device opens");
    let backend = adapter.get_info().backend;
    WgpuSetup { instance, adapter, device, queue, backend }
}

/// Runs `work` on a traced device, and returns the trace.
fn trace(name: &str, work: impl FnOnce(&Device, &WgpuSetup)) -> String {
    let folder = std::env::temp_dir().join(format!("segloss-burn-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the trace");
    let setup = traced(&folder);
    let device = Device::wgpu_options().setup(setup.clone()).init().expect("burn takes the device");
    work(&device, &setup);
    device.sync().expect("the device works");
    let trace = std::fs::read_to_string(folder.join("trace.ron")).expect("a trace");
    std::fs::remove_dir_all(&folder).expect("the trace is removed");
    trace
}

/// A call of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    /// A dispatch of a pipeline, by its label: "segloss: " and the stage, or what burn names a kernel.
    Dispatch(String),
    /// Something that is made, with a label of segloss's.
    Make(&'static str),
}

/// Reads the trace line by line. A thing that is made tells its label in the lines that follow.
fn calls(trace: &str) -> Vec<Call> {
    let between = |line: &str, from: &str, to: &str| -> Option<String> {
        Some(line.split_once(from)?.1.split_once(to)?.0.to_owned())
    };
    let kinds = ["ComputePipeline", "BindGroup", "Buffer", "ShaderModule", "BindGroupLayout", "PipelineLayout"];
    let (mut stages, mut calls) = (BTreeMap::new(), Vec::new());
    let (mut made, mut id, mut current) = (None, None, String::new());
    for line in trace.lines() {
        if let Some(kind) = kinds.into_iter().find(|kind| line.starts_with(&format!("Create{kind}("))) {
            (made, id) = (Some(kind), between(line, "PointerId(", ")"));
        } else if line.starts_with(|first: char| first.is_ascii_uppercase()) {
            made = None;
        }
        if let Some(kind) = made {
            id = id.or_else(|| between(line, "id: PointerId(", ")"));
            if let Some(label) = between(line, "label: Some(\"", "\"") {
                if let (Some(id), "ComputePipeline") = (&id, kind) {
                    stages.insert(id.clone(), label.split(',').next().unwrap_or_default().to_owned());
                }
                if label.starts_with("segloss") {
                    calls.push(Call::Make(kind));
                }
                made = None;
            }
        }
        if let Some(pipeline) = between(line, "SetPipeline(PointerId(", ")") {
            current = pipeline;
        } else if line.trim_start().starts_with("DispatchWorkgroups(") {
            calls.push(Call::Dispatch(stages.get(&current).cloned().unwrap_or_default()));
        }
    }
    calls
}

fn is(call: &Call, stage: &str) -> bool {
    matches!(call, Call::Dispatch(name) if name == stage)
}

fn is_burns(call: &Call) -> bool {
    matches!(call, Call::Dispatch(name) if !name.starts_with("segloss"))
}

/// The calls behind the last mark.
fn behind_mark(calls: &[Call]) -> &[Call] {
    let mark = calls.iter().rposition(|call| matches!(call, Call::Make(_))).expect("the mark");
    &calls[mark + 1..]
}

fn mark(setup: &WgpuSetup, label: &str) {
    let usage = wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: Some(label), size: 4, usage, mapped_at_creation: false };
    drop(setup.device.create_buffer(&descriptor));
}

/// Steps of the example's U-Net, with a loss of three heads: `SEGLOSS_REST_STEPS`, or few, since a software driver is slow.
#[test]
fn steps_of_a_unet_bind_a_few_buffers_and_then_nothing() {
    let wanted: usize = std::env::var("SEGLOSS_REST_STEPS").map_or(20, |steps| steps.parse().expect("a number"));
    let calls = calls(&trace("unet", |device, setup| {
        let bridge = Bridge::new(device, setup).unwrap();
        let device = device.clone().autodiff();
        let mut network = unet::UNet::new(4, &device);
        let mut optimiser = AdamConfig::new().init();
        let head = |_| Head::new([], Loss::nnunet_dc_ce()).resample([]);
        let spec = LossSpec { heads: (0..unet::HEADS).map(head).collect() };
        for _ in 0..wanted {
            let images = Tensor::<4>::random([2, 1, 32, 32], Distribution::Default, &device);
            let labels = Tensor::<3>::random([2, 32, 32], Distribution::Uniform(0.0, 4.0), &device).int();
            let heads = network.forward(images).into_iter();
            let heads = heads.map(|logits| HeadTensors::labels(logits, labels.clone()));
            let loss = bridge.loss(&spec, heads).unwrap();
            let gradients = GradientsParams::from_grads(loss.total.backward(), &network);
            network = optimiser.step(1e-3, network, gradients);
            drop(loss.report.read_blocking().unwrap());
        }
    }));
    let mut steps = 0;
    let mut made: Vec<(usize, &str)> = Vec::new();
    for call in &calls {
        match call {
            Call::Make(kind) => made.push((steps, kind)),
            Call::Dispatch(_) => steps += usize::from(is(call, "segloss: finish")),
        }
    }
    assert_eq!(steps, wanted);
    let bound: Vec<usize> = made.iter().filter(|(_, kind)| *kind == "BindGroup").map(|(step, _)| *step).collect();
    let last = made.iter().map(|(step, _)| *step).max();
    println!("{} bind groups, in steps {bound:?}; nothing is made after step {last:?}", bound.len());
    assert!(last.is_some_and(|last| last < wanted / 2), "in step {last:?} something was made");
}

/// In a step at rest on logits that are in memory, no dispatch of burn's precedes the loss, and none follows the gradient.
#[test]
fn no_dispatch_of_burns_copies_contiguous_logits_or_their_gradient() {
    let calls = calls(&trace("leaf", |device, setup| {
        let bridge = Bridge::new(device, setup).unwrap();
        let device = device.clone().autodiff();
        let spec = LossSpec::new().head(Head::new([], Loss::monai_dice_ce()));
        let labels = Tensor::<3, Int>::zeros([2, 8, 8], &device);
        let logits = Tensor::<4>::random([2, 3, 8, 8], Distribution::Default, &device).require_grad();
        let step = || {
            let loss = bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels.clone())]).unwrap();
            logits.grad(&loss.total.backward()).unwrap().into_data()
        };
        (0..3).for_each(|_| drop(step()));
        mark(setup, "segloss: mark");
        drop(step());
    }));
    let at_rest = behind_mark(&calls);
    println!("{at_rest:?}");
    assert!(at_rest.first().is_some_and(|call| is(call, "segloss: statistics")), "something precedes the loss");
    assert!(at_rest.last().is_some_and(|call| is(call, "segloss: gradient")), "something follows the gradient");
    // one makes the gradient of the total
    assert!(at_rest.iter().filter(|call| is_burns(call)).count() <= 1, "burn does more than begin the backward");
}

/// A loss behind a convolution.
#[derive(Clone, Copy, PartialEq)]
enum Behind {
    /// Of the logits as the convolution wrote them.
    Ours,
    /// Of the logits with two axes swapped, which is neither memory format.
    OursTransposed,
    /// The mean of their squares, by burn.
    Burns,
}

/// The dispatches of a step at rest: a convolution, a loss, and the backward of both.
fn step_of_a_convolution(name: &str, behind: Behind) -> Vec<Call> {
    let calls = calls(&trace(name, |device, setup| {
        let bridge = Bridge::new(device, setup).unwrap();
        let device = device.clone().autodiff();
        let spec = LossSpec::new().head(Head::new([], Loss::monai_dice_ce()));
        let labels = Tensor::<3, Int>::zeros([2, 8, 8], &device);
        let convolution = Conv2dConfig::new([5, 3], [1, 1]).init(&device);
        let images = Tensor::<4>::random([2, 5, 8, 8], Distribution::Default, &device);
        let loss = |logits: Tensor<4>| match behind {
            Behind::Burns => logits.square().mean(),
            Behind::Ours => bridge.loss(&spec, [HeadTensors::labels(logits, labels.clone())]).unwrap().total,
            Behind::OursTransposed => {
                bridge.loss(&spec, [HeadTensors::labels(logits.swap_dims(2, 3), labels.clone())]).unwrap().total
            }
        };
        let step = || {
            let total = loss(convolution.forward(images.clone()));
            drop(GradientsParams::from_grads(total.backward(), &convolution));
            device.sync().unwrap();
        };
        (0..3).for_each(|_| step());
        mark(setup, "segloss: mark");
        step();
    }));
    println!("{:?}", behind_mark(&calls));
    behind_mark(&calls).to_vec()
}

/// The same for logits that a convolution computes, which lie channels last: nothing stands between it and the loss, and its
/// backward copies no more than behind a loss of burn's own. Strides that are in no format are copied, so a copy is seen here.
#[test]
fn no_dispatch_of_burns_copies_the_logits_of_a_convolution_or_their_gradient() {
    let is_copy = |call: &Call| matches!(call, Call::Dispatch(name) if name.contains("copy"));
    let copies = |step: &[Call]| step.iter().filter(|call| is_copy(call)).count();
    let before_loss = |step: &[Call]| {
        let loss = step.iter().position(|call| is(call, "segloss: statistics")).expect("a loss");
        step[loss - 1].clone()
    };
    let ours = step_of_a_convolution("convolution", Behind::Ours);
    let transposed = step_of_a_convolution("transposed", Behind::OursTransposed);
    let burns = step_of_a_convolution("burns", Behind::Burns);
    assert!(matches!(before_loss(&ours), Call::Dispatch(name) if name.contains("conv")), "something precedes the loss");
    assert!(is_copy(&before_loss(&transposed)), "logits in neither format are not copied");
    let (ours, burns) = (copies(&ours), copies(&burns));
    assert!(ours <= burns, "{ours} copies in a step with this loss, {burns} with burn's");
}

/// What is kept holds buffers of burn's pool, but not for ever.
#[test]
fn buffers_that_no_loss_used_for_a_while_are_destroyed_by_burns_cleanup() {
    const LARGE: u64 = 16 << 20;
    let trace = trace("cleanup", |device, setup| {
        let bridge = Bridge::new(device, setup).unwrap();
        let spec = LossSpec::new().head(Head::new([], Loss::monai_dice_ce()));
        let loss = |side: usize| {
            let logits = Tensor::<4>::zeros([1, 4, side, side], &device.clone().autodiff()).require_grad();
            let labels = Tensor::<3, Int>::zeros([1, side, side], device);
            let loss = bridge.loss(&spec, [HeadTensors::labels(logits, labels)]).unwrap();
            drop(loss.total.backward());
            drop(loss.report.read_blocking().unwrap());
        };
        let clean = |name| {
            device.sync().unwrap();
            device.memory_cleanup();
            device.sync().unwrap();
            mark(setup, name);
        };
        loss(1024);
        clean("mark: kept");
        // other shapes, as in a validation
        (0..65).for_each(|_| loss(16));
        clean("mark: idle");
        loss(1024);
        bridge.release();
        clean("mark: released");
    });
    let id = |line: &str| Some(line.split_once("PointerId(")?.1.split_once(')')?.0.to_owned());
    let (mut made, mut large, mut left) = (None, Vec::new(), BTreeMap::new());
    for line in trace.lines() {
        if line.starts_with("CreateBuffer(") {
            made = id(line);
        } else if line.starts_with("DropBuffer(") {
            large.retain(|buffer| Some(buffer) != id(line).as_ref());
        } else if let Some((_, mark)) = line.split_once("\"mark: ") {
            left.insert(mark.split('"').next().unwrap_or_default().to_owned(), large.len());
        } else if let Some(size) = line.trim().strip_prefix("size: ") {
            let size: u64 = size.trim_end_matches(',').parse().unwrap_or(0);
            large.extend(made.take().filter(|_| size >= LARGE));
        }
    }
    println!("large buffers: {left:?}");
    assert!(left["kept"] > 0, "{left:?}: nothing is kept, or the trace is not understood");
    assert_eq!((left["idle"], left["released"]), (0, 0), "{left:?}");
}
