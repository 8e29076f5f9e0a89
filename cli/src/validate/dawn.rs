//! A second implementation of WebGPU: Dawn runs the dispatches of plans that wgpu made, on the same tensors.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use segloss::host::{self, HostStep};
use segloss::testing::cases::{self, Case};
use segloss::testing::{Differences, GRADIENT_BOUND, LOSS_BOUND, Plans, Tensors};
use segloss::{Access, LossSpec, Recipe, wgpu};
use serde::{Deserialize, Serialize};

use super::record::Tool;
use super::tools::{for_tint, node};

/// Every so many of the published cases.
const STRIDE: usize = 8;

#[derive(Serialize)]
struct Steps {
    backend: String,
    steps: Vec<StepData>,
}

/// A step that anyone can run: buffers with what they hold, dispatches, and the ranges to look at afterwards.
#[derive(Serialize)]
struct StepData {
    name: String,
    buffers: Vec<String>,
    dispatches: Vec<DispatchData>,
    outputs: Vec<Range>,
}

#[derive(Serialize)]
struct DispatchData {
    source: String,
    entry_point: &'static str,
    bindings: Vec<Range>,
    grid: [u32; 2],
}

#[derive(Serialize)]
struct Range {
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<&'static str>,
    buffer: usize,
    offset: u64,
    size: u64,
}

#[derive(Deserialize)]
struct Answers {
    adapter: String,
    steps: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    name: String,
    outputs: Vec<String>,
    error: Option<String>,
}

/// What wgpu computed.
struct Expected {
    spec: LossSpec,
    total: f32,
    gradients: Vec<Vec<f32>>,
}

/// Runs published cases and the steps that show every kernel in Dawn, and compares with wgpu on `adapter`.
pub fn replay(adapter: &wgpu::Adapter, cases: &[Case], folder: &Path, backend: &str) -> Tool {
    let mut tool = Tool::new("Dawn", "");
    match run(adapter, cases, folder, backend, &mut tool) {
        Ok(dawn) => {
            let info = adapter.get_info();
            tool.question = format!(
                "on {dawn}, plans that wgpu made on {} compute the same loss and gradient, to rounding",
                info.name
            );
        }
        Err(error) => tool.absent = Some(format!("{error:#}")),
    }
    tool
}

fn run(adapter: &wgpu::Adapter, cases: &[Case], folder: &Path, backend: &str, tool: &mut Tool) -> Result<String> {
    // the limits that every WebGPU device has, and no feature: any implementation can run these plans
    let descriptor = wgpu::DeviceDescriptor { required_limits: wgpu::Limits::default(), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    let mut trials: Vec<(String, LossSpec, Vec<Tensors>)> = super::numbers::steps()
        .into_iter()
        .map(|(name, spec)| (name.to_owned(), spec.clone(), super::numbers::tensors(&spec)))
        .collect();
    for case in cases.iter().step_by(STRIDE) {
        if let Ok((spec, tensors)) = cases::trial(case) {
            trials.push((case.id.clone(), spec, tensors));
        }
    }
    let plans = Plans::new(&device, &queue);
    let (mut steps, mut all_expected) = (Vec::new(), Vec::new());
    for (name, spec, tensors) in trials {
        let plan = plans.plan(&spec)?;
        let step = HostStep::new(&plan, &tensors.iter().map(Tensors::host).collect::<Vec<_>>(), 1.0)?;
        // before the first run: scratch is as it was made
        steps.push(data(&device, &queue, &name, &step)?);
        let result = step.run()?;
        all_expected.push(Expected { spec, total: result.report.total, gradients: result.gradients });
    }
    let count = steps.len();
    let answers: Answers = node(folder, "replay.mjs", &Steps { backend: backend.to_owned(), steps })?;
    ensure!(answers.steps.len() == count, "expected {count} answers, got {}", answers.steps.len());
    for (answer, expected) in answers.steps.into_iter().zip(&all_expected) {
        let name = answer.name.clone();
        tool.check(&name, compare(answer, expected).map_err(|error| format!("{error:#}")));
    }
    Ok(answers.adapter)
}

fn data(device: &wgpu::Device, queue: &wgpu::Queue, name: &str, step: &HostStep) -> Result<StepData> {
    let recipes = step.step().recipes();
    let mut buffers: Vec<wgpu::Buffer> = Vec::new();
    let mut index = |buffer: &wgpu::Buffer| {
        buffers.iter().position(|known| known == buffer).unwrap_or_else(|| {
            buffers.push(buffer.clone());
            buffers.len() - 1
        })
    };
    let dispatches: Vec<_> = recipes
        .iter()
        .map(|Recipe { source, entry_point, bindings, grid }| DispatchData {
            source: for_tint(source),
            entry_point,
            bindings: bindings
                .iter()
                .map(|range| Range {
                    access: Some(match range.access {
                        Access::Uniform => "uniform",
                        Access::Read => "read",
                        Access::ReadWrite => "read_write",
                    }),
                    buffer: index(&range.buffer),
                    offset: range.offset,
                    size: range.size,
                })
                .collect(),
            grid: *grid,
        })
        .collect();
    let finish = recipes.iter().find(|recipe| recipe.entry_point == "finish").context("a step has a finish")?;
    // table, statistics, coefficients, report
    let report = &finish.bindings.get(3).context("finish writes a report")?.buffer;
    let outputs = std::iter::once(report).chain(step.gradients());
    let outputs = outputs.map(|buffer| Range { access: None, buffer: index(buffer), offset: 0, size: buffer.size() });
    let outputs = outputs.collect();
    let contents = buffers.iter().map(|buffer| Ok(BASE64_STANDARD.encode(download(device, queue, buffer)?)));
    Ok(StepData { name: name.to_owned(), buffers: contents.collect::<Result<_>>()?, dispatches, outputs })
}

fn download(device: &wgpu::Device, queue: &wgpu::Queue, buffer: &wgpu::Buffer) -> Result<Vec<u8>> {
    let host = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &host, 0, buffer.size());
    encoder.map_buffer_on_submit(&host, wgpu::MapMode::Read, .., |_| {});
    queue.submit([encoder.finish()]);
    device.poll(wgpu::PollType::wait_indefinitely())?;
    Ok(host.get_mapped_range(..)?.to_vec())
}

fn compare(answer: Answer, expected: &Expected) -> Result<()> {
    if let Some(error) = answer.error {
        bail!("{error}");
    }
    let outputs: Vec<Vec<u8>> =
        answer.outputs.iter().map(|output| BASE64_STANDARD.decode(output)).collect::<Result<_, _>>()?;
    ensure!(outputs.len() == 1 + expected.gradients.len(), "{} outputs", outputs.len());
    let total = outputs[0].first_chunk::<4>().map(|bytes| f32::from_le_bytes(*bytes)).context("a report")?;
    let distance = |given: f32, expected: f32| {
        let same = given.to_bits() == expected.to_bits() || given.is_nan() && expected.is_nan();
        if same { 0.0 } else { (f64::from(given) - f64::from(expected)).abs() }
    };
    let mut worst =
        Differences { loss: distance(total, expected.total) / f64::from(expected.total.abs().max(1.0)), gradient: 0.0 };
    for ((head, bytes), expected) in expected.spec.heads.iter().zip(&outputs[1..]).zip(&expected.gradients) {
        let given = host::floats_of_bytes(bytes, head.logits);
        ensure!(given.len() >= expected.len(), "a gradient of {} elements", given.len());
        let largest = expected.iter().fold(f32::MIN_POSITIVE, |a, x| a.max(x.abs()));
        let apart = given.iter().zip(expected).map(|(&x, &e)| distance(x, e)).fold(0.0, f64::max);
        // a half may be rounded to its neighbour
        let step = match head.logits {
            segloss::FloatType::F32 => 0.0,
            segloss::FloatType::F16 => 2.0_f64.powi(-10),
            segloss::FloatType::Bf16 => 2.0_f64.powi(-7),
        };
        worst.gradient = worst.gradient.max((apart / f64::from(largest) - step).max(0.0));
    }
    let right = worst.loss <= 2.0 * LOSS_BOUND && worst.gradient <= 2.0 * GRADIENT_BOUND;
    ensure!(right, "the loss is off by {:.1e}, the gradient by {:.1e}", worst.loss, worst.gradient);
    Ok(())
}
