//! Figures of several files side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};

use super::figures::{Figure, Figures, SCHEMA};

pub fn read(path: &Path) -> Result<Figures> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let figures: Figures = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    ensure!(figures.schema == SCHEMA, "{}: expected schema {SCHEMA}, got {}", path.display(), figures.schema);
    Ok(figures)
}

/// Prints one row per shape, stage and name, with one column per file. Where a file has forward and backward apart,
/// their sum is a row too, to compare with what was only timed as a whole.
pub fn print(paths: &[PathBuf]) -> Result<Vec<Figures>> {
    let files: Vec<Figures> = paths.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let with_sums: Vec<Vec<Figure>> = files.iter().map(|file| sums(&file.figures)).collect();
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for figure in with_sums.iter().flatten() {
        let key = (figure.shape.clone(), figure.stage.clone(), figure.name.clone());
        if !rows.contains(&key) {
            rows.push(key);
        }
    }
    rows.sort();
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let headings = files.iter().zip(paths).map(|(file, path)| {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        format!("{name}\n{}\n{}, ms", file.machine.adapter, file.commit)
    });
    table.set_header(
        ["shape", "stage", "what"].into_iter().map(str::to_owned).chain(headings).chain(["over the first".to_owned()]),
    );
    for (shape, stage, name) in rows {
        let of = |figures: &Vec<Figure>, name: &str| {
            figures.iter().find(|f| f.shape == shape && f.stage == stage && f.name == name).map(|f| f.median_ns)
        };
        let times: Vec<Option<f64>> = with_sums.iter().map(|figures| of(figures, &name)).collect();
        // relative to the same row of the first file, or else to its fused kernels
        let base = times[0].filter(|_| times.iter().flatten().count() > 1).or_else(|| of(&with_sums[0], "segloss"));
        let last = times.iter().rev().flatten().next();
        let ratio = base.zip(last).map_or_else(String::new, |(base, time)| format!("{:.2}", time / base));
        let cells = times.iter().map(|time| time.map_or_else(String::new, |ns| format!("{:.2}", ns / 1e6)));
        table.add_row([shape.clone(), stage.clone(), name.clone()].into_iter().chain(cells).chain([ratio]));
    }
    for column in 3..table.column_count() {
        table.column_mut(column).expect("a column").set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    Ok(files)
}

/// The figures, and for each name with both stages their sum.
fn sums(figures: &[Figure]) -> Vec<Figure> {
    let mut all = figures.to_vec();
    for forward in figures.iter().filter(|f| f.stage == "forward") {
        let other = |f: &&Figure| f.stage == "backward" && f.name == forward.name && f.shape == forward.shape;
        if let Some(backward) = figures.iter().find(other) {
            all.push(Figure {
                stage: "forward + backward".to_owned(),
                median_ns: forward.median_ns + backward.median_ns,
                low_ns: forward.low_ns + backward.low_ns,
                high_ns: forward.high_ns + backward.high_ns,
                bytes: forward.bytes.zip(backward.bytes).map(|(a, b)| a + b),
                ..forward.clone()
            });
        }
    }
    all
}
