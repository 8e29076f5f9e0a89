//! `segloss hardware`: results as lines of the table of devices, docs/hardware/README.md.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::bench::compare::read;
use crate::bench::figures::Figures;
use crate::validate::compare;
use crate::validate::record::{Counts, Validation};

const HEADER: &str = "\
| adapter | runs in | driver | date | against f64 | shape | forward GB/s | backward GB/s | over the floor | files |
|---|---|---|---|---|---|--:|--:|--:|---|
";
/// The table is between these lines.
const BEGIN: &str = "<!-- table: `segloss hardware` -->\n";
const END: &str = "<!-- end of table -->\n";

/// Files whose names end so are a result: with the same beginning, the checks and the speed.
const VALIDATION: &str = "-validation.json";
const BENCH: &str = "-bench.json";

#[derive(clap::Args)]
pub struct Hardware {
    /// The folder whose `NAME-validation.json` and `NAME-bench.json` are the lines of the table in its README.md.
    #[arg(long, value_name = "DIR", default_value = "docs/hardware")]
    folder: PathBuf,
    /// Print the line of these two files instead.
    #[arg(long, value_names = ["VALIDATION.json", "BENCH.json"], num_args = 2)]
    row: Vec<PathBuf>,
}

impl Hardware {
    pub fn run(self) -> Result<ExitCode> {
        if let [validation, bench] = &self.row[..] {
            println!("{}", row(&compare::read(validation)?, Some(&read(bench)?), "–"));
            return Ok(ExitCode::SUCCESS);
        }
        let path = self.folder.join("README.md");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let text = with_table(&text, &table(&self.folder)?).with_context(|| path.display().to_string())?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The text with another table.
fn with_table(text: &str, table: &str) -> Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("no line where the table begins")?;
    let (_, after) = rest.split_once(END).context("no line where the table ends")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// A line per pair of files; hardware first.
fn table(folder: &Path) -> Result<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(VALIDATION).map(str::to_owned));
    }
    names.sort();
    let mut rows: Vec<(bool, String)> = Vec::new();
    for name in names {
        let [checks, speed] = [VALIDATION, BENCH].map(|end| format!("{name}{end}"));
        let validation = compare::read(&folder.join(&checks))?;
        let bench = folder.join(&speed);
        let bench = if bench.exists() { Some(read(&bench)?) } else { None };
        let files = if bench.is_some() {
            format!("[checks]({checks}), [speed]({speed})")
        } else {
            format!("[checks]({checks})")
        };
        let software = bench.as_ref().is_some_and(|bench| bench.machine.software);
        rows.push((software, row(&validation, bench.as_ref(), &files)));
    }
    rows.sort_by_key(|(software, _)| *software);
    Ok(HEADER.to_owned() + &rows.into_iter().map(|(_, row)| row + "\n").collect::<String>())
}

/// The same as results.mjs writes.
fn row(validation: &Validation, bench: Option<&Figures>, files: &str) -> String {
    let failed = validation.failures().count();
    let of_adapters = validation.adapters.iter();
    let passed: usize = of_adapters
        .map(|adapter| {
            let sets = [adapter.cases, adapter.covering, adapter.steps];
            sets.iter().map(|Counts { passed, .. }| passed).sum::<usize>() + adapter.sizes.len()
        })
        .sum();
    let errors = validation.adapters.iter().flat_map(|adapter| &adapter.errors);
    let worst = errors.map(|errors| errors.gradient).fold(0.0, f64::max);
    let says = if failed == 0 {
        format!("{passed} agree, worst {worst:.1e}")
    } else {
        format!("{failed} of {} FAIL", passed + failed)
    };
    let name = validation.adapters.first().map_or("–", |adapter| adapter.name.as_str());
    let none = || "–".to_owned();
    let largest = bench.and_then(|bench| bench.ratios.iter().rfind(|ratio| ratio.name == "time over the floor"));
    let speed = |stage: &str| {
        let (figures, shape) = (&bench?.figures, &largest?.shape);
        let figure = figures.iter().find(|f| f.shape == *shape && f.name == "segloss" && f.stage == stage)?;
        Some(format!("{:.1}", figure.bandwidth()?))
    };
    let machine = bench.map(|bench| &bench.machine);
    let cells = [
        machine.map_or_else(|| name.to_owned(), |m| m.adapter.clone() + if m.software { " (software)" } else { "" }),
        machine.map_or_else(none, |m| m.backend.clone()),
        machine.map_or_else(none, |m| m.driver.clone()),
        validation.date.clone(),
        says,
        largest.map_or_else(none, |largest| largest.shape.clone()),
        speed("forward").unwrap_or_else(none),
        speed("backward").unwrap_or_else(none),
        largest.map_or_else(none, |largest| format!("{:.2}", largest.median)),
        files.to_owned(),
    ];
    let cell = |text: &String| text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ");
    format!("| {} |", cells.iter().map(cell).collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_table_is_that_of_the_committed_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hardware");
        let text = std::fs::read_to_string(folder.join("README.md")).expect("it is there");
        let table = table(&folder).expect("the files are read");
        assert!(table.lines().count() > 2, "{table}");
        assert_eq!(with_table(&text, &table).expect("it has a table"), text, "`segloss hardware` writes it");
    }
}
