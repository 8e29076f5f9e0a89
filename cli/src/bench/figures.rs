//! The figures of a benchmark, as they are written and compared: medians, spreads, ratios with their uncertainty.

use serde::{Deserialize, Serialize};

pub const SCHEMA: &str = "segloss-bench/1";

/// A file of figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names of the file")]
pub struct Figures {
    pub schema: String,
    pub machine: Machine,
    /// The commit that was measured.
    pub commit: String,
    /// When, `YYYY-MM-DD`; empty in older files.
    #[serde(default)]
    pub date: String,
    /// `timestamps` of the GPU, or `wall`, the host's time from submission to an idle device. `wall: ` and a reason
    /// where the GPU's timestamps were given up.
    pub clock: String,
    pub figures: Vec<Figure>,
    #[serde(default)]
    pub ratios: Vec<Ratio>,
}

/// The device that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub adapter: String,
    pub backend: String,
    pub driver: String,
    /// A software driver, or PyTorch on a CPU.
    pub software: bool,
}

/// The time of one stage of one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub shape: String,
    pub stage: String,
    pub median_ns: f64,
    /// 10 % of the runs were faster.
    pub low_ns: f64,
    /// 10 % of the runs were slower.
    pub high_ns: f64,
    pub runs: usize,
    /// Bytes that any implementation must read and write, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// How many times as long one contender takes as another, over pairs of runs of the same round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// What is divided by what.
    pub name: String,
    pub shape: String,
    /// What is timed: a stage, or forward and backward together.
    #[serde(default = "forward_and_backward")]
    pub stage: String,
    pub median: f64,
    /// The 95 % interval of the median, by bootstrap.
    pub low: f64,
    pub high: f64,
    pub pairs: usize,
}

fn forward_and_backward() -> String {
    "forward + backward".to_owned()
}

impl Figure {
    pub fn new(name: &str, shape: &str, stage: &str, times: &[f64], bytes: Option<u64>) -> Self {
        let sorted = sorted(times);
        Self {
            name: name.to_owned(),
            shape: shape.to_owned(),
            stage: stage.to_owned(),
            median_ns: quantile(&sorted, 0.5).round(),
            low_ns: quantile(&sorted, 0.1).round(),
            high_ns: quantile(&sorted, 0.9).round(),
            runs: times.len(),
            bytes,
        }
    }

    /// GB/s, of the bytes that any implementation must move.
    pub fn bandwidth(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
        self.bytes.map(|bytes| bytes as f64 / self.median_ns)
    }
}

impl Ratio {
    pub fn new(name: &str, shape: &str, over: &[f64], under: &[f64]) -> Self {
        let ratios: Vec<f64> = over.iter().zip(under).map(|(over, under)| over / under).collect();
        let mut random = fastrand::Rng::with_seed(1);
        let medians: Vec<f64> = (0..2000)
            .map(|_| {
                quantile(
                    &sorted(&(0..ratios.len()).map(|_| ratios[random.usize(0..ratios.len())]).collect::<Vec<_>>()),
                    0.5,
                )
            })
            .collect();
        let medians = sorted(&medians);
        Self {
            name: name.to_owned(),
            shape: shape.to_owned(),
            stage: forward_and_backward(),
            median: quantile(&sorted(&ratios), 0.5),
            low: quantile(&medians, 0.025),
            high: quantile(&medians, 0.975),
            pairs: ratios.len(),
        }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// A quantile of sorted values, interpolated between the two nearest.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few values")]
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// The date in UTC, `YYYY-MM-DD`.
pub fn today() -> String {
    time::OffsetDateTime::now_utc().date().to_string()
}

/// The commit of this checkout, or `unknown`.
pub fn commit() -> String {
    let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let text =
        git.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}
