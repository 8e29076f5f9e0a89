//! The floor: the time of the fastest kernel that reads the same bytes and adds them up, and of the fastest that copies
//! them. Both are chosen from a fixed grid of variants, on the same adapter in the same run. On a software driver this
//! is the driver's floor, not the memory's.

use anyhow::{Context as _, Result, ensure};
use segloss::tuning::Clock;
use segloss::wgpu;
use segloss::wgpu::util::DeviceExt as _;

use crate::read_back::read_back;

/// Elements of 4 bytes in one load.
const WIDTHS: [u32; 3] = [1, 2, 4];
const WORKGROUPS: [u32; 4] = [8, 32, 64, 256];
/// Loads per invocation; first those that are seldom slow.
const LOADS: [u32; 5] = [64, 256, 16, 4, 1];
/// Runs of each variant before the fastest is chosen.
const TRIALS: usize = 3;
/// A variant whose first run takes so many times the least is not run again: on a software driver, many workgroups of few loads take
/// seconds.
pub const HOPELESS: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Copy,
}

/// A kernel of the grid, ready to run.
pub struct Floor {
    pub name: String,
    pub bytes: u64,
    dispatches: Vec<(wgpu::ComputePipeline, wgpu::BindGroup, [u32; 2])>,
}

impl Floor {
    pub fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        for (pipeline, bindings, grid) in &self.dispatches {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bindings, &[]);
            pass.dispatch_workgroups(grid[0], grid[1], 1);
        }
    }

    /// The fastest kernel of the grid over this many bytes, out of those that are right.
    pub fn fastest(clock: &Clock, kind: Kind, bytes: u64) -> Result<Self> {
        Self::fastest_of(clock, kind, bytes, &WIDTHS, &WORKGROUPS, &LOADS)
    }

    /// The fastest of a small part of the grid, for measurements of many sizes.
    pub fn usual(clock: &Clock, kind: Kind, bytes: u64) -> Result<Self> {
        let workgroups = if clock.software { [8] } else { [256] };
        Self::fastest_of(clock, kind, bytes, &[1, 4], &workgroups, &[1, 16, 64])
    }

    fn fastest_of(
        clock: &Clock,
        kind: Kind,
        bytes: u64,
        widths: &[u32],
        workgroups: &[u32],
        all_loads: &[u32],
    ) -> Result<Self> {
        let bytes = bytes.next_multiple_of(16);
        let words = u32::try_from(bytes / 4).context("a floor of at most 16 GiB")?;
        let contents: Vec<u32> = (0..words).map(|i| i % 251).collect();
        let buffer = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            clock.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let floats: Vec<f32> = contents.iter().map(|&i| f32::from(u8::try_from(i).expect("below 251"))).collect();
        let input = buffer(bytemuck::cast_slice(&floats));
        let output = buffer(&vec![0; usize::try_from(bytes)?]);
        let mut fastest: Option<(f64, Self)> = None;
        for &width in widths {
            for &workgroup in workgroups {
                for &loads in all_loads {
                    let candidate = Self::candidate(clock, kind, [width, workgroup, loads], &input, &output)?;
                    let mut least = clock.time(&|pass| candidate.encode(pass))?;
                    if fastest.as_ref().is_some_and(|(time, _)| least > HOPELESS * time) {
                        continue;
                    }
                    candidate.check(clock, kind, &floats, &output)?;
                    for _ in 1..TRIALS {
                        least = least.min(clock.time(&|pass| candidate.encode(pass))?);
                    }
                    if fastest.as_ref().is_none_or(|(time, _)| least < *time) {
                        fastest = Some((least, candidate));
                    }
                }
            }
        }
        Ok(fastest.context("the grid is not empty")?.1)
    }

    /// Checks what the kernel writes: the same words, or sums that add up to the sum of the words. All words are small
    /// whole numbers, so the sums are exact.
    fn check(&self, clock: &Clock, kind: Kind, input: &[f32], output: &wgpu::Buffer) -> Result<()> {
        let mut encoder = clock.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(output, 0, None);
        self.encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        clock.queue.submit([encoder.finish()]);
        let given: Vec<f32> = bytemuck::pod_collect_to_vec(&read_back(&clock.device, &clock.queue, output)?);
        let sum = |values: &[f32]| values.iter().map(|&x| f64::from(x)).sum::<f64>();
        let right = match kind {
            Kind::Copy => given == input,
            Kind::Read => sum(&given).to_bits() == sum(input).to_bits(),
        };
        ensure!(right, "{} is wrong: it is no floor", self.name);
        Ok(())
    }

    fn candidate(
        clock: &Clock,
        kind: Kind,
        [width, workgroup, loads]: [u32; 3],
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<Self> {
        let limits = clock.device.limits();
        // one dispatch per window of at most a binding's size, each a whole number of workgroups
        let tile = u64::from(width * workgroup * loads) * 4;
        let window = (limits.max_storage_buffer_binding_size / tile.max(256) * tile.max(256))
            .min(input.size().next_multiple_of(256));
        let (name, source) = self::candidate(kind, [width, workgroup, loads]);
        let descriptor = wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(source.into()) };
        // SAFETY: every index is compared with the length of the arrays before it is used.
        let module =
            unsafe { clock.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) };
        let pipeline = clock.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let mut dispatches = Vec::new();
        let mut first = 0;
        while first < input.size() {
            let size = window.min(input.size() - first);
            let binding = |buffer| wgpu::BufferBinding { buffer, offset: first, size: std::num::NonZeroU64::new(size) };
            let bindings = clock.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(binding(input)) },
                    wgpu::BindGroupEntry { binding: 1, resource: wgpu::BindingResource::Buffer(binding(output)) },
                ],
            });
            let workgroups = u32::try_from(size.div_ceil(tile))?;
            let longest = limits.max_compute_workgroups_per_dimension;
            let y = workgroups.div_ceil(longest).max(1);
            dispatches.push((pipeline.clone(), bindings, [workgroups.div_ceil(y), y]));
            first += size;
        }
        let bytes = if kind == Kind::Read { input.size() } else { 2 * input.size() };
        Ok(Self { name, bytes, dispatches })
    }
}

/// The name and the WGSL of a kernel of the grid.
pub fn candidate(kind: Kind, [width, workgroup, loads]: [u32; 3]) -> (String, String) {
    let kind_name = if kind == Kind::Read { "read-and-sum" } else { "copy" };
    let name = format!("{kind_name}, {width}-wide, {workgroup} invocations, {loads} loads each");
    (name, text(kind, width, workgroup, loads))
}

/// The WGSL. An invocation's loads are a workgroup apart, so that neighbours read neighbouring addresses.
fn text(kind: Kind, width: u32, workgroup: u32, loads: u32) -> String {
    let element = match width {
        1 => "f32".to_owned(),
        width => format!("vec{width}<f32>"),
    };
    let (before, body, after) = match kind {
        Kind::Read => {
            ("var sum = ELEMENT();", "sum += source[i];", "destination[number * WORKGROUP + invocation] = sum;")
        }
        Kind::Copy => ("", "destination[i] = source[i];", ""),
    };
    format!(
        "alias ELEMENT = {element};
const WORKGROUP = {workgroup}u;
const LOADS = {loads}u;
@group(0) @binding(0) var<storage, read> source: array<ELEMENT>;
@group(0) @binding(1) var<storage, read_write> destination: array<ELEMENT>;
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {{
    let number = id.x + id.y * grid.x;
    let first = number * WORKGROUP * LOADS + invocation;
    let end = min(number * WORKGROUP * LOADS + WORKGROUP * LOADS, arrayLength(&source));
    if first >= arrayLength(&source) {{ return; }}
    {before}
    for (var i = first; i < end; i += WORKGROUP) {{ {body} }}
    {after}
}}
"
    )
}
