//! `segloss tune`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use segloss::tuning::{self, Measured, Tuned, Verdict};
use segloss::{LossSpec, Variant};

use crate::AdapterArgs;
use crate::bench::figures::Ratio;
use crate::bench::workload::{Heads, SMOOTHING};

#[derive(clap::Args)]
pub struct Tune {
    #[command(flatten)]
    adapter_args: AdapterArgs,
    #[command(flatten)]
    heads: Heads,
    /// The file that remembers the choices; made if it is missing. Heads that it has a choice for are not measured
    /// again.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How long to measure each shape.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    budget: u64,
}

impl Tune {
    pub fn run(self) -> Result<ExitCode> {
        let (device, queue) = self.adapter_args.choice().open()?;
        println!("{}", device.adapter_info().name);
        let measured = Measured::new(&self.file).budget(Duration::from_secs(self.budget));
        for shape in self.heads.shapes() {
            let spec = LossSpec { heads: self.heads.of(shape, SMOOTHING) };
            let name = self.heads.name(shape);
            let bar = progress(&name, measured.budget);
            let tuned = tuning::tune(&device, &queue, &spec, &measured, &mut |progress| {
                bar.set_position(u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX));
                bar.set_message(format!("{}, after {}", progress.trying, progress.tried));
            });
            bar.finish_and_clear();
            print(&name, &tuned?, Variant::for_device(&device));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A bar for the time that has passed.
fn progress(shape: &str, budget: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {elapsed} {msg}").expect("a template");
    let length = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style).with_prefix(shape.to_owned())
}

fn print(shape: &str, tuned: &Tuned, default: Variant) {
    if tuned.remembered {
        println!("{shape}: remembered: {}", differences(tuned.variant, default));
        return;
    }
    if !tuned.candidates.is_empty() {
        println!("{}", candidates(tuned));
    }
    match &tuned.kept {
        Some(kept) => println!("{shape}: the default, which is not remembered: {kept}"),
        None => println!("{shape}: {}", differences(tuned.variant, default)),
    }
    if !tuned.pairs.is_empty() {
        let of = |which: usize| tuned.pairs.iter().map(|pair| pair[which]).collect::<Vec<_>>();
        let Ratio { median, low, high, pairs, .. } = Ratio::new("", shape, &of(0), &of(1));
        println!("{shape}: default over chosen: {median:.3} (95 %: {low:.3} to {high:.3}, {pairs} pairs)");
    }
}

/// One row per candidate.
fn candidates(tuned: &Tuned) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["from the best so far", "ms", "over it", "verdict"]);
    for candidate in &tuned.candidates {
        let (time, over, verdict) = match &candidate.verdict {
            Verdict::Raced { median_ns, over_best, better } => {
                let verdict = if *better { "right, better" } else { "right" };
                (format!("{:.2}", median_ns / 1e6), format!("{over_best:.3}"), verdict.to_owned())
            }
            Verdict::Wrong(difference) => (String::new(), String::new(), format!("wrong: {difference}")),
            Verdict::Refused(error) => (String::new(), String::new(), error.to_string()),
        };
        table.add_row([candidate.change.clone(), time, over, verdict]);
    }
    for column in [1, 2] {
        table.column_mut(column).expect("four columns").set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The numbers of a variant that differ from the default, as `bench --variant` takes them.
fn differences(variant: Variant, default: Variant) -> String {
    let pairs = variant.numbers().zip(default.numbers());
    let changed: Vec<String> =
        pairs.filter(|(ours, its)| ours != its).map(|((name, value), _)| format!("{name}={value}")).collect();
    if changed.is_empty() { "the default".to_owned() } else { changed.join(",") }
}
