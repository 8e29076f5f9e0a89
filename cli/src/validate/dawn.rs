//! Checks with Dawn, a second implementation of WebGPU: it runs the dispatches of plans that wgpu made, on the same
//! tensors.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use segloss::host::{self, HostResult, HostStep};
use segloss::testing::cases::{self, Case};
use segloss::testing::{Expected, Plans, Tensors, Tolerance, compare};
use segloss::{Access, LossSpec, Recipe, Report, wgpu};
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
        let step = HostStep::new(&plan, &tensors.iter().map(Tensors::data).collect::<Vec<_>>(), 1.0)?;
        // before the first run, while the scratch buffers have their initial contents
        steps.push(data(&device, &queue, &name, &step)?);
        let result = step.run()?;
        // of Dawn's report only the total is compared
        let result = HostResult { report: Report { heads: Vec::new(), ..result.report }, ..result };
        all_expected.push((Expected::of_result(&spec, &result), spec));
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
