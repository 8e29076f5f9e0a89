//! What a validation found, as it is written and compared.

use serde::{Deserialize, Serialize};

pub const SCHEMA: &str = "segloss-validation/1";

/// A validation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Validation {
    pub schema: String,
    /// The version of this crate, and its commit.
    pub version: String,
    pub commit: String,
    /// What the random specifications were drawn from.
    pub seed: u64,
    pub shaders: Shaders,
    pub adapters: Vec<Adapter>,
    /// Between adapters: the same specifications, the same tensors.
    pub spread: Vec<Spread>,
}

/// The shaders in the tools.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shaders {
    /// Permutations that were looked at; those of them that have every pair of choices; and how many every choice with every
    /// other would be, `None` in older reports, which looked at all.
    pub permutations: usize,
    pub covering: usize,
    #[serde(default)]
    pub all: Option<u64>,
    pub tools: Vec<Tool>,
    /// `None` in reports older than the search.
    #[serde(default)]
    pub switches_in_loops: Option<SwitchesInLoops>,
}

/// Permutations whose HLSL at shader model 5.1 has a `switch` inside a loop: known to go wrong in FXC.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SwitchesInLoops {
    /// Those that were searched.
    pub permutations: usize,
    /// Those with such a `switch`, and those where it is in a loop of its own function.
    pub any: usize,
    pub own_loop: usize,
    pub functions: Vec<Switch>,
}

/// A function with a `switch`, in how many permutations it is inside a loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Switch {
    pub stage: String,
    pub function: String,
    /// In a loop of the function, and in a loop of a caller.
    pub own_loop: usize,
    pub callers_loop: usize,
}

/// A tool, and what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    /// What was asked of it.
    pub question: String,
    /// `None`: it ran. Otherwise why it did not.
    pub absent: Option<String>,
    pub checked: usize,
    pub failures: Vec<Failure>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub what: String,
    pub message: String,
}

/// An adapter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adapter {
    /// Name and back end.
    pub name: String,
    /// Limits and features as the device states them.
    pub states: Vec<(String, String)>,
    /// The kernels' variant that a plan chooses.
    pub variant: Vec<(String, String)>,
    /// Cases of the published implementations.
    pub cases: Counts,
    /// Steps that have every pair of choices, against f64.
    pub covering: Counts,
    /// Errors of these and of random specifications against f64, by the heads' terms and types.
    pub errors: Vec<Errors>,
    /// Gradient errors of all trials: how many lie below each power of two.
    pub histogram: Vec<Bin>,
    /// Shapes at the device's limits.
    pub sizes: Vec<Size>,
    /// Runs of each step, and steps whose bits were not equal in all.
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

/// The worst errors of a kind of term in a type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Errors {
    pub kind: String,
    pub dtype: String,
    pub trials: usize,
    /// Relative to max(1, |loss|).
    pub loss: f64,
    /// Relative to the largest gradient of the head; beside the one rounding to the gradient's type.
    pub gradient: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Bin {
    /// log2 of the upper end.
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

/// How far two adapters are apart, at most.
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
    /// Everything that is wrong, with where it is.
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
