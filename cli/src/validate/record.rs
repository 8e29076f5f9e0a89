//! The results of a validation, as they are written and compared.

use serde::{Deserialize, Serialize};

pub const SCHEMA: &str = "segloss-validation/1";

/// A validation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Validation {
    pub schema: String,
    /// The version and the commit of this crate.
    pub version: String,
    pub commit: String,
    /// When it ran, `YYYY-MM-DD`; empty in older reports.
    #[serde(default)]
    pub date: String,
    /// The seed of the random specifications.
    pub seed: u64,
    pub shaders: Shaders,
    pub adapters: Vec<Adapter>,
    /// Differences between adapters on the same specifications and tensors.
    pub spread: Vec<Spread>,
}

/// The results of the tools on the shaders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shaders {
    /// How many permutations were checked; how many of them cover every pair of choices; and how many there are in all:
    /// `None` in older reports, which checked all.
    pub permutations: usize,
    pub covering: usize,
    #[serde(default)]
    pub all: Option<u64>,
    pub tools: Vec<Tool>,
    /// `None` in reports that are older than this search.
    #[serde(default)]
    pub switches_in_loops: Option<SwitchesInLoops>,
}

/// Permutations whose HLSL at shader model 5.1 has a `switch` inside a loop: known to go wrong in FXC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SwitchesInLoops {
    /// The permutations that were searched.
    pub permutations: usize,
    /// The permutations with such a `switch`, and those where it is in a loop of its own function.
    pub any: usize,
    pub own_loop: usize,
    pub functions: Vec<Switch>,
}

/// A function with a `switch`, and in how many permutations it is inside a loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Switch {
    pub stage: String,
    pub function: String,
    /// In a loop of the function, and in a loop of a caller.
    pub own_loop: usize,
    pub callers_loop: usize,
}

/// The results of one tool.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    /// What it checked.
    pub question: String,
    /// Why it did not run; `None` if it ran.
    pub absent: Option<String>,
    pub checked: usize,
    pub failures: Vec<Failure>,
}

/// A failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub what: String,
    pub message: String,
}

/// The results of one adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adapter {
    /// Name and back end.
    pub name: String,
    /// Limits and features as the device states them.
    pub states: Vec<(String, String)>,
    /// The default variant of the kernels on it.
    pub variant: Vec<(String, String)>,
    /// The published implementations' cases.
    pub cases: Counts,
    /// Steps that cover every pair of choices, against f64.
    pub covering: Counts,
    /// Steps that have every kernel; in a browser also pooled tensors and windows. None in older reports.
    #[serde(default)]
    pub steps: Counts,
    /// Errors of these and of random specifications against f64, by the heads' terms and types.
    pub errors: Vec<Errors>,
    /// The histogram of the gradient errors of all trials, by powers of two.
    pub histogram: Vec<Bin>,
    /// Shapes at the device's limits.
    pub sizes: Vec<Size>,
    /// Runs per step, and how many steps had the same bits in all of them.
    pub runs_each: usize,
    pub determinism: Counts,
    pub failures: Vec<Failure>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub unsupported: usize,
}

/// The worst errors of one kind of term in one type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Errors {
    pub kind: String,
    pub dtype: String,
    pub trials: usize,
    /// Relative to max(1, |loss|).
    pub loss: f64,
    /// Relative to the head's largest gradient; beyond one rounding to the gradient's type.
    pub gradient: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Bin {
    /// log2 of the bin's upper end.
    pub below: i32,
    pub trials: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Size {
    pub what: String,
    pub shape: String,
    pub loss: f64,
    pub gradient: f64,
}

/// The largest differences between two adapters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spread {
    pub one: String,
    pub other: String,
    pub steps: usize,
    pub equal_bits: usize,
    pub loss: f64,
    pub gradient: f64,
}

impl Validation {
    /// All failures, each with the tool or adapter that it is of.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Failure)> {
        let tools = self.shaders.tools.iter().map(|tool| (tool.name.as_str(), &tool.failures));
        let adapters = self.adapters.iter().map(|adapter| (adapter.name.as_str(), &adapter.failures));
        tools.chain(adapters).flat_map(|(name, failures)| failures.iter().map(move |failure| (name, failure)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_older_than_the_search_for_switches_is_read() {
        let older = r#"{ "permutations": 2, "covering": 1, "tools": [] }"#;
        let shaders: Shaders = serde_json::from_str(older).expect("the record");
        assert!(shaders.switches_in_loops.is_none());
    }
}
