//! `segloss bench`: how fast, on this adapter, and how near to the floor.

mod clock;
mod compare;
mod figures;
mod floor;
mod plot;
mod sweep;
#[path = "../../../../benches/unfused/mod.rs"]
mod unfused;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use segloss::{FloatType, Head, Loss, LossSpec, Overlap, Pixel, Plan, Variant, open_adapter, wgpu};

use crate::Wish;
use clock::Clock;
pub use figures::commit;
use figures::{Figure, Figures, Machine, Ratio};
use floor::{Floor, Kind};
use workload::{Tensors, Workload, shape_name};

/// ε of the label smoothing.
const SMOOTHING: f32 = 0.1;

#[derive(clap::Args)]
pub struct Bench {
    #[command(flatten)]
    wish: Wish,
    /// Shape of the logits, `NxCxD[xHxW]`; may be given several times.
    #[arg(long, value_name = "SHAPE", value_parser = parse_shape, default_values = ["2x4x128x128x128", "1x14x96x96x96"])]
    shape: Vec<Shape>,
    /// Heads of a deep-supervision pyramid: each has half the voxels a side of the one before. One plan of all is compared
    /// with a plan each.
    #[arg(long, default_value_t = 1)]
    heads: usize,
    /// Type of logits and gradient.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: Dtype,
    /// Numbers of the kernels' variant other than the adapter's defaults: invocations=64,tile=4096,…
    #[arg(long, value_name = "NAME=N,…", value_delimiter = ',')]
    variant: Vec<String>,
    /// Rounds of interleaved runs; where a round takes long, fewer, but at least 15.
    #[arg(long, default_value_t = 101)]
    runs: usize,
    /// The unfused pipeline as well: a kernel an operation, each result materialised, as a tensor library does it.
    #[arg(long)]
    unfused: bool,
    /// Nanoseconds a logit against the number of classes, and against the volume, instead of single shapes.
    #[arg(long)]
    sweep: bool,
    /// Only the time of a plan and its first step, in a process that did nothing before. Switch the driver's cache off.
    #[arg(long)]
    first_step: bool,
    /// Writes every figure.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the sweep, or the sweeps of the files to compare.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Prints figures of files side by side instead of measuring; times are over those of the first.
    #[arg(long, value_name = "FILE", num_args = 2.., conflicts_with_all = ["sweep", "first_step", "json"])]
    compare: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
struct Shape(Vec<usize>);

#[derive(Clone, Copy, clap::ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

fn parse_shape(text: &str) -> Result<Shape, String> {
    workload::parse_shape(text).map(Shape)
}

impl Bench {
    pub fn run(self) -> Result<ExitCode> {
        if !self.compare.is_empty() {
            let files = compare::print(&self.compare)?;
            if let Some(path) = &self.svg {
                plot::sweep(&files, path)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let choice = self.wish.choice();
        let Some(adapter) = choice.adapters().into_iter().next() else {
            return choice.open().map(|_| ExitCode::FAILURE).map_err(Into::into);
        };
        let (device, queue) = open_adapter(&adapter)?;
        let clock = Clock::new(device, queue);
        let mut all = Figures {
            schema: figures::SCHEMA.to_owned(),
            machine: machine(&adapter.get_info(), clock.software),
            commit: figures::commit(),
            clock: clock.kind().to_owned(),
            figures: Vec::new(),
            ratios: Vec::new(),
        };
        println!("{} ({}), {} clock", all.machine.adapter, all.machine.backend, all.clock);
        if self.first_step {
            for shape in &self.shape {
                let heads = pyramid(&shape.0, self.heads, self.float(), SMOOTHING);
                all.figures.extend(first_step(&clock, &heads, self.variant(&clock)?)?);
            }
        } else if self.sweep {
            sweep::run(&clock, self.float(), &mut all)?;
        } else {
            for shape in &self.shape {
                self.shape(&clock, &shape.0, &mut all)?;
            }
        }
        print(&all);
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&all)?).with_context(|| path.display().to_string())?;
        }
        if let Some(path) = &self.svg {
            plot::sweep(std::slice::from_ref(&all), path)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The adapter's default variant with the numbers given.
    fn variant(&self, clock: &Clock) -> Result<Variant> {
        let mut variant = Variant::for_device(&clock.device);
        for given in &self.variant {
            let (name, value) = given.split_once('=').with_context(|| format!("expected NAME=N, got {given}"))?;
            let value: u32 = value.parse().with_context(|| given.clone())?;
            match name {
                "invocations" => variant.invocations = value,
                "tile" => variant.tile = value,
                "register_classes" => variant.register_classes = value,
                "split_classes" => variant.split_classes = value,
                "chunk" => variant.chunk = value,
                "fold_invocations" => variant.fold_invocations = value,
                "heads_per_dispatch" => variant.heads_per_dispatch = value,
                "unchecked" => variant.unchecked = value != 0,
                "subgroups" => variant.subgroups = value != 0,
                _ => bail!("a variant has no {name}"),
            }
        }
        Ok(variant)
    }

    fn float(&self) -> FloatType {
        match self.dtype {
            Dtype::F32 => FloatType::F32,
            Dtype::F16 => FloatType::F16,
            Dtype::Bf16 => FloatType::Bf16,
        }
    }

    /// One shape: the step's stages, the floor, and whatever else was asked for, in one interleaved run.
    fn shape(&self, clock: &Clock, shape: &[usize], all: &mut Figures) -> Result<()> {
        let variant = self.variant(clock)?;
        let heads = |smoothing| pyramid(shape, self.heads, self.float(), smoothing);
        let several = if self.heads > 1 { format!(", {} heads", self.heads) } else { String::new() };
        let name = shape_name(shape) + &several;
        let ours = Workload::new(clock, heads(SMOOTHING), variant)?;
        let plain = Workload::on(clock, heads(0.0), variant, ours.tensors.clone())?;
        let (read_bytes, write_bytes) = (ours.statistics_bytes(), ours.gradient_bytes());
        let read = Floor::fastest(clock, Kind::Read, read_bytes)?;
        let copy = Floor::fastest(clock, Kind::Copy, write_bytes - read_bytes)?;
        println!("{name}: floor: {}; {}", read.name, copy.name);
        let apart = if self.heads > 1 { separate(clock, &ours, variant)? } else { Vec::new() };
        let unfused = if self.unfused { Some(unfused::Unfused::new(clock, &ours, SMOOTHING)?) } else { None };

        let mut race = Race::new(&name);
        race.pass(clock, "segloss", "forward", Some(read_bytes), |pass| ours.step.forward(pass));
        race.pass(clock, "segloss", "backward", Some(write_bytes), |pass| ours.step.backward(pass));
        race.pass(clock, "segloss without smoothing", "forward", Some(read_bytes), |pass| plain.step.forward(pass));
        race.pass(clock, "segloss without smoothing", "backward", Some(write_bytes), |pass| plain.step.backward(pass));
        race.pass(clock, "floor", "forward", Some(read.bytes), |pass| read.encode(pass));
        race.pass(clock, "floor", "backward", Some(copy.bytes), |pass| copy.encode(pass));
        race.add("copy_buffer_to_buffer", "backward", Some(copy.bytes), || {
            clock.wall(|encoder| {
                for tensors in ours.tensors.iter() {
                    let (from, to) = (&tensors.logits, &tensors.gradient);
                    encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
                }
            })
        });
        if !apart.is_empty() {
            race.pass(clock, "a plan a head", "forward", Some(read_bytes), |pass| {
                for step in &apart {
                    step.forward(pass);
                }
            });
            race.pass(clock, "a plan a head", "backward", Some(write_bytes), |pass| {
                for step in &apart {
                    step.backward(pass);
                }
            });
        }
        if let Some(unfused) = &unfused {
            race.pass(clock, "unfused", "forward", Some(read_bytes), |pass| unfused.forward(pass));
            race.pass(clock, "unfused", "backward", Some(write_bytes), |pass| unfused.backward(pass));
        }
        let results = race.run(self.runs)?;
        all.ratios.extend([
            results.ratio("time over the floor", "segloss", "floor"),
            results.ratio("label smoothing over none", "segloss", "segloss without smoothing"),
        ]);
        if !apart.is_empty() {
            all.ratios.push(results.ratio("a plan a head over one plan", "a plan a head", "segloss"));
        }
        if unfused.is_some() {
            all.ratios.push(results.ratio("unfused over fused", "unfused", "segloss"));
        }
        all.figures.extend(results.figures());
        Ok(())
    }
}

/// Heads of half the voxels a side each.
fn pyramid(shape: &[usize], heads: usize, float: FloatType, smoothing: f32) -> Vec<Head> {
    let weights = segloss::nnunet_deep_supervision(heads);
    let head = |(level, weight): (usize, f32)| {
        let mut shape = shape.to_vec();
        shape.iter_mut().skip(2).for_each(|axis| *axis = (*axis >> level).max(1));
        workload::head(&shape, dice_ce(smoothing), float).weight(weight)
    };
    weights.into_iter().enumerate().map(head).collect()
}

fn dice_ce(smoothing: f32) -> Loss {
    Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(smoothing))
}

/// A plan for each head, on the same tensors.
fn separate(clock: &Clock, ours: &Workload, variant: Variant) -> Result<Vec<segloss::Step>> {
    let step = |(head, tensors): (&Head, &Tensors)| -> Result<segloss::Step> {
        let spec = LossSpec { heads: vec![head.clone()] };
        let plan = Plan::with_variant(&clock.device, &clock.queue, &spec, variant)?;
        let step = plan.bind(&[tensors.bindings()])?;
        step.warm_up()?;
        Ok(step)
    };
    ours.spec.heads.iter().zip(ours.tensors.iter()).map(step).collect()
}

/// A plan and its first completed step, and each part of it: drivers compile a kernel when it is made, or first run.
fn first_step(clock: &Clock, heads: &[Head], variant: Variant) -> Result<Vec<Figure>> {
    let tensors: Vec<_> = heads.iter().zip(1..).map(|(head, seed)| Tensors::new(clock, head, seed)).collect();
    let bindings: Vec<_> = tensors.iter().map(Tensors::bindings).collect();
    clock.device.poll(wgpu::PollType::wait_indefinitely())?;
    let start = Instant::now();
    let plan = Plan::with_variant(&clock.device, &clock.queue, &LossSpec { heads: heads.to_vec() }, variant)?;
    let step = plan.bind(&bindings)?;
    let mut parts = vec![("plan and bindings", start.elapsed().as_secs_f64() * 1e9)];
    parts.push(("first statistics", clock.wall(|encoder| step.statistics(encoder))?));
    parts.push(("first combine", clock.wall(|encoder| step.combine(encoder))?));
    parts.push(("first finish", clock.wall(|encoder| step.finish(encoder))?));
    parts.push(("first gradient", clock.wall(|encoder| step.gradient(encoder))?));
    parts.push(("plan and first step", start.elapsed().as_secs_f64() * 1e9));
    let name = format!("{}, {} heads", shape_name(&heads[0].shape), heads.len());
    Ok(parts.into_iter().map(|(stage, time)| Figure::new("segloss", &name, stage, &[time], None)).collect())
}

fn machine(info: &wgpu::AdapterInfo, software: bool) -> Machine {
    Machine {
        adapter: info.name.clone(),
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info),
        software,
    }
}

/// Contenders that run one after another, round by round.
struct Race<'a> {
    shape: String,
    contenders: Vec<Contender<'a>>,
}

struct Contender<'a> {
    name: &'static str,
    stage: &'static str,
    bytes: Option<u64>,
    run: Box<dyn Fn() -> Result<f64> + 'a>,
}

impl<'a> Race<'a> {
    fn new(shape: &str) -> Self {
        Self { shape: shape.to_owned(), contenders: Vec::new() }
    }

    fn add(&mut self, name: &'static str, stage: &'static str, bytes: Option<u64>, run: impl Fn() -> Result<f64> + 'a) {
        self.contenders.push(Contender { name, stage, bytes, run: Box::new(run) });
    }

    fn pass(
        &mut self,
        clock: &'a Clock,
        name: &'static str,
        stage: &'static str,
        bytes: Option<u64>,
        encode: impl Fn(&mut wgpu::ComputePass<'_>) + 'a,
    ) {
        self.add(name, stage, bytes, move || clock.time(&encode));
    }

    /// `runs` rounds, fewer where they would take more than two minutes, and never fewer than 15.
    fn run(self, runs: usize) -> Result<Results> {
        let progress = progress(runs, &self.shape);
        let mut times = vec![Vec::new(); self.contenders.len()];
        let start = Instant::now();
        for round in 0..=runs {
            // every other round goes backwards: none always follows the same
            let mut turns: Vec<_> = self.contenders.iter().zip(&mut times).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for (contender, times) in turns {
                let time = (contender.run)()?;
                // the first round warms up
                if round > 0 {
                    times.push(time);
                }
            }
            progress.inc(1);
            if round >= 15 && start.elapsed() > Duration::from_mins(2) {
                break;
            }
        }
        progress.finish_and_clear();
        let contenders = self.contenders.iter().zip(times);
        let runs = contenders.map(|(c, times)| Run { name: c.name, stage: c.stage, bytes: c.bytes, times }).collect();
        Ok(Results { shape: self.shape, runs })
    }
}

fn progress(rounds: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len}").expect("a template");
    ProgressBar::new(rounds as u64).with_style(style).with_prefix(what.to_owned())
}

struct Results {
    shape: String,
    runs: Vec<Run>,
}

struct Run {
    name: &'static str,
    stage: &'static str,
    bytes: Option<u64>,
    times: Vec<f64>,
}

impl Results {
    fn figures(&self) -> impl Iterator<Item = Figure> {
        self.runs.iter().map(|run| Figure::new(run.name, &self.shape, run.stage, &run.times, run.bytes))
    }

    /// Forward and backward of a round.
    fn both(&self, name: &str) -> Vec<f64> {
        let stages: Vec<_> = self.runs.iter().filter(|run| run.name == name).map(|run| &run.times).collect();
        (0..stages[0].len()).map(|round| stages.iter().map(|times| times[round]).sum()).collect()
    }

    fn ratio(&self, name: &str, over: &str, under: &str) -> Ratio {
        Ratio::new(name, &self.shape, &self.both(over), &self.both(under))
    }
}

fn print(all: &Figures) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["shape", "what", "stage", "median ms", "10–90 %", "GB/s"]);
    for figure in &all.figures {
        let ms = |ns: f64| format!("{:.2}", ns / 1e6);
        table.add_row([
            figure.shape.clone(),
            figure.name.clone(),
            figure.stage.clone(),
            ms(figure.median_ns),
            format!("{}–{}", ms(figure.low_ns), ms(figure.high_ns)),
            figure.bandwidth().map_or_else(String::new, |bandwidth| format!("{bandwidth:.1}")),
        ]);
    }
    for column in [3, 4, 5] {
        table.column_mut(column).expect("six columns").set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    for ratio in &all.ratios {
        let Ratio { name, shape, median, low, high, pairs } = ratio;
        println!("{shape}: {name}, forward + backward: {median:.3} (95 %: {low:.3} to {high:.3}, {pairs} pairs)");
    }
    if all.machine.software {
        println!("a software driver: its floor is the driver's, not the memory's");
    }
}
