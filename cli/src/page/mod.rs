//! `segloss page`: one HTML file that validates and measures the kernels in any browser with WebGPU.

mod benches;
mod bundle;
mod document;
mod expected;
mod export;
mod native;
mod paper;
mod sets;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use segloss::testing::cases::{self, Case};

use crate::bench::workload::{Shape, to_shape};
pub use document::Document;
use export::Export;
use native::Native;
use trial::{Evaluated, Kind};

#[derive(clap::Args)]
pub struct Page {
    /// The file to write.
    #[arg(long, value_name = "FILE", default_value = "segloss.html")]
    out: PathBuf,
    /// Also write what is in the page as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Case files (`segloss-cases/1`).
    #[arg(long, value_name = "FILE", num_args = 1..)]
    cases: Vec<PathBuf>,
    /// Take one in this many of the cases.
    #[arg(long, value_name = "N", default_value_t = 8)]
    every: usize,
    /// Shape of logits to time, `NxCxD[xHxW]`; may be given several times.
    #[arg(long, value_name = "SHAPE", value_parser = to_shape,
        default_values = ["1x4x64x64x64", "1x4x128x128x128", "2x4x128x128x128", "4x4x128x128x128"])]
    shape: Vec<Shape>,
}

impl Page {
    pub fn run(self) -> Result<ExitCode> {
        let document = self.document()?;
        let json = serde_json::to_string(&document)?;
        if let Some(path) = &self.json {
            std::fs::write(path, &json).with_context(|| path.display().to_string())?;
        }
        let page = bundle::page(&json)?;
        std::fs::write(&self.out, &page).with_context(|| self.out.display().to_string())?;
        let Document { steps, shaders, .. } = document;
        println!("{}: {} kB, {} steps, {} shaders", self.out.display(), page.len() / 1000, steps.len(), shaders.len());
        Ok(ExitCode::SUCCESS)
    }

    /// Everything that a page checks and times.
    fn document(&self) -> Result<Document> {
        let mut cases: Vec<Case> = Vec::new();
        for file in &self.cases {
            cases.extend(cases::read(file)?.cases);
        }
        let (hardware, software) = (Kind::hardware()?, Kind::software()?);
        let subgroups = Kind::hardware_with_subgroups()?;
        let both = [&hardware, &software];
        let mut export = Export::new();
        export.native = Native::all();
        export.document.native = export.native.iter().map(|native| native.name.clone()).collect();
        sets::headline(&mut export, &[&hardware, &software, &subgroups])?;
        sets::published(&mut export, &cases, self.every, &both)?;
        sets::pooled(&mut export, &both)?;
        sets::windows(&mut export, &both)?;
        // there are many, of a few hundred elements each
        export.samples = 250;
        sets::covering(&mut export)?;
        export.samples = 1000;
        benches::floors(&mut export);
        benches::five_heads(&mut export, &both)?;
        let (sizes, shapes) = (sets::sizes(), benches::shapes(&self.shape));
        let count = sizes.len();
        let mut evaluated = Evaluated::all([sizes, shapes].concat())?.into_iter();
        sets::at_limits(&mut export, evaluated.by_ref().take(count), &both)?;
        benches::of_shapes(&mut export, evaluated, &both, &subgroups)?;
        Ok(export.document)
    }
}

/// One in this many of the published cases is replayed: a page has more of them.
const STRIDE: usize = 32;

/// What Dawn replays: steps at WebGPU's default limits, in the variant of a software driver.
pub fn for_dawn(cases: &[Case]) -> Result<Document> {
    let software = Kind::software()?;
    let mut export = Export::new();
    sets::pooled(&mut export, &[&software])?;
    sets::windows(&mut export, &[&software])?;
    sets::headline(&mut export, &[&software])?;
    sets::published(&mut export, cases, STRIDE, &[&software])?;
    Ok(export.document)
}
