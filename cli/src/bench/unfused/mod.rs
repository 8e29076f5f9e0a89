//! Dice + label-smoothed cross-entropy as a tensor library computes it, for comparison with the fused kernels: one
//! kernel per operation, each result a tensor as large as the logits.
//!
//! The passes, forward: maximum over classes; z − max; exp; sum over classes; softmax p; one-hot t; p·t; I, P, T by
//! reductions over voxels; log-softmax; smoothed target q; q·log s; its reduction. Backward: κ (p − q), the slope of
//! the overlap term, p·slope, its sum over classes, p·(slope − sum), and the sum of both gradients. All passes are
//! tuned together over the floor's grid of loads, workgroups and widths, and the result is compared with the fused
//! kernels'.

use anyhow::{Result, ensure};
use segloss::testing::Tensors;
use segloss::tuning::Clock;
use segloss::wgpu;
use segloss::wgpu::util::DeviceExt as _;

use super::floor::HOPELESS;
use super::workload::Workload;
use crate::read_back::read_back;

const WIDTHS: [u32; 3] = [1, 2, 4];
const WORKGROUPS: [u32; 4] = [8, 32, 64, 256];
/// First those that are seldom slow.
const LOADS: [u32; 4] = [64, 16, 4, 1];

/// Tensors of the pipeline, by number.
#[derive(Clone, Copy)]
enum Slot {
    Logits,
    /// Labels in f32.
    Labels,
    /// A tensor with a class axis.
    Full(usize),
    /// A tensor without a class axis.
    Voxels(usize),
    Partials,
    Coefficients,
    Gradient,
}

struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    grid: [u32; 2],
}

/// The pipeline on a workload's tensors.
pub struct Unfused {
    forward: Vec<Dispatch>,
    backward: Vec<Dispatch>,
}

impl Unfused {
    pub fn new(clock: &Clock, ours: &Workload, smoothing: f32) -> Result<Self> {
        ensure!(ours.spec.heads.len() == 1, "the unfused pipeline has one head");
        let tensors = Buffers::new(clock, ours, smoothing)?;
        let mut fastest: Option<(f64, Self)> = None;
        let mut checked = false;
        for width in WIDTHS {
            if tensors.voxels % width != 0 {
                continue;
            }
            for workgroup in WORKGROUPS {
                for loads in LOADS {
                    let candidate = Self::candidate(clock, &tensors, width, workgroup, loads);
                    let run = |pass: &mut wgpu::ComputePass<'_>| {
                        candidate.forward(pass);
                        candidate.backward(pass);
                    };
                    let first = clock.time(&run)?;
                    if !checked {
                        tensors.check(clock, ours)?;
                        checked = true;
                    }
                    if fastest.as_ref().is_some_and(|(least, _)| first > HOPELESS * least) {
                        continue;
                    }
                    let time = clock.time(&run)?;
                    if fastest.as_ref().is_none_or(|(least, _)| time < *least) {
                        println!(
                            "unfused: {width}-wide, {workgroup} invocations, {loads} loads each: {:.1} ms",
                            time / 1e6
                        );
                        fastest = Some((time, candidate));
                    }
                }
            }
        }
        let (_, fastest) = fastest.expect("the grid is not empty");
        clock.time(&|pass| {
            fastest.forward(pass);
            fastest.backward(pass);
        })?;
        tensors.check(clock, ours)?;
        Ok(fastest)
    }

    /// With settings that do well on this kind of adapter, for measurements of many shapes. Checked as well.
    pub fn usual(clock: &Clock, ours: &Workload, smoothing: f32) -> Result<Self> {
        let tensors = Buffers::new(clock, ours, smoothing)?;
        let (workgroup, loads) = if clock.software { (8, 64) } else { (256, 4) };
        let width = if tensors.voxels % 4 == 0 { 4 } else { 1 };
        let unfused = Self::candidate(clock, &tensors, width, workgroup, loads);
        clock.time(&|pass| {
            unfused.forward(pass);
            unfused.backward(pass);
        })?;
        tensors.check(clock, ours)?;
        Ok(unfused)
    }

    pub fn forward(&self, pass: &mut wgpu::ComputePass<'_>) {
        encode(&self.forward, pass);
    }

    pub fn backward(&self, pass: &mut wgpu::ComputePass<'_>) {
        encode(&self.backward, pass);
    }

    fn candidate(clock: &Clock, tensors: &Buffers, width: u32, workgroup: u32, loads: u32) -> Self {
        use Slot::{Coefficients, Full, Gradient, Labels, Logits, Partials, Voxels};
        let c = Composer { clock, tensors, width, workgroup, loads };
        let coefficient = |offset: u32| format!("coefficients[{} + 2u * row + {offset}u]", 4 * tensors.rows + 2);
        let kappa = format!("coefficients[{}u]", 4 * tensors.rows + 1);
        let mut forward = vec![
            c.reduce_classes("max(folded, next)", Logits, Voxels(0)),
            c.map("first[i] - third[v]", [Logits, Logits, Voxels(0)], Full(0)),
            c.map("exp(first[i])", [Full(0), Logits, Voxels(0)], Full(1)),
            c.reduce_classes("folded + next", Full(1), Voxels(1)),
            c.map("first[i] / third[v]", [Full(1), Logits, Voxels(1)], Full(2)),
            c.map("select(ELEMENT(), ELEMENT(1.0), third[v] == ELEMENT(f32(c)))", [Logits, Logits, Labels], Full(3)),
            c.map("first[i] * second[i]", [Full(2), Full(3), Voxels(0)], Full(4)),
        ];
        forward.extend(c.reduce_voxels(Full(4), 0));
        forward.extend(c.reduce_voxels(Full(2), tensors.rows));
        forward.extend(c.reduce_voxels(Full(3), 2 * tensors.rows));
        let smoothed = "(1.0 - shape.smoothing) * first[i] + shape.smoothing / f32(shape.classes)";
        forward.extend([
            c.map("first[i] - log(third[v])", [Full(0), Logits, Voxels(1)], Full(1)),
            c.map(smoothed, [Full(3), Logits, Voxels(0)], Full(4)),
            c.map("first[i] * second[i]", [Full(1), Full(4), Voxels(0)], Full(0)),
        ]);
        forward.extend(c.reduce_voxels(Full(0), 3 * tensors.rows));
        forward.push(c.small("finish", 0, Partials, Coefficients, 1));
        let slope = format!("{} * first[i] + {}", coefficient(0), coefficient(1));
        let backward = vec![
            c.map(&format!("{kappa} * (first[i] - second[i])"), [Full(2), Full(4), Voxels(0)], Full(0)),
            c.map(&slope, [Full(3), Logits, Voxels(0)], Full(1)),
            c.map("first[i] * second[i]", [Full(2), Full(1), Voxels(0)], Full(5)),
            c.reduce_classes("folded + next", Full(5), Voxels(0)),
            c.map("first[i] * (second[i] - third[v])", [Full(2), Full(1), Voxels(0)], Full(5)),
            c.map("first[i] + second[i]", [Full(0), Full(5), Voxels(0)], Gradient),
        ];
        Self { forward, backward }
    }
}

fn encode(dispatches: &[Dispatch], pass: &mut wgpu::ComputePass<'_>) {
    for dispatch in dispatches {
        pass.set_pipeline(&dispatch.pipeline);
        pass.set_bind_group(0, &dispatch.bindings, &[]);
        pass.dispatch_workgroups(dispatch.grid[0], dispatch.grid[1], 1);
    }
}

struct Buffers {
    elements: u32,
    rows: u32,
    voxels: u32,
    classes: u32,
    shape: wgpu::Buffer,
    logits: wgpu::Buffer,
    labels: wgpu::Buffer,
    full: Vec<wgpu::Buffer>,
    over_voxels: Vec<wgpu::Buffer>,
    partials: wgpu::Buffer,
    coefficients: wgpu::Buffer,
    gradient: wgpu::Buffer,
}

impl Buffers {
    fn new(clock: &Clock, ours: &Workload, smoothing: f32) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let head = &ours.spec.heads[0];
        let (items, classes, voxels) = (head.items(), head.classes(), head.voxels());
        let elements = u32::try_from(items * classes * voxels)?;
        let storage = |bytes: u64| {
            let usage = Usage::STORAGE | Usage::COPY_SRC;
            clock.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage,
                mapped_at_creation: false,
            })
        };
        let uniform = |contents: &[u8], usage| {
            clock.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let [rows, classes, voxels] = [items * classes, classes, voxels].map(u32::try_from);
        let (rows, classes, voxels) = (rows?, classes?, voxels?);
        let shape = [elements, classes, voxels, smoothing.to_bits()];
        #[expect(clippy::cast_precision_loss, reason = "labels are small")]
        let labels: Vec<f32> =
            Tensors::random(head, super::workload::SPREAD, 1).labels.iter().map(|&label| label as f32).collect();
        let (full, of_voxels) = (u64::from(elements) * 4, u64::from(elements / classes) * 4);
        Ok(Self {
            elements,
            rows,
            voxels,
            classes,
            shape: uniform(bytemuck::bytes_of(&shape), Usage::UNIFORM),
            logits: ours.tensors[0].logits.clone(),
            labels: uniform(bytemuck::cast_slice(&labels), Usage::STORAGE),
            full: (0..6).map(|_| storage(full)).collect(),
            over_voxels: (0..2).map(|_| storage(of_voxels)).collect(),
            partials: storage(full),
            coefficients: storage(u64::from(6 * rows + 2) * 4),
            gradient: storage(full),
        })
    }

    fn get(&self, slot: Slot) -> &wgpu::Buffer {
        match slot {
            Slot::Logits => &self.logits,
            Slot::Labels => &self.labels,
            Slot::Full(index) => &self.full[index],
            Slot::Voxels(index) => &self.over_voxels[index],
            Slot::Partials => &self.partials,
            Slot::Coefficients => &self.coefficients,
            Slot::Gradient => &self.gradient,
        }
    }

    /// Checks loss and gradient against the fused kernels', which were checked against the f64 reference.
    fn check(&self, clock: &Clock, ours: &Workload) -> Result<()> {
        let mut encoder = clock.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        ours.step.forward(&mut encoder);
        ours.step.backward(&mut encoder);
        let pending = ours.step.report(&mut encoder)?;
        clock.queue.submit([encoder.finish()]);
        let expected = pending.read_blocking()?.total;
        let read = |buffer: &wgpu::Buffer| -> Result<Vec<f32>> {
            Ok(bytemuck::pod_collect_to_vec(&read_back(&clock.device, &clock.queue, buffer)?))
        };
        let loss = read(&self.coefficients)?[4 * self.rows as usize];
        ensure!(
            (loss - expected).abs() <= 1e-4 * expected.abs(),
            "unfused: loss {loss}, fused {expected}: nothing is timed"
        );
        let (given, expected) = (read(&self.gradient)?, read(&ours.tensors[0].gradient)?);
        let largest = expected.iter().fold(0.0_f32, |a, g| a.max(g.abs()));
        let worst = given.iter().zip(&expected).fold(0.0_f32, |a, (x, e)| a.max((x - e).abs()));
        ensure!(worst <= 1e-4 * largest, "unfused: the gradient differs by {:.1e}: nothing is timed", worst / largest);
        Ok(())
    }
}

struct Composer<'a> {
    clock: &'a Clock,
    tensors: &'a Buffers,
    width: u32,
    workgroup: u32,
    loads: u32,
}

impl Composer<'_> {
    fn map(&self, expression: &str, inputs: [Slot; 3], output: Slot) -> Dispatch {
        let [first, second, third] = inputs;
        let text = include_str!("map.wgsl").replace("= EXPRESSION;", &format!("= {expression};"));
        let all = [(1, first), (2, second), (3, third), (5, Slot::Coefficients), (6, output)];
        self.dispatch(&text, "main", &all, self.tensors.elements)
    }

    fn reduce_classes(&self, fold: &str, input: Slot, output: Slot) -> Dispatch {
        let text = include_str!("reduce_classes.wgsl").replace("= FOLD;", &format!("= {fold};"));
        self.dispatch(&text, "main", &[(1, input), (6, output)], self.tensors.elements / self.tensors.classes)
    }

    /// Sums each row; the sums begin at word `sums` of the coefficients.
    fn reduce_voxels(&self, input: Slot, sums: u32) -> [Dispatch; 2] {
        let row_run = self.workgroup * self.loads * self.width;
        let runs = self.tensors.voxels.div_ceil(row_run);
        let mut text = include_str!("reduce_voxels.wgsl").to_owned();
        if self.width == 1 {
            text = text.replace("dot(sum, ELEMENT(1.0))", "sum");
        }
        let partial =
            self.dispatch(&text, "main", &[(1, input), (6, Slot::Partials)], runs * self.tensors.rows * row_run);
        let rows = self.small("rows", sums, Slot::Partials, Slot::Coefficients, self.tensors.rows);
        [partial, rows]
    }

    fn small(&self, entry: &'static str, sums: u32, input: Slot, output: Slot, workgroups: u32) -> Dispatch {
        let runs = self.tensors.voxels.div_ceil(self.workgroup * self.loads * self.width);
        let text = include_str!("small.wgsl")
            .replace("const PARTIALS = 4u;", &format!("const PARTIALS = {runs}u;"))
            .replace("const SUMS = 0u;", &format!("const SUMS = {sums}u;"));
        let inputs = [(1, input), (6, output)];
        let inputs = if entry == "finish" { &inputs[1..] } else { &inputs };
        let mut dispatch = self.dispatch(&text, entry, inputs, 1);
        dispatch.grid = [workgroups, 1];
        dispatch
    }

    fn dispatch(&self, text: &str, entry: &str, buffers: &[(u32, Slot)], elements: u32) -> Dispatch {
        let device = &self.clock.device;
        let element = if self.width == 1 { "f32".to_owned() } else { format!("vec{}<f32>", self.width) };
        let text = text
            .replace("alias ELEMENT = vec4<f32>;", &format!("alias ELEMENT = {element};"))
            .replace("const WIDTH = 4u;", &format!("const WIDTH = {}u;", self.width))
            .replace("const WORKGROUP = 64u;", &format!("const WORKGROUP = {}u;", self.workgroup))
            .replace("const LOADS = 4u;", &format!("const LOADS = {}u;", self.loads));
        // a buffer that the expression does not use is not in the pipeline's automatic layout
        let used: Vec<_> = buffers
            .iter()
            .filter(|(binding, _)| {
                let name = ["", "first[", "second[", "third[", "", "coefficients["].get(*binding as usize);
                name.is_none_or(|name| text.split("fn ").skip(1).any(|body| body.contains(name)))
            })
            .collect();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(text.as_str().into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let mut entries: Vec<wgpu::BindGroupEntry<'_>> = used
            .iter()
            .map(|(binding, slot)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: self.tensors.get(*slot).as_entire_binding(),
            })
            .collect();
        if entry != "rows" {
            entries.push(wgpu::BindGroupEntry { binding: 0, resource: self.tensors.shape.as_entire_binding() });
        }
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let workgroups = elements.div_ceil(self.workgroup * self.loads * self.width);
        let side = device.limits().max_compute_workgroups_per_dimension;
        let y = workgroups.div_ceil(side).max(1);
        Dispatch { pipeline, bindings, grid: [workgroups.div_ceil(y), y] }
    }
}
