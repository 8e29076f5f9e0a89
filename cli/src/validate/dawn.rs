//! Checks with Dawn, a second implementation of WebGPU: it runs the same document as a page does.

use std::path::Path;

use anyhow::{Result, ensure};
use segloss::testing::cases::Case;
use serde::{Deserialize, Serialize};

use super::record::Tool;
use super::tools::node;
use crate::page::{self, Document};

#[derive(Serialize)]
struct Replay<'a> {
    backend: &'a str,
    document: Document,
}

#[derive(Deserialize)]
struct Answers {
    adapter: String,
    results: Vec<Answer>,
}

/// What became of a step, in the words of check.mjs.
#[derive(Deserialize)]
struct Answer {
    name: String,
    outcome: Outcome,
    message: String,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Passed,
    Failed,
    Unsupported,
}

/// Runs published cases, the steps that cover every kernel, pooled tensors and windows in Dawn, against the f64 reference.
pub fn replay(cases: &[Case], folder: &Path, backend: &str) -> Tool {
    let mut tool = Tool::new("Dawn", "");
    match run(cases, folder, backend, &mut tool) {
        Ok(dawn) => {
            tool.question = format!(
                "on {dawn}, steps compute the loss and the gradient of the f64 reference, the same bits in every run, and \
                 write to no byte between tensors"
            );
        }
        Err(error) => tool.absent = Some(format!("{error:#}")),
    }
    tool
}

fn run(cases: &[Case], folder: &Path, backend: &str, tool: &mut Tool) -> Result<String> {
    let document = page::for_dawn(cases)?;
    let count = document.steps.len();
    let Answers { adapter, results } = node(folder, "replay.mjs", &Replay { backend, document })?;
    ensure!(results.len() == count, "expected {count} answers, got {}", results.len());
    for Answer { name, outcome, message } in results {
        // these steps need nothing beyond WebGPU's defaults
        tool.check(&name, if outcome == Outcome::Passed { Ok(()) } else { Err(message) });
    }
    Ok(adapter)
}
