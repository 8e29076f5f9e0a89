//! `segloss validate`: checks whether the kernels are right on this device. Writes one page, and the same as JSON.

pub mod compare;
mod dawn;
mod numbers;
mod page;
mod progress;
pub mod record;
mod switches;
mod tools;
mod translate;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use indicatif::MultiProgress;
use segloss::testing::cases::{self, Case};
use segloss::testing::shaders::{all_permutations, permutations, permutations_of_every_pair};
use segloss::wgpu;

use crate::AdapterArgs;
use crate::adapters::name;
use crate::bench::{commit, today};
use numbers::Results;
pub use numbers::{shapes, steps, terms};
use progress::Progress;
use record::{Adapter, SCHEMA, Shaders, SwitchesInLoops, Validation};
use translate::Answers;
pub use translate::uses_subgroups;

#[derive(clap::Args)]
pub struct Validate {
    #[command(flatten)]
    adapter_args: AdapterArgs,
    /// Every adapter that matches, not only the first.
    #[arg(long)]
    all: bool,
    /// An adapter that must be present, by words of its name and back end: "llvmpipe gl".
    #[arg(long, value_name = "WORDS")]
    require: Vec<String>,
    /// The folder for the page and the JSON.
    #[arg(long, value_name = "DIR", default_value = "validation")]
    out: PathBuf,
    /// Case files (`segloss-cases/1`).
    #[arg(long, value_name = "FILE", num_args = 1..)]
    cases: Vec<PathBuf>,
    /// The seed of the random specifications and of the sample of permutations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Random permutations of shader settings for naga, in addition to those that cover every pair of choices.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    permutations: usize,
    /// Random specifications per adapter.
    #[arg(long, default_value_t = 48)]
    trials: u64,
    /// The library of Microsoft's DXC; by default where the loader finds it.
    #[arg(long, value_name = "FILE")]
    dxc: Option<PathBuf>,
    /// The folder of the Node programs and the npm package `webgpu` (Dawn and Tint).
    #[arg(long, value_name = "DIR", default_value = "cli/web")]
    dawn: PathBuf,
    /// The back end for Dawn.
    #[arg(long, value_name = "NAME", default_value = "vulkan")]
    dawn_backend: String,
    /// Fail if a tool is absent.
    #[arg(long)]
    every_tool: bool,
    /// Print two validations side by side instead, and mark what differs.
    #[arg(long, value_names = ["A.json", "B.json"], num_args = 2, exclusive = true)]
    compare: Vec<PathBuf>,
}

impl Validate {
    pub fn run(self) -> Result<ExitCode> {
        if let [one, other] = &self.compare[..] {
            let differing = compare::print(&compare::read(one)?, &compare::read(other)?);
            println!("{differing} lines differ");
            return Ok(ExitCode::SUCCESS);
        }
        let choice = self.adapter_args.choice();
        let adapters = numbers::adapters(&choice, self.all);
        if adapters.is_empty() {
            choice.open()?;
        }
        let names: Vec<String> = adapters.iter().map(|adapter| name(&adapter.get_info())).collect();
        for wanted in &self.require {
            let has_all =
                |name: &String| wanted.split(' ').all(|word| name.to_lowercase().contains(&word.to_lowercase()));
            if !names.iter().any(has_all) {
                bail!("no adapter \"{wanted}\": this machine has {}", names.join(", "));
            }
        }
        let mut cases: Vec<Case> = Vec::new();
        for file in &self.cases {
            cases.extend(cases::read(file)?.cases);
        }
        self.write(&self.validate(&adapters, &names, &cases))
    }

    fn validate(&self, adapters: &[wgpu::Adapter], names: &[String], cases: &[Case]) -> Validation {
        let (all, begun) = (MultiProgress::new(), Instant::now());
        // side by side: most of the time goes to compilers, each on one core
        let (shaders, found) = std::thread::scope(|scope| {
            let shaders = scope.spawn(|| self.shaders(&Progress::new(&all, begun)));
            let on = |(adapter, name): (&wgpu::Adapter, &String)| {
                let progress = Progress::new(&all, begun);
                let tick = |phase: &str| progress.tick(&format!("{name}: {phase}"));
                numbers::on_adapter(adapter, cases, [self.seed, self.trials], &tick)
            };
            let found: Vec<_> = adapters.iter().zip(names).map(|one| scope.spawn(move || on(one))).collect();
            (joined(shaders), found.into_iter().map(joined).collect::<Vec<_>>())
        });
        let (adapters_found, results): (Vec<Adapter>, Vec<Results>) = found.into_iter().unzip();
        let computed: Vec<_> = names.iter().zip(&results).collect();
        let pairs =
            computed.iter().enumerate().flat_map(|(i, one)| computed[i + 1..].iter().map(move |other| (*one, *other)));
        let progress = Progress::new(&all, begun);
        progress.tick("Dawn");
        let dawn = dawn::replay(cases, &self.dawn, &self.dawn_backend);
        let mut validation = Validation {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            date: today(),
            seed: self.seed,
            shaders,
            adapters: adapters_found,
            spread: pairs.map(|(one, other)| numbers::spread(one, other)).collect(),
        };
        validation.shaders.tools.push(dawn);
        validation
    }

    /// Checks the shaders in all tools but Dawn.
    fn shaders(&self, progress: &Progress) -> Shaders {
        let covering: HashSet<String> = permutations_of_every_pair().into_iter().map(|shader| shader.name).collect();
        let all = permutations(self.seed, self.permutations);
        let permutations = all.len();
        let Answers { mut tools, switches_in_loops, kept: few } =
            translate::translate(all, |name| covering.contains(name), || progress.tick("shaders: naga"));
        tools.push(tools::spirv_val(&few, || progress.tick("shaders: spirv-val")));
        tools.push(tools::dxc(&few, self.dxc.as_deref(), || progress.tick("shaders: DXC")));
        progress.tick("shaders: Tint");
        tools.push(tools::tint(&few, &self.dawn));
        let switches_in_loops = Some(switches_in_loops);
        let all = Some(all_permutations());
        Shaders { permutations, covering: covering.len(), all, tools, switches_in_loops }
    }

    fn write(&self, validation: &Validation) -> Result<ExitCode> {
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let page = self.write_as("validation", validation)?;
        if let [_, _, ..] = validation.adapters[..] {
            let mut names: Vec<String> = Vec::new();
            for adapter in &validation.adapters {
                let name = file_name(&adapter.name);
                let same = names.iter().filter(|other| **other == name).count();
                names.push(name.clone());
                let name = if same == 0 { name } else { format!("{name}-{}", same + 1) };
                let one = Validation { adapters: vec![adapter.clone()], spread: Vec::new(), ..validation.clone() };
                self.write_as(&name, &one)?;
            }
        }
        let absent: Vec<_> = validation.shaders.tools.iter().filter(|tool| tool.absent.is_some()).collect();
        for tool in &absent {
            println!("absent: {}: {}", tool.name, tool.absent.as_deref().unwrap_or_default());
        }
        for (place, failure) in validation.failures() {
            println!("FAILED {place}: {}: {}", failure.what, failure.message);
        }
        for tool in &validation.shaders.tools {
            println!("{}: {} checked, {} failed", tool.name, tool.checked, tool.failures.len());
        }
        if let Some(SwitchesInLoops { permutations, any, .. }) = validation.shaders.switches_in_loops {
            println!("HLSL 5.1: {any} of {permutations} permutations have a switch inside a loop");
        }
        for adapter in &validation.adapters {
            let sets = [
                ("cases", adapter.cases),
                ("every pair of choices", adapter.covering),
                ("every kernel", adapter.steps),
            ];
            for (what, counts) in sets {
                let record::Counts { passed, failed, unsupported } = counts;
                println!("{}: {what}: {passed} passed, {failed} failed, {unsupported} unsupported", adapter.name);
            }
        }
        let failures = validation.failures().count();
        println!("{failures} failures: {}", page.display());
        let whole = absent.is_empty() || !self.every_tool;
        Ok(if failures == 0 && whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Writes the page and the JSON; returns the path of the page.
    fn write_as(&self, name: &str, validation: &Validation) -> Result<PathBuf> {
        let [html, json] = ["html", "json"].map(|extension| self.out.join(format!("{name}.{extension}")));
        std::fs::write(&html, page::page(validation)?).with_context(|| html.display().to_string())?;
        let text = serde_json::to_string_pretty(validation)? + "\n";
        std::fs::write(&json, text).with_context(|| json.display().to_string())?;
        Ok(html)
    }
}

/// The result of a thread.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// An adapter's name without versions, for a file: "llvmpipe-vulkan" for "llvmpipe (LLVM 15.0.6, 256 bits) (Vulkan)".
fn file_name(adapter: &str) -> String {
    let (name, rest) = adapter.split_once(" (").unwrap_or((adapter, ""));
    let backend = rest.rsplit('(').next().unwrap_or_default();
    let words = [name, backend].into_iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect::<Vec<_>>().join("-")
}
