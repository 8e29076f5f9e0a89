//! `segloss bench`: how fast the kernels are on this adapter, and how near to the floor.

pub mod compare;
pub mod figures;
pub mod floor;
mod peers;
mod plot;
mod pooled;
mod race;
mod sweep;
mod unfused;
pub mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use segloss::tuning::{self, Clock, ClockKind};
use segloss::{Head, LossSpec, Plan, Variant, open_adapter, wgpu};

use crate::AdapterArgs;
use figures::{Figure, Figures, Machine, Ratio};
pub use figures::{commit, today};
use floor::{Floor, Kind};
use peers::Peers;
use race::Race;
use workload::{Heads, SMOOTHING, Tensors, Workload, data_set, shape_name};

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "a flag each")]
pub struct Bench {
    #[command(flatten)]
    adapter_args: AdapterArgs,
    #[command(flatten)]
    heads: Heads,
    /// Numbers of the kernels' variant other than the adapter's defaults: invocations=64,tile=4096,…
    #[arg(long, value_name = "NAME=N,…", default_value = "", hide_default_value = true)]
    variant: String,
    /// Use the variant that `segloss tune` found for these heads on this adapter.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["variant", "sweep"])]
    tuning: Option<PathBuf>,
    /// Rounds of interleaved runs; of a sweep at most 15. Slow runs end after fewer rounds, but at least 15.
    #[arg(long, default_value_t = 101)]
    runs: usize,
    /// Also time the unfused pipeline: one kernel per operation, each result materialised, as in a tensor library.
    #[arg(long)]
    unfused: bool,
    /// Also time the losses of other libraries, in the same rounds: start this command, which runs a step of each of
    /// its peers on request. Example: `python benches/peers/monai.py --serve`
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["first_step", "compare"])]
    peers: Option<String>,
    /// Nanoseconds per logit against the number of classes, and against the volume, instead of single shapes.
    #[arg(long)]
    sweep: bool,
    /// Time eight heads of each shape with all tensors in one buffer, at the device's alignment and at odd offsets, beside
    /// the same heads in buffers of their own.
    #[arg(long, conflicts_with_all = ["sweep", "first_step", "unfused", "peers", "levels"])]
    pooled: bool,
    /// Only the time of a plan and its first step, in a fresh process. Switch the driver's shader cache off first.
    #[arg(long)]
    first_step: bool,
    /// Write all figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the sweep as SVG, or the sweeps of the files given to --compare.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print the figures of files side by side instead of measuring, with the ratio over the first file's.
    #[arg(long, value_name = "FILE", num_args = 2.., conflicts_with_all = ["sweep", "first_step", "json"])]
    compare: Vec<PathBuf>,
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
        let choice = self.adapter_args.choice();
        let Some(adapter) = choice.adapters().into_iter().next() else {
            return choice.open().map(|_| ExitCode::FAILURE).map_err(Into::into);
        };
        let (device, queue) = open_adapter(&adapter)?;
        let clock = Clock::new(device, queue);
        let mut all = Figures {
            schema: figures::SCHEMA.to_owned(),
            machine: machine(&adapter.get_info(), clock.software),
            commit: figures::commit(),
            date: today(),
            clock: clock.kind().to_string(),
            figures: Vec::new(),
            ratios: Vec::new(),
        };
        println!("{} ({})", all.machine.adapter, all.machine.backend);
        self.measure(&clock, &mut all)?;
        print(&all);
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(&all)?).with_context(|| path.display().to_string())?;
        }
        if let Some(path) = &self.svg {
            plot::sweep(std::slice::from_ref(&all), path)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// All figures, by one clock: where the GPU's timestamps are given up on the way, all are measured again.
    fn measure(&self, clock: &Clock, all: &mut Figures) -> Result<()> {
        loop {
            let kind = clock.kind();
            all.clock = kind.to_string();
            println!("clock: {kind}");
            self.measure_by(clock, kind, all)?;
            if clock.kind() == kind {
                return Ok(());
            }
            all.figures.clear();
            all.ratios.clear();
        }
    }

    /// All figures. Ends early where the clock is no longer of this kind.
    fn measure_by(&self, clock: &Clock, kind: ClockKind, all: &mut Figures) -> Result<()> {
        if self.first_step {
            for shape in self.heads.shapes() {
                let heads = self.heads.of(shape, SMOOTHING);
                let variant = self.variant(clock, &heads)?;
                all.figures.extend(first_step(clock, &heads, variant)?);
            }
            return Ok(());
        }
        if self.pooled {
            for shape in self.heads.shapes() {
                let [head] = &self.heads.of(shape, SMOOTHING)[..] else { unreachable!("one level") };
                pooled::run(clock, head, self.variant(clock, std::slice::from_ref(head))?, self.runs, all)?;
            }
            return Ok(());
        }
        let mut peers = self.peers.as_deref().map(Peers::start).transpose()?;
        if self.sweep {
            return sweep::run(clock, kind, &self.heads, self.runs, peers.as_mut(), all);
        }
        for shape in self.heads.shapes() {
            self.shape(clock, shape, peers.as_mut(), all)?;
            if clock.kind() != kind {
                break;
            }
        }
        Ok(())
    }

    /// The variant that --tuning remembers for these heads; otherwise the adapter's default with the numbers of
    /// --variant.
    fn variant(&self, clock: &Clock, heads: &[Head]) -> Result<Variant> {
        if let Some(file) = &self.tuning {
            let spec = LossSpec { heads: heads.to_vec() };
            let found = tuning::remembered(&clock.device, &spec, file)?;
            return found.with_context(|| {
                let file = file.display();
                format!("{file}: no choice for this adapter, driver and version, and these heads: `segloss tune --file {file}` finds one")
            });
        }
        Ok(Variant::for_device(&clock.device).with(&self.variant)?)
    }

    /// Times one shape: the step's stages, the floor and the other contenders, in one interleaved run.
    fn shape(&self, clock: &Clock, shape: &[usize], peers: Option<&mut Peers>, all: &mut Figures) -> Result<()> {
        let heads = |smoothing| self.heads.of(shape, smoothing);
        let variant = self.variant(clock, &heads(SMOOTHING))?;
        let name = self.heads.name(shape);
        let ours = Workload::new(clock, heads(SMOOTHING), variant)?;
        let plain = Workload::on(clock, heads(0.0), variant, ours.tensors.clone())?;
        let (read_bytes, write_bytes) = (ours.statistics_bytes(), ours.gradient_bytes());
        let read = Floor::fastest(clock, Kind::Read, read_bytes)?;
        let copy = Floor::fastest(clock, Kind::Copy, write_bytes - read_bytes)?;
        println!("{name}: floor: {}; {}", read.name, copy.name);
        let others = self.heads.stored().skip(1).map(|stored| {
            let heads = self.heads.of_stored(shape, SMOOTHING, stored);
            let variant = self.variant(clock, &heads)?;
            Ok((format!("segloss, {stored}"), Workload::new(clock, heads, variant)?))
        });
        let others = others.collect::<Result<Vec<_>>>()?;
        let apart = if self.heads.levels > 1 { separate(clock, &ours, variant)? } else { Vec::new() };
        let unfused = if self.unfused { Some(unfused::Unfused::new(clock, &ours, SMOOTHING)?) } else { None };
        let peers = peers.map(|peers| peers.of(shape)).transpose()?;

        let mut race = Race::new(&name);
        race.pass(clock, "segloss", "forward", Some(read_bytes), |pass| ours.step.forward(pass));
        race.pass(clock, "segloss", "backward", Some(write_bytes), |pass| ours.step.backward(pass));
        for (name, other) in &others {
            let (read_bytes, write_bytes) = (other.statistics_bytes(), other.gradient_bytes());
            race.pass(clock, name, "forward", Some(read_bytes), |pass| other.step.forward(pass));
            race.pass(clock, name, "backward", Some(write_bytes), |pass| other.step.backward(pass));
        }
        race.pass(clock, "segloss without smoothing", "forward", Some(read_bytes), |pass| plain.step.forward(pass));
        race.pass(clock, "segloss without smoothing", "backward", Some(write_bytes), |pass| plain.step.backward(pass));
        race.pass(clock, "floor", "forward", Some(read.bytes), |pass| read.encode(pass));
        race.pass(clock, "floor", "backward", Some(copy.bytes), |pass| copy.encode(pass));
        race.add("copy_buffer_to_buffer", "backward", Some(copy.bytes), || {
            Ok(clock.wall(|encoder| {
                for tensors in ours.tensors.iter() {
                    let (from, to) = (&tensors.logits, &tensors.gradient);
                    encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
                }
            })?)
        });
        if !apart.is_empty() {
            race.pass(clock, "one plan per head", "forward", Some(read_bytes), |pass| {
                for step in &apart {
                    step.forward(pass);
                }
            });
            race.pass(clock, "one plan per head", "backward", Some(write_bytes), |pass| {
                for step in &apart {
                    step.backward(pass);
                }
            });
        }
        if let Some(unfused) = &unfused {
            race.pass(clock, "unfused", "forward", Some(read_bytes), |pass| unfused.forward(pass));
            race.pass(clock, "unfused", "backward", Some(write_bytes), |pass| unfused.backward(pass));
        }
        for peer in peers.iter().flat_map(|peers| &peers.names) {
            race.add(peer, "forward + backward", None, || {
                peers.as_ref().map_or(Ok(f64::NAN), |peers| peers.time(peer))
            });
        }
        let results = race.run(self.runs)?;
        all.ratios.extend(results.ratios("time over the floor", "segloss", "floor"));
        for (name, _) in &others {
            all.ratios.extend(results.ratios(&format!("{name}, over segloss"), name, "segloss"));
        }
        all.ratios.push(results.ratio("label smoothing over none", "segloss", "segloss without smoothing"));
        if !apart.is_empty() {
            all.ratios.push(results.ratio("one plan per head over one plan", "one plan per head", "segloss"));
        }
        if unfused.is_some() {
            all.ratios.push(results.ratio("unfused over fused", "unfused", "segloss"));
        }
        for peer in peers.iter().flat_map(|peers| &peers.names) {
            all.ratios.push(results.ratio(&format!("{peer} over segloss"), peer, "segloss"));
        }
        all.figures.extend(results.figures());
        Ok(())
    }
}

/// One plan per head, on the same tensors.
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

/// Times a plan and its first completed step, and each part of it: drivers compile a kernel when it is made or when it
/// first runs.
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

fn print(all: &Figures) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["shape", "what", "stage", "median ms", "10–90 %", "GB/s"]);
    for figure in &all.figures {
        let ms = |ns: f64| format!("{:.2}", ns / 1e6);
        table.add_row([
            data_set(&figure.shape).map_or_else(|| figure.shape.clone(), |name| format!("{}: {name}", figure.shape)),
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
        let Ratio { name, shape, stage, median, low, high, pairs } = ratio;
        println!("{shape}: {name}, {stage}: {median:.3} (95 %: {low:.3} to {high:.3}, {pairs} pairs)");
    }
    if all.machine.software {
        println!("a software driver: its floor is the driver's, not the memory's");
    }
}
