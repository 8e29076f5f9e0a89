//! `segloss validate`: are the kernels right on this device? One page, and the same as JSON.

mod compare;
mod dawn;
mod draw;
mod numbers;
mod page;
mod record;
mod tools;
mod translate;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use segloss::cases::{self, Case};
use segloss::shaders::{covering, permutations};

use crate::Wish;
use crate::bench::commit;
use record::{SCHEMA, Shaders, Validation};

#[derive(clap::Args)]
pub struct Validate {
    #[command(flatten)]
    wish: Wish,
    /// Every adapter that fits, not the first alone.
    #[arg(long)]
    all: bool,
    /// An adapter that must be there, by part of its name as it is printed: "SwiftShader", "llvmpipe (LLVM 15.0.6, 256 bits) (Gl)".
    #[arg(long, value_name = "TEXT")]
    require: Vec<String>,
    /// Where the page and the JSON go.
    #[arg(long, value_name = "DIR", default_value = "validation")]
    out: PathBuf,
    /// Case files (`segloss-cases/1`).
    #[arg(long, value_name = "FILE", num_args = 1..)]
    cases: Vec<PathBuf>,
    /// What random specifications are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Random specifications an adapter.
    #[arg(long, default_value_t = 48)]
    trials: u32,
    /// Microsoft's DXC, the library; else where the loader finds it.
    #[arg(long, value_name = "FILE")]
    dxc: Option<PathBuf>,
    /// The folder with the Node programs and the npm package `webgpu` (Dawn and Tint).
    #[arg(long, value_name = "DIR", default_value = "validate/dawn")]
    dawn: PathBuf,
    /// The back end that Dawn takes.
    #[arg(long, value_name = "NAME", default_value = "vulkan")]
    dawn_backend: String,
    /// Fails where a tool is absent.
    #[arg(long)]
    every_tool: bool,
    /// Prints two validations side by side instead, and marks what differs.
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
        let choice = self.wish.choice();
        let adapters = numbers::adapters(&choice, self.all);
        if adapters.is_empty() {
            choice.open()?;
        }
        let names: Vec<String> = adapters.iter().map(|adapter| numbers::name(&adapter.get_info())).collect();
        for wanted in &self.require {
            if !names.iter().any(|name| name.to_lowercase().contains(&wanted.to_lowercase())) {
                bail!("no adapter \"{wanted}\": this machine has {}", names.join(", "));
            }
        }
        let mut cases: Vec<Case> = Vec::new();
        for file in &self.cases {
            cases.extend(cases::read(file)?.cases);
        }
        let bar = ProgressBar::new_spinner()
            .with_style(ProgressStyle::with_template("{prefix}: {msg} {pos} {spinner} {elapsed}")?);
        let mut validation = Validation {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            seed: self.seed,
            shaders: self.shaders(&bar),
            adapters: Vec::new(),
            spread: Vec::new(),
        };
        let mut results = Vec::new();
        for adapter in &adapters {
            bar.set_prefix(numbers::name(&adapter.get_info()));
            let tick = |what: &str| {
                bar.set_message(what.to_owned());
                bar.inc(1);
            };
            let (found, computed) = numbers::on_adapter(adapter, &cases, self.seed, self.trials, &tick)
                .with_context(|| numbers::name(&adapter.get_info()))?;
            validation.adapters.push(found);
            results.push(computed);
        }
        for (i, one) in results.iter().enumerate() {
            for (j, other) in results.iter().enumerate().skip(i + 1) {
                validation.spread.push(numbers::spread((&names[i], one), (&names[j], other)));
            }
        }
        bar.set_prefix("Dawn");
        validation.shaders.tools.push(dawn::replay(&adapters[0], &cases, &self.dawn, &self.dawn_backend));
        bar.finish_and_clear();
        self.write(&validation)
    }

    fn shaders(&self, bar: &ProgressBar) -> Shaders {
        let tick = || bar.inc(1);
        bar.set_prefix("shaders");
        bar.set_message("naga");
        let covering: std::collections::HashSet<String> = covering().into_iter().map(|shader| shader.name).collect();
        let all = permutations();
        let permutations = all.len();
        let (mut tools, few) = translate::translate(all, |name| covering.contains(name), tick);
        bar.set_message("spirv-val");
        tools.push(tools::spirv_val(&few, tick));
        bar.set_message("DXC");
        tools.push(tools::dxc(&few, self.dxc.as_deref(), tick));
        bar.set_message("Tint");
        tools.push(tools::tint(&few, &self.dawn));
        Shaders { permutations, covering: covering.len(), tools }
    }

    fn write(&self, validation: &Validation) -> Result<ExitCode> {
        std::fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        let [html, json] = ["validation.html", "validation.json"].map(|name| self.out.join(name));
        std::fs::write(&html, page::page(validation)?).with_context(|| html.display().to_string())?;
        std::fs::write(&json, serde_json::to_string_pretty(validation)?).with_context(|| json.display().to_string())?;
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
        for adapter in &validation.adapters {
            let record::Counts { passed, failed, unsupported } = adapter.cases;
            println!("{}: cases: {passed} passed, {failed} failed, {unsupported} unsupported", adapter.name);
        }
        let failures = validation.failures().count();
        println!("{failures} failures: {}, {}", html.display(), json.display());
        let whole = absent.is_empty() || !self.every_tool;
        Ok(if failures == 0 && whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
