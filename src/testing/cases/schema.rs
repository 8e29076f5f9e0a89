//! The schema of a case file.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

use super::heads::CaseHead;
use super::numbers::Number;
use super::version_1;

/// The schemas that this module reads.
const SCHEMAS: [&str; 2] = ["segloss-cases/1", "segloss-cases/2"];

/// Why a case file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The file is missing or cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// The file is not a case file.
    #[error("{path}: {error}")]
    Json {
        /// The file.
        path: String,
        /// Where it departs from the schema.
        error: serde_json::Error,
    },
    /// The file has another schema.
    #[error("{path}: expected schema {}, got {given}", SCHEMAS.join(" or "))]
    Schema {
        /// The file.
        path: String,
        /// The file's schema.
        given: String,
    },
}

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// What the cases are, and which program wrote them.
    pub about: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The case's name.
    pub id: String,
    /// The implementation that the expected numbers are from.
    pub origin: String,
    /// The heads.
    pub heads: Vec<CaseHead>,
    /// The expected numbers.
    pub expected: Expected,
    /// How far off a result may be.
    pub tolerance: Tolerance,
}

/// The results that a case expects.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Expected {
    /// No plan may accept these heads.
    Refused(Refused),
    /// The loss, and more.
    Results(Results),
}

/// A refusal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The setting that the error names.
    pub refused: String,
}

/// The numbers that a case expects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// The total.
    pub loss: Number,
    /// The gradient of each head's logits.
    pub grads: Option<Vec<Vec<Number>>>,
    /// What is expected of each head.
    pub heads: Option<Vec<ExpectedHead>>,
}

/// What is expected of a head.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedHead {
    /// The unweighted terms, in the order of the head's; null where a term is not told.
    pub terms: Option<Vec<Option<Number>>>,
    /// The metrics.
    #[serde(default)]
    pub metrics: Option<ExpectedMetrics>,
    /// The overlap term of each row and class that takes part.
    #[serde(default)]
    pub overlap_losses: Option<Vec<Vec<Number>>>,
    /// The pixel term of each voxel.
    #[serde(default)]
    pub voxel_losses: Option<Vec<Number>>,
}

/// The metrics of a head.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedMetrics {
    /// TP, FP, FN and TN of each class.
    #[serde(default)]
    pub hard_counts: Option<Vec<[u32; 4]>>,
    #[serde(default)]
    pub(super) confusion_matrix: Option<Value>,
    #[serde(default)]
    pub(super) calibration: Option<Value>,
}

/// How far off a result x may be from the expected e. `loss`: |x − e| ≤ tol · max(1, |e|); `grad`: max |x − e| ≤ tol ·
/// max |e|.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Of the loss and the terms.
    pub loss: f64,
    /// Of the gradient.
    pub grad: f64,
}

/// Reads a case file, `.json` or `.json.gz`.
///
/// # Errors
/// [`CaseError`], with the path.
pub fn read(path: &Path) -> Result<CaseFile, CaseError> {
    let name = || path.display().to_string();
    let io = |error| CaseError::Io { path: name(), error };
    let mut bytes = std::fs::read(path).map_err(io)?;
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = Vec::new();
        GzDecoder::new(&bytes[..]).read_to_end(&mut text).map_err(io)?;
        bytes = text;
    }
    let json = |error| CaseError::Json { path: name(), error };
    let mut file: Value = serde_json::from_slice(&bytes).map_err(json)?;
    let schema = file.as_object_mut().and_then(|file| file.remove("schema"));
    let schema = schema.as_ref().and_then(Value::as_str).unwrap_or("none").to_owned();
    if !SCHEMAS.contains(&schema.as_str()) {
        return Err(CaseError::Schema { path: name(), given: schema });
    }
    if schema == SCHEMAS[0] {
        version_1::upgrade(&mut file);
    }
    serde_json::from_value(file).map_err(json)
}
