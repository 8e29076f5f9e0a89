//! A case file as it is written, and the heads that it describes.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;

use crate::spec::{Alpha, ClassWeighting, Empty, FloatType, Form, OverlapKind, PixelKind, Product};
use crate::{Activation, Head, LabelType, Loss, Overlap, Pixel, Reduction, Target};

/// The schema that this module reads.
const SCHEMA: &str = "segloss-cases/1";

/// Why a case file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// It is not there, or not readable.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// It is not a case file.
    #[error("{path}: {error}")]
    Json {
        /// The file.
        path: String,
        /// Where it departs from the schema.
        error: serde_json::Error,
    },
    /// Its schema is another one.
    #[error("{path}: expected schema {SCHEMA}, got {given}")]
    Schema {
        /// The file.
        path: String,
        /// The schema that it names.
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
    /// What the cases are, and who made them.
    pub about: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// Its name.
    pub id: String,
    /// The implementation that gave the numbers.
    pub origin: String,
    /// The heads.
    pub heads: Vec<CaseHead>,
    /// The numbers.
    pub expected: Expected,
    /// How near is near enough.
    pub tolerance: Tolerance,
}

/// What a case expects.
#[derive(Clone, Debug, Deserialize)]
pub struct Expected {
    /// The total.
    pub loss: Number,
    /// The gradient of each head's logits.
    pub grads: Option<Vec<Vec<Number>>>,
    /// The unweighted terms of each head.
    pub heads: Option<Vec<ExpectedHead>>,
}

/// The unweighted terms of a head; a term that the head has not is null.
#[derive(Clone, Debug, Deserialize)]
pub struct ExpectedHead {
    /// The overlap term.
    pub overlap: Option<Number>,
    /// The pixel term.
    pub pixel: Option<Number>,
}

/// loss: |x − e| ≤ tol · max(1, |e|); grad: max |x − e| ≤ tol · max |e|.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Tolerance {
    /// Of the loss and the terms.
    pub loss: f64,
    /// Of the gradient.
    pub grad: f64,
}

/// A head of a case.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseHead {
    /// `[N, C, *spatial]`.
    pub shape: Vec<usize>,
    /// Row-major.
    pub logits: Vec<Number>,
    /// The target.
    pub target: CaseTarget,
    /// Voxels that count.
    pub mask: Option<CaseMask>,
    ignore_index: Option<i64>,
    activation: String,
    overlap: Option<CaseOverlap>,
    pixel: Option<CasePixel>,
    weight: f32,
}

/// A voxel mask, 0 or 1.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseMask {
    /// `[N, *spatial]`.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<u8>,
}

/// The target of a head.
#[derive(Clone, Debug, Deserialize)]
pub struct CaseTarget {
    kind: String,
    /// `[N, *spatial]` of labels, or the logits' shape.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<Number>,
    resample: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct CaseOverlap {
    kind: String,
    include_background: bool,
    batch: bool,
    squared: bool,
    smooth_nr: f32,
    smooth_dr: f32,
    denominator_floor: Option<f32>,
    class_weights: Option<Vec<f32>>,
    reduction: String,
    form: String,
    product: Option<String>,
    weight: f32,
    alpha: Option<f32>,
    beta: Option<f32>,
    class_weighting: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct CasePixel {
    kind: String,
    #[serde(default)]
    label_smoothing: f32,
    class_weights: Option<Vec<f32>>,
    reduction: String,
    weight: f32,
    pos_weight: Option<Vec<f32>>,
    gamma: Option<f32>,
    k_percent: Option<f32>,
    alpha: Option<CaseAlpha>,
    include_background: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum CaseAlpha {
    Scalar(f32),
    PerClass(Vec<f32>),
}

/// Reads a case file, `.json` or `.json.gz`.
///
/// # Errors
/// [`CaseError`] with the path.
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

/// Collects what a case needs and this crate has not.
#[derive(Default)]
struct Lacks(Vec<String>);

impl Lacks {
    /// The value of a word, or a note that it is not supported.
    fn word<T: Copy>(&mut self, setting: &str, word: &str, known: &[(&str, T)]) -> Option<T> {
        let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            self.0.push(format!("{setting} {word}"));
        }
        found
    }
}

impl CaseHead {
    /// The head, or everything that it needs and this crate has not.
    ///
    /// # Errors
    /// What is lacking, a phrase each.
    pub fn to_head(&self) -> Result<Head, Vec<String>> {
        let mut lacks = Lacks::default();
        let activations =
            [("softmax", Activation::Softmax), ("sigmoid", Activation::Sigmoid), ("none", Activation::None)];
        let activation = lacks.word("activation", &self.activation, &activations);
        let targets =
            [("labels", Target::Labels(self.label_type())), ("probabilities", Target::Probabilities(FloatType::F32))];
        let target = lacks.word("target", &self.target.kind, &targets);
        let resample = self.target.resample.as_ref().and_then(|resample| {
            lacks.word("resample", resample, &[("nearest-exact", ())])?;
            Some(self.target.shape[1..].to_vec())
        });
        let overlap = self.overlap.as_ref().map(|overlap| overlap.to_overlap(&mut lacks));
        let pixel = self.pixel.as_ref().map(|pixel| pixel.to_pixel(&mut lacks));
        let (Some(activation), Some(target)) = (activation, target) else { return Err(lacks.0) };
        if !lacks.0.is_empty() {
            return Err(lacks.0);
        }
        let loss = Loss { activation, overlap: overlap.flatten(), pixel: pixel.flatten() };
        Ok(Head {
            target,
            resample,
            mask: self.mask.is_some(),
            ignore_index: self.ignore_index,
            ..Head::new(self.shape.clone(), loss).weight(self.weight)
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
        [LabelType::U8, LabelType::U16].into_iter().find(holds).unwrap_or(LabelType::I32)
    }
}

const REDUCTIONS: [(&str, Reduction); 2] = [("mean", Reduction::Mean), ("sum", Reduction::Sum)];

impl CaseOverlap {
    fn to_overlap(&self, lacks: &mut Lacks) -> Option<Overlap> {
        let weightings = [
            ("square", ClassWeighting::Square),
            ("simple", ClassWeighting::Simple),
            ("uniform", ClassWeighting::Uniform),
        ];
        let class_weighting =
            self.class_weighting.as_ref().and_then(|word| lacks.word("class_weighting", word, &weightings));
        let mut kinds = vec![("dice", OverlapKind::Dice), ("jaccard", OverlapKind::Jaccard)];
        if let (Some(alpha), Some(beta)) = (self.alpha, self.beta) {
            kinds.push(("tversky", OverlapKind::Tversky { alpha, beta }));
        }
        if let Some(class_weighting) = class_weighting {
            kinds.push(("generalized_dice", OverlapKind::GeneralizedDice { class_weighting }));
        }
        let forms = [("one_minus", Form::OneMinus), ("negative", Form::Negative)];
        let product = self.product.as_deref().unwrap_or("product");
        let kind = lacks.word("overlap", &self.kind, &kinds);
        let reduction = lacks.word("overlap reduction", &self.reduction, &REDUCTIONS);
        let form = lacks.word("overlap form", &self.form, &forms);
        let products = [("product", Product::Product), ("minimum", Product::Minimum)];
        let product = lacks.word("overlap product", product, &products);
        Some(Overlap {
            kind: kind?,
            include_background: self.include_background,
            batch: self.batch,
            squared: self.squared,
            smooth_nr: self.smooth_nr,
            smooth_dr: self.smooth_dr,
            denominator_floor: self.denominator_floor,
            class_weights: self.class_weights.clone(),
            reduction: reduction?,
            form: form?,
            product: product?,
            present_classes_only: false,
            weight: self.weight,
        })
    }
}

impl CasePixel {
    fn to_pixel(&self, lacks: &mut Lacks) -> Option<Pixel> {
        let kind = match self.kind.as_str() {
            "cross_entropy" => Some(PixelKind::CrossEntropy),
            "top_k_cross_entropy" => Some(PixelKind::TopKCrossEntropy { k_percent: self.k_percent? }),
            "binary_cross_entropy" => Some(PixelKind::BinaryCrossEntropy { pos_weight: self.pos_weight.clone() }),
            "focal" => Some(PixelKind::Focal {
                gamma: self.gamma?,
                alpha: match self.alpha.clone() {
                    None => Alpha::None,
                    Some(CaseAlpha::Scalar(alpha)) => Alpha::Scalar(alpha),
                    Some(CaseAlpha::PerClass(alpha)) => Alpha::PerClass(alpha),
                },
                include_background: self.include_background.unwrap_or(true),
            }),
            other => {
                lacks.0.push(format!("pixel {other}"));
                None
            }
        };
        let reduction = lacks.word("pixel reduction", &self.reduction, &REDUCTIONS);
        Some(Pixel {
            kind: kind?,
            label_smoothing: self.label_smoothing,
            class_weights: self.class_weights.clone(),
            reduction: reduction?,
            empty: Empty::Nan,
            weight: self.weight,
        })
    }
}
