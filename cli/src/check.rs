//! `segloss check`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use segloss::testing::Plans;
use segloss::testing::cases::{self, Case, Outcome};
use segloss::{open_adapter, wgpu};

use crate::AdapterArgs;
use crate::adapters::name;

#[derive(clap::Args)]
pub struct Check {
    #[command(flatten)]
    adapter_args: AdapterArgs,
    /// Run on every adapter that matches, not only on the first.
    #[arg(long)]
    all: bool,
    /// Only cases whose id begins with this.
    #[arg(long, value_name = "ID_PREFIX")]
    only: Option<String>,
    /// Case files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    unsupported: usize,
}

impl Check {
    pub fn run(self) -> Result<ExitCode> {
        let prefix = self.only.as_deref().unwrap_or("");
        let mut cases: Vec<Case> = Vec::new();
        for file in &self.files {
            cases.extend(cases::read(file)?.cases.into_iter().filter(|case| case.id.starts_with(prefix)));
        }
        if cases.is_empty() {
            bail!("no case whose id begins with \"{prefix}\" in the files given");
        }
        let choice = self.adapter_args.choice();
        let mut adapters = choice.adapters();
        if adapters.is_empty() {
            choice.open()?;
        }
        if !self.all {
            adapters.truncate(1);
        }
        let mut failed = 0;
        for adapter in &adapters {
            failed += on_adapter(adapter, &cases)?.failed;
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn on_adapter(adapter: &wgpu::Adapter, cases: &[Case]) -> Result<Counts> {
    let name = name(&adapter.get_info());
    let (device, queue) = open_adapter(adapter).with_context(|| name.clone())?;
    let plans = Plans::new(&device, &queue);
    let mut counts = Counts::default();
    let mut lacking: BTreeMap<String, usize> = BTreeMap::new();
    for case in cases {
        match cases::run(&plans, case) {
            Outcome::Passed(_) => counts.passed += 1,
            Outcome::Failed(differences) => {
                counts.failed += 1;
                writeln!(std::io::stdout(), "FAILED {}: {}  [{}]", case.id, differences.join("; "), case.origin)?;
            }
            Outcome::Unsupported(lacks) => {
                counts.unsupported += 1;
                let lacks = lacks.join(", ");
                writeln!(std::io::stdout(), "unsupported {}: {lacks}", case.id)?;
                *lacking.entry(lacks).or_default() += 1;
            }
        }
    }
    for (lacks, cases) in &lacking {
        writeln!(std::io::stdout(), "unsupported: {cases} × {lacks}")?;
    }
    writeln!(
        std::io::stdout(),
        "{name}: {} passed, {} failed, {} unsupported",
        counts.passed,
        counts.failed,
        counts.unsupported
    )?;
    Ok(counts)
}
