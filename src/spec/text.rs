//! A specification as text: JSON, TOML, whatever serde writes.
//!
//! The field names are those of the settings, and of the case files (`tests/cases/SCHEMA.md`); `dtype` is PyTorch's word for
//! an element's type. A setting that is left out has the value that its builder gives it. An unknown one, one that its kind
//! does not take, or one that its kind lacks, is an error that names it.

use serde::{Deserialize, Serialize};

use super::{
    Activation, Alpha, ClassWeighting, Empty, FloatType, Form, HardCounts, Head, LabelType, Loss, Overlap, OverlapKind,
    Pixel, PixelKind, Product, Reduction, ScalarAlpha, Target,
};

/// A field that is there or not. TOML has no null: what is not there is left out.
macro_rules! taken {
    ($of:literal, $kind:expr, $field:ident) => {
        $field
            .ok_or_else(|| format!(concat!($of, ".", stringify!($field), ": expected a value for {}, got none"), $kind))
    };
}

/// Refuses fields that a kind does not take.
fn refuse(of: &str, kind: &str, fields: &[(&str, bool)]) -> Result<(), String> {
    let given = fields.iter().find(|(_, given)| *given);
    given.map_or(Ok(()), |(name, _)| Err(format!("{of}.{name}: expected none for {kind}, got a value")))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "as the settings that it writes")]
pub(super) struct HeadFields {
    shape: Vec<usize>,
    #[serde(default = "f32_type")]
    dtype: FloatType,
    #[serde(default)]
    target: TargetFields,
    #[serde(default)]
    mask: bool,
    #[serde(default)]
    weight_map: bool,
    #[serde(default)]
    sample_mask: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignore_index: Option<i64>,
    #[serde(default = "no_counts")]
    hard_counts: HardCounts,
    #[serde(default)]
    unreduced: bool,
    #[serde(default)]
    check_finite: bool,
    #[serde(default = "softmax")]
    activation: Activation,
    #[serde(default = "one")]
    weight: f32,
    // tables last, as TOML asks
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<Overlap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pixel: Option<Pixel>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetFields {
    kind: TargetKind,
    /// u8 of labels, f32 of probabilities, where it is left out.
    dtype: Option<String>,
    /// The labels' spatial shape, where it is not that of the logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    spatial: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resample: Option<Resample>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetKind {
    Labels,
    Probabilities,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Resample {
    #[serde(rename = "nearest-exact")]
    NearestExact,
}

impl Default for TargetFields {
    fn default() -> Self {
        Self { kind: TargetKind::Labels, dtype: None, spatial: None, resample: None }
    }
}

fn f32_type() -> FloatType {
    FloatType::F32
}

fn no_counts() -> HardCounts {
    HardCounts::None
}

fn softmax() -> Activation {
    Activation::Softmax
}

fn one() -> f32 {
    1.0
}

const FLOAT_TYPES: [FloatType; 3] = [FloatType::F32, FloatType::F16, FloatType::Bf16];

fn named<T: Copy>(name: &str, types: &[T], name_of: fn(T) -> &'static str) -> Result<T, String> {
    types.iter().copied().find(|known| name_of(*known) == name).ok_or_else(|| {
        let known: Vec<_> = types.iter().copied().map(name_of).collect();
        format!("target.dtype: expected one of {}, got {name}", known.join(", "))
    })
}

impl TryFrom<HeadFields> for Head {
    type Error = String;

    fn try_from(fields: HeadFields) -> Result<Self, String> {
        let TargetFields { kind, dtype, spatial, resample } = fields.target;
        let target = match kind {
            TargetKind::Labels => {
                Target::Labels(named(dtype.as_deref().unwrap_or("u8"), &LabelType::ALL, LabelType::name)?)
            }
            TargetKind::Probabilities => {
                Target::Probabilities(named(dtype.as_deref().unwrap_or("f32"), &FLOAT_TYPES, FloatType::name)?)
            }
        };
        if spatial.is_some() != resample.is_some() {
            return Err("target: expected spatial and resample together, got one of them".to_owned());
        }
        Ok(Self {
            shape: fields.shape,
            logits: fields.dtype,
            target,
            resample: spatial,
            mask: fields.mask,
            weight_map: fields.weight_map,
            sample_mask: fields.sample_mask,
            ignore_index: fields.ignore_index,
            hard_counts: fields.hard_counts,
            unreduced: fields.unreduced,
            check_finite: fields.check_finite,
            loss: Loss { activation: fields.activation, overlap: fields.overlap, pixel: fields.pixel },
            weight: fields.weight,
        })
    }
}

impl From<Head> for HeadFields {
    fn from(head: Head) -> Self {
        let (kind, dtype) = match head.target {
            Target::Labels(labels) => (TargetKind::Labels, labels.name()),
            Target::Probabilities(float) => (TargetKind::Probabilities, float.name()),
        };
        let resample = head.resample.is_some().then_some(Resample::NearestExact);
        Self {
            shape: head.shape,
            dtype: head.logits,
            target: TargetFields { kind, dtype: Some(dtype.to_owned()), spatial: head.resample, resample },
            mask: head.mask,
            weight_map: head.weight_map,
            sample_mask: head.sample_mask,
            ignore_index: head.ignore_index,
            hard_counts: head.hard_counts,
            unreduced: head.unreduced,
            check_finite: head.check_finite,
            activation: head.loss.activation,
            weight: head.weight,
            overlap: head.loss.overlap,
            pixel: head.loss.pixel,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "as the settings that it writes")]
pub(super) struct OverlapFields {
    kind: OverlapName,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class_weighting: Option<ClassWeighting>,
    include_background: bool,
    batch: bool,
    squared: bool,
    smooth_nr: f32,
    smooth_dr: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    denominator_floor: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class_weights: Option<Vec<f32>>,
    ignore_single_class_weight: bool,
    reduction: Reduction,
    form: Form,
    product: Product,
    present_classes_only: bool,
    weight: f32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OverlapName {
    Dice,
    Jaccard,
    Tversky,
    GeneralizedDice,
}

impl Default for OverlapFields {
    fn default() -> Self {
        Overlap::default().into()
    }
}

impl TryFrom<OverlapFields> for Overlap {
    type Error = String;

    fn try_from(fields: OverlapFields) -> Result<Self, String> {
        let OverlapFields { alpha, beta, class_weighting, .. } = fields;
        let of_tversky = [("alpha", alpha.is_some()), ("beta", beta.is_some())];
        let of_generalized = [("class_weighting", class_weighting.is_some())];
        let refuse = |kind, fields: &[(&str, bool)]| refuse("overlap", kind, fields);
        let kind = match fields.kind {
            OverlapName::Dice | OverlapName::Jaccard => {
                let (name, kind) = match fields.kind {
                    OverlapName::Dice => ("dice", OverlapKind::Dice),
                    _ => ("jaccard", OverlapKind::Jaccard),
                };
                refuse(name, &of_tversky)?;
                refuse(name, &of_generalized)?;
                kind
            }
            OverlapName::Tversky => {
                refuse("tversky", &of_generalized)?;
                OverlapKind::Tversky {
                    alpha: taken!("overlap", "tversky", alpha)?,
                    beta: taken!("overlap", "tversky", beta)?,
                }
            }
            OverlapName::GeneralizedDice => {
                refuse("generalized_dice", &of_tversky)?;
                OverlapKind::GeneralizedDice {
                    class_weighting: taken!("overlap", "generalized_dice", class_weighting)?,
                }
            }
        };
        Ok(Self {
            kind,
            include_background: fields.include_background,
            batch: fields.batch,
            squared: fields.squared,
            smooth_nr: fields.smooth_nr,
            smooth_dr: fields.smooth_dr,
            denominator_floor: fields.denominator_floor,
            class_weights: fields.class_weights,
            ignore_single_class_weight: fields.ignore_single_class_weight,
            reduction: fields.reduction,
            form: fields.form,
            product: fields.product,
            present_classes_only: fields.present_classes_only,
            weight: fields.weight,
        })
    }
}

impl From<Overlap> for OverlapFields {
    fn from(overlap: Overlap) -> Self {
        let (mut alpha, mut beta, mut class_weighting) = (None, None, None);
        let kind = match overlap.kind {
            OverlapKind::Dice => OverlapName::Dice,
            OverlapKind::Jaccard => OverlapName::Jaccard,
            OverlapKind::Tversky { alpha: a, beta: b } => {
                (alpha, beta) = (Some(a), Some(b));
                OverlapName::Tversky
            }
            OverlapKind::GeneralizedDice { class_weighting: weighting } => {
                class_weighting = Some(weighting);
                OverlapName::GeneralizedDice
            }
        };
        Self {
            kind,
            alpha,
            beta,
            class_weighting,
            include_background: overlap.include_background,
            batch: overlap.batch,
            squared: overlap.squared,
            smooth_nr: overlap.smooth_nr,
            smooth_dr: overlap.smooth_dr,
            denominator_floor: overlap.denominator_floor,
            class_weights: overlap.class_weights,
            ignore_single_class_weight: overlap.ignore_single_class_weight,
            reduction: overlap.reduction,
            form: overlap.form,
            product: overlap.product,
            present_classes_only: overlap.present_classes_only,
            weight: overlap.weight,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PixelFields {
    kind: PixelName,
    #[serde(skip_serializing_if = "Option::is_none")]
    k_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos_weight: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gamma: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<AlphaFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scalar_alpha: Option<ScalarAlpha>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include_background: Option<bool>,
    label_smoothing: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    class_weights: Option<Vec<f32>>,
    reduction: Reduction,
    mean_over_voxels: bool,
    empty: Empty,
    weight: f32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PixelName {
    CrossEntropy,
    TopKCrossEntropy,
    BinaryCrossEntropy,
    Focal,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum AlphaFields {
    Scalar(f32),
    PerClass(Vec<f32>),
}

impl Default for PixelFields {
    fn default() -> Self {
        Pixel::default().into()
    }
}

impl TryFrom<PixelFields> for Pixel {
    type Error = String;

    fn try_from(fields: PixelFields) -> Result<Self, String> {
        let PixelFields { k_percent, pos_weight, gamma, alpha, scalar_alpha, include_background, .. } = fields;
        let of_top_k = ("k_percent", k_percent.is_some());
        let of_binary = ("pos_weight", pos_weight.is_some());
        let of_focal = [
            ("gamma", gamma.is_some()),
            ("alpha", alpha.is_some()),
            ("scalar_alpha", scalar_alpha.is_some()),
            ("include_background", include_background.is_some()),
        ];
        let others = |kind: &str, own: &str| {
            let all = [of_top_k, of_binary].into_iter().chain(of_focal).filter(|(name, _)| *name != own);
            refuse("pixel", kind, &all.collect::<Vec<_>>())
        };
        let kind = match fields.kind {
            PixelName::CrossEntropy => {
                others("cross_entropy", "")?;
                PixelKind::CrossEntropy
            }
            PixelName::TopKCrossEntropy => {
                others("top_k_cross_entropy", "k_percent")?;
                PixelKind::TopKCrossEntropy { k_percent: taken!("pixel", "top_k_cross_entropy", k_percent)? }
            }
            PixelName::BinaryCrossEntropy => {
                others("binary_cross_entropy", "pos_weight")?;
                PixelKind::BinaryCrossEntropy { pos_weight }
            }
            PixelName::Focal => {
                refuse("pixel", "focal", &[of_top_k, of_binary])?;
                PixelKind::Focal {
                    gamma: taken!("pixel", "focal", gamma)?,
                    alpha: match alpha {
                        None => Alpha::None,
                        Some(AlphaFields::Scalar(alpha)) => Alpha::Scalar(alpha),
                        Some(AlphaFields::PerClass(alpha)) => Alpha::PerClass(alpha),
                    },
                    scalar_alpha: scalar_alpha.unwrap_or(ScalarAlpha::FirstClass),
                    include_background: include_background.unwrap_or(true),
                }
            }
        };
        Ok(Self {
            kind,
            label_smoothing: fields.label_smoothing,
            class_weights: fields.class_weights,
            reduction: fields.reduction,
            mean_over_voxels: fields.mean_over_voxels,
            empty: fields.empty,
            weight: fields.weight,
        })
    }
}

impl From<Pixel> for PixelFields {
    fn from(pixel: Pixel) -> Self {
        let mut fields = Self {
            kind: PixelName::CrossEntropy,
            k_percent: None,
            pos_weight: None,
            gamma: None,
            alpha: None,
            scalar_alpha: None,
            include_background: None,
            label_smoothing: pixel.label_smoothing,
            class_weights: pixel.class_weights,
            reduction: pixel.reduction,
            mean_over_voxels: pixel.mean_over_voxels,
            empty: pixel.empty,
            weight: pixel.weight,
        };
        match pixel.kind {
            PixelKind::CrossEntropy => {}
            PixelKind::TopKCrossEntropy { k_percent } => {
                (fields.kind, fields.k_percent) = (PixelName::TopKCrossEntropy, Some(k_percent));
            }
            PixelKind::BinaryCrossEntropy { pos_weight } => {
                (fields.kind, fields.pos_weight) = (PixelName::BinaryCrossEntropy, pos_weight);
            }
            PixelKind::Focal { gamma, alpha, scalar_alpha, include_background } => {
                fields.kind = PixelName::Focal;
                fields.gamma = Some(gamma);
                fields.alpha = match alpha {
                    Alpha::None => None,
                    Alpha::Scalar(alpha) => Some(AlphaFields::Scalar(alpha)),
                    Alpha::PerClass(alpha) => Some(AlphaFields::PerClass(alpha)),
                };
                fields.scalar_alpha = Some(scalar_alpha);
                fields.include_background = Some(include_background);
            }
        }
        fields
    }
}
