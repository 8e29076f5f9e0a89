//! Checks with Dawn, a second implementation of WebGPU: it runs the dispatches of plans that wgpu made, on the same
//! tensors.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use segloss::host::{self, HostResult, HostStep};
use segloss::testing::cases::{self, Case};
use segloss::testing::{self, Expected, Place, Plans, Pool, PooledGradient, Tensors, Tolerance, compare};
use segloss::{Access, FloatType, LossSpec, Recipe, Report, Step, Variant, wgpu};
use serde::{Deserialize, Serialize};

use super::record::Tool;
use super::tools::{for_tint, node};
use crate::read_back::read_back;

/// One in this many of the published cases is run.
const STRIDE: usize = 8;

#[derive(Serialize)]
struct Steps {
    backend: String,
    steps: Vec<StepData>,
}

/// A step as data: buffers with their contents, dispatches, and the ranges to read back.
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

/// Runs published cases and the steps that cover every kernel in Dawn, and compares the results with wgpu's on
/// `adapter`.
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
    // WebGPU's default limits and no features, so that any implementation can run these plans
    let descriptor = wgpu::DeviceDescriptor { required_limits: wgpu::Limits::default(), ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
    let plans = Plans::new(&device, &queue);
    let (mut steps, mut all_expected) = (Vec::new(), Vec::new());
    for (name, variant, places) in pooled_variants(&device) {
        for &place in places {
            let name = format!("eight heads in one buffer, {name}, {place:?}");
            let (spec, tensors) = eight_heads(place);
            let pool = Pool::new(&spec, &tensors, |_| PooledGradient::Overwrite, |_, _| place);
            let buffers = pool.upload(&device);
            let step = plans.with_variant(&spec, variant)?.bind(&pool.bindings(&buffers))?;
            let outputs = pool.gradients().map(|(buffer, bytes)| {
                let [start, end] = [bytes.start as u64, bytes.end as u64];
                (&buffers[buffer], start..end)
            });
            steps.push(data(&device, &queue, &name, &step, outputs)?);
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            step.forward(&mut encoder);
            step.backward(&mut encoder);
            let pending = step.report(&mut encoder)?;
            queue.submit([encoder.finish()]);
            let report = pending.read_blocking()?;
            let after: Vec<Vec<u8>> =
                buffers.iter().map(|buffer| read_back(&device, &queue, buffer)).collect::<Result<_, _>>()?;
            let result = pool.result(report, &after).map_err(|error| anyhow!("{name}: {error}"))?;
            all_expected.push(expected(spec, result));
        }
    }
    let mut trials: Vec<(String, LossSpec, Vec<Tensors>)> = super::numbers::steps()
        .into_iter()
        .map(|(name, spec)| (name.to_owned(), spec.clone(), super::numbers::tensors(&spec)))
        .collect();
    for case in cases.iter().step_by(STRIDE) {
        if let Ok((spec, tensors)) = cases::trial(case) {
            trials.push((case.id.clone(), spec, tensors));
        }
    }
    for (name, spec, tensors) in trials {
        let plan = plans.plan(&spec)?;
        let step = HostStep::new(&plan, &tensors.iter().map(Tensors::data).collect::<Vec<_>>(), 1.0)?;
        // before the first run, while the scratch buffers have their initial contents
        let outputs = step.gradients().map(|gradient| (gradient, 0..gradient.size()));
        steps.push(data(&device, &queue, &name, step.step(), outputs)?);
        all_expected.push(expected(spec, step.run()?));
    }
    let count = steps.len();
    let answers: Answers = node(folder, "replay.mjs", &Steps { backend: backend.to_owned(), steps })?;
    ensure!(answers.steps.len() == count, "expected {count} answers, got {}", answers.steps.len());
    for (answer, (expected, spec)) in answers.steps.into_iter().zip(&all_expected) {
        let name = answer.name.clone();
        tool.check(&name, check(answer, spec, expected).map_err(|error| format!("{error:#}")));
    }
    Ok(answers.adapter)
}

/// Where an allocator may place tensors: at the largest offset alignment of a device, and at odd elements.
const PLACES: [Place; 3] = [
    Place { buffer: 0, alignment: 256, gap: 0 },
    Place { buffer: 0, alignment: 256, gap: 1 },
    Place { buffer: 0, alignment: 1, gap: 3 },
];

/// The device's variant, and one that has all heads in one dispatch, as on hardware: aligned alone, since SwiftShader
/// takes long to compile it.
fn pooled_variants(device: &wgpu::Device) -> [(&'static str, Variant, &'static [Place]); 2] {
    let variant = Variant::for_device(device);
    let one_dispatch = Variant { heads_per_dispatch: u32::MAX, ..variant };
    [("its variant", variant, &PLACES), ("one dispatch", one_dispatch, &PLACES[..1])]
}

/// Eight heads of f32; every other of f16 where tensors follow each other closely.
fn eight_heads(place: Place) -> (LossSpec, Vec<Tensors>) {
    let mut spec = testing::eight_heads();
    if place.alignment == 1 {
        spec.heads.iter_mut().step_by(2).for_each(|head| head.logits = FloatType::F16);
    }
    let tensors = super::numbers::tensors(&spec);
    (spec, tensors)
}

/// What Dawn is expected to compute: of its report only the total is compared.
fn expected(spec: LossSpec, result: HostResult) -> (Expected, LossSpec) {
    let result = HostResult { report: Report { heads: Vec::new(), ..result.report }, ..result };
    (Expected::of_result(&spec, &result), spec)
}

/// A step as data. `outputs`: the bytes of each head's gradient.
fn data<'a>(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    name: &str,
    step: &Step,
    outputs: impl Iterator<Item = (&'a wgpu::Buffer, std::ops::Range<u64>)>,
) -> Result<StepData> {
    let recipes = step.recipes();
    let mut buffers: Vec<wgpu::Buffer> = Vec::new();
    let mut index = |buffer: &wgpu::Buffer| {
        buffers.iter().position(|known| known == buffer).unwrap_or_else(|| {
            buffers.push(buffer.clone());
            buffers.len() - 1
        })
    };
    let dispatches: Vec<_> = recipes
        .iter()
        .map(|Recipe { source, entry_point, bindings, grid, .. }| DispatchData {
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
    let mut output = |buffer: &wgpu::Buffer, bytes: std::ops::Range<u64>| Range {
        access: None,
        buffer: index(buffer),
        offset: bytes.start,
        size: bytes.end - bytes.start,
    };
    let report = output(report, 0..report.size());
    let outputs = std::iter::once(report).chain(outputs.map(|(buffer, bytes)| output(buffer, bytes))).collect();
    let contents = buffers.iter().map(|buffer| Ok(BASE64_STANDARD.encode(read_back(device, queue, buffer)?)));
    Ok(StepData { name: name.to_owned(), buffers: contents.collect::<Result<_>>()?, dispatches, outputs })
}

/// Compares Dawn's answer with wgpu's result. Two devices may be twice as far apart as one may be from the reference.
fn check(answer: Answer, spec: &LossSpec, expected: &Expected) -> Result<()> {
    if let Some(error) = answer.error {
        bail!("{error}");
    }
    let outputs: Vec<Vec<u8>> =
        answer.outputs.iter().map(|output| BASE64_STANDARD.decode(output)).collect::<Result<_, _>>()?;
    ensure!(outputs.len() == 1 + spec.heads.len(), "{} outputs", outputs.len());
    let total = outputs[0].first_chunk::<4>().map(|bytes| f32::from_le_bytes(*bytes)).context("a report")?;
    let heads = spec.heads.iter().zip(&outputs[1..]).zip(&expected.heads);
    let gradients = heads.map(|((head, bytes), expected)| {
        let mut gradient = host::floats_of_bytes(bytes, head.logits);
        // buffers are padded to whole words
        gradient.truncate(expected.gradient.as_ref().map_or(0, Vec::len));
        gradient
    });
    let report = Report { total, heads: Vec::new() };
    let given = HostResult { report, gradients: gradients.collect(), voxel_losses: Vec::new() };
    let Tolerance { loss, gradient, soft_dice } = Tolerance::DEVICE;
    let tolerance = Tolerance { loss: 2.0 * loss, gradient: 2.0 * gradient, soft_dice };
    compare(expected, &given, tolerance).tolerated().map(drop).map_err(|phrases| anyhow!(phrases))
}
