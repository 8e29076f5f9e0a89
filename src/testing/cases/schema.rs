//! The schema of a case file, and the heads that a case describes.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::spec::{
    Activation, Empty, FloatType, Head, LabelType, Loss, Overlap, Pixel, PixelKind, Reduction, ScalarAlpha, Target,
};

/// The schema that this module reads.
const SCHEMA: &str = "segloss-cases/1";

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
    #[error("{path}: expected schema {SCHEMA}, got {given}")]
    Schema {
        /// The file.
        path: String,
        /// The file's schema.
        given: String,
    },
}

/// A number; one that is not finite is written `"nan"`, `"inf"` or `"-inf"`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Number(pub f64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Word(String),
}

impl TryFrom<Written> for Number {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self(number)),
            Written::Word(word) => match word.as_str() {
                "nan" => Ok(Self(f64::NAN)),
                "inf" => Ok(Self(f64::INFINITY)),
                "-inf" => Ok(Self(f64::NEG_INFINITY)),
                _ => Err(format!("expected a number, \"nan\", \"inf\" or \"-inf\", got \"{word}\"")),
            },
        }
    }
}

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseFile {
    schema: String,
    /// What the cases are, and which program wrote them.
    pub about: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
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
pub struct Expected {
    /// The total.
    pub loss: Number,
    /// The gradient of each head's logits.
    pub grads: Option<Vec<Vec<Number>>>,
    /// The unweighted terms of each head.
    pub heads: Option<Vec<ExpectedHead>>,
}

/// The unweighted terms of a head; a term that the head lacks is null.
#[derive(Clone, Debug, Deserialize)]
pub struct ExpectedHead {
    /// The overlap term.
    pub overlap: Option<Number>,
    /// The pixel term.
    pub pixel: Option<Number>,
    /// TP, FP, FN and TN of each class.
    #[serde(default)]
    pub hard_counts: Option<Vec<[u32; 4]>>,
    /// The overlap term of each row and class that takes part.
    #[serde(default)]
    pub overlap_losses: Option<Vec<Vec<Number>>>,
    /// The pixel term of each voxel.
    #[serde(default)]
    pub voxel_losses: Option<Vec<Number>>,
}

/// How far off a result x may be from the expected e. `loss`: |x − e| ≤ tol · max(1, |e|); `grad`: max |x − e| ≤ tol ·
/// max |e|.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Tolerance {
    /// Of the loss and the terms.
    pub loss: f64,
    /// Of the gradient.
    pub grad: f64,
}

/// A head of a case. Settings that only some cases have stay JSON until [`to_head`](CaseHead::to_head) reads them, so
/// that a setting which this crate lacks makes its case unsupported and not the file unreadable.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseHead {
    /// `[N, C, *spatial]`.
    pub shape: Vec<usize>,
    /// Row-major.
    pub logits: Vec<Number>,
    /// The type of logits and gradient; f32 if absent.
    #[serde(default)]
    dtype: Option<FloatType>,
    /// The target.
    pub target: CaseTarget,
    /// Voxels that count.
    pub mask: Option<CaseTensor<u8>>,
    /// The weight of each voxel.
    pub weight_map: Option<CaseTensor<f32>>,
    /// Items that count.
    pub sample_mask: Option<CaseTensor<u8>>,
    ignore_index: Option<i64>,
    activation: Value,
    overlap: Option<Value>,
    pixel: Option<Value>,
    weight: f32,
}

/// A tensor besides logits and target.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseTensor<T> {
    /// `[N, *spatial]` of a mask or weight map, `[N]` of a sample mask.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<T>,
}

/// The target of a head.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseTarget {
    kind: String,
    /// The type of probabilities; f32 if absent. Labels take the smallest type that holds them.
    #[serde(default)]
    dtype: Option<FloatType>,
    /// `[N, *spatial]` of labels, the logits' shape of probabilities.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<Number>,
    resample: Option<String>,
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
    let file: CaseFile = serde_json::from_slice(&bytes).map_err(|error| CaseError::Json { path: name(), error })?;
    if file.schema != SCHEMA {
        return Err(CaseError::Schema { path: name(), given: file.schema });
    }
    Ok(file)
}

/// Reads a setting, or adds what this crate lacks for it to `lacks`.
fn setting<T: DeserializeOwned>(name: &str, value: &Value, lacks: &mut Vec<String>) -> Option<T> {
    T::deserialize(value).map_err(|error| lacks.push(format!("{name}: {error}"))).ok()
}

impl CaseHead {
    /// The head of the specification.
    ///
    /// # Errors
    /// Everything that the head needs and this crate lacks, one phrase each.
    pub fn to_head(&self) -> Result<Head, Vec<String>> {
        let mut lacks = Vec::new();
        let activation: Option<Activation> = setting("activation", &self.activation, &mut lacks);
        let overlap: Option<Overlap> = self.overlap.as_ref().and_then(|value| setting("overlap", value, &mut lacks));
        let pixel: Option<Pixel> = self.pixel.as_ref().and_then(|value| setting("pixel", value, &mut lacks));
        let pixel = pixel.map(as_monai);
        let target = match self.target.kind.as_str() {
            "labels" => Some(Target::Labels(self.label_type())),
            "probabilities" => Some(Target::Probabilities(self.target.dtype.unwrap_or(FloatType::F32))),
            other => {
                lacks.push(format!("target {other}"));
                None
            }
        };
        if let Some(resample) = self.target.resample.as_ref().filter(|resample| *resample != "nearest-exact") {
            lacks.push(format!("resample {resample}"));
        }
        let (Some(activation), Some(target), true) = (activation, target, lacks.is_empty()) else { return Err(lacks) };
        // the published implementations' mean over no voxel is NaN
        let pixel = pixel.map(|pixel| pixel.empty(Empty::Nan));
        Ok(Head {
            logits: self.dtype.unwrap_or(FloatType::F32),
            target,
            resample: self.target.resample.as_ref().map(|_| self.target.shape[1..].to_vec()),
            mask: self.mask.is_some(),
            weight_map: self.weight_map.is_some(),
            sample_mask: self.sample_mask.is_some(),
            ignore_index: self.ignore_index,
            ..Head::new(self.shape.clone(), Loss { activation, overlap, pixel }).weight(self.weight)
        })
    }

    /// The labels as integers.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "labels are small integers")]
    pub fn labels(&self) -> Vec<i64> {
        self.target.values.iter().map(|value| value.0 as i64).collect()
    }

    /// The smallest type that holds the labels and the ignore label.
    fn label_type(&self) -> LabelType {
        let labels: Vec<i64> = self.labels().into_iter().chain(self.ignore_index).collect();
        let holds = |label_type: &LabelType| labels.iter().all(|label| label_type.range().contains(label));
        let small = [LabelType::U8, LabelType::I8, LabelType::U16, LabelType::I16];
        small.into_iter().find(holds).unwrap_or(LabelType::I32)
    }
}

/// A focal term of a case is MONAI's: its `sum` adds up the means of items, and without the background its softmax
/// ignores a scalar α.
fn as_monai(mut pixel: Pixel) -> Pixel {
    if let PixelKind::Focal { scalar_alpha, .. } = &mut pixel.kind {
        *scalar_alpha = ScalarAlpha::IgnoredWithoutBackground;
        if pixel.reduction == Reduction::Sum {
            pixel.reduction = Reduction::SumOfItemMeans;
        }
    }
    pixel
}
