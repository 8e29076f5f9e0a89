//! The text of a pixel term: its settings, flat, and those of its kind.

use serde::{Deserialize, Serialize};

use super::check::{needed, not_taken};
use super::pixel::{Alpha, Empty, MeanOver, Pixel, PixelKind, ScalarAlpha};
use super::reduction::Reduction;
use super::types::ClassValues;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fields {
    kind: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    q: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pos_weight: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gamma: Option<ClassValues>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<ClassValues>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scalar_alpha: Option<ScalarAlpha>,
    #[serde(skip_serializing_if = "Option::is_none")]
    include_background: Option<bool>,
    label_smoothing: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    class_weights: Option<Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k_percent: Option<f64>,
    reduction: Reduction,
    #[serde(skip_serializing_if = "Option::is_none")]
    mean_over: Option<MeanOver>,
    /// The older text of `mean_over`: true is `voxels`, false `valid`. It is read, and never written.
    #[serde(skip_serializing)]
    mean_over_voxels: Option<bool>,
    empty: Empty,
    weight: f32,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    CrossEntropy,
    /// The older text of a cross-entropy with `k_percent`. It is read, and never written.
    TopKCrossEntropy,
    PolyCrossEntropy,
    GeneralizedCrossEntropy,
    BinaryCrossEntropy,
    Focal,
}

impl Default for Fields {
    fn default() -> Self {
        // absent unless it is given, so that its older text is seen
        let mut fields: Self = Pixel::default().into();
        fields.mean_over = None;
        fields
    }
}

impl TryFrom<Fields> for Pixel {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields { epsilon, q, pos_weight, gamma, alpha, scalar_alpha, include_background, .. } = fields;
        let given = [
            ("epsilon", epsilon.is_some()),
            ("q", q.is_some()),
            ("pos_weight", pos_weight.is_some()),
            ("gamma", gamma.is_some()),
            ("alpha", alpha.is_some()),
            ("scalar_alpha", scalar_alpha.is_some()),
            ("include_background", include_background.is_some()),
        ];
        let kind = match fields.kind {
            Name::CrossEntropy | Name::TopKCrossEntropy => PixelKind::CrossEntropy,
            Name::PolyCrossEntropy => {
                PixelKind::PolyCrossEntropy { epsilon: needed("pixel", "poly_cross_entropy", "epsilon", epsilon)? }
            }
            Name::GeneralizedCrossEntropy => {
                PixelKind::GeneralizedCrossEntropy { q: needed("pixel", "generalized_cross_entropy", "q", q)? }
            }
            Name::BinaryCrossEntropy => PixelKind::BinaryCrossEntropy { pos_weight },
            Name::Focal => PixelKind::Focal {
                gamma: needed("pixel", "focal", "gamma", gamma)?,
                alpha: match alpha {
                    None => Alpha::None,
                    Some(ClassValues::Same(alpha)) => Alpha::Scalar(alpha),
                    Some(ClassValues::Each(alpha)) => Alpha::PerClass(alpha),
                },
                scalar_alpha: scalar_alpha.unwrap_or(ScalarAlpha::FirstClass),
                include_background: include_background.unwrap_or(true),
            },
        };
        if fields.kind == Name::TopKCrossEntropy {
            needed("pixel", "top_k_cross_entropy", "k_percent", fields.k_percent)?;
        }
        let mean_over = match (fields.mean_over, fields.mean_over_voxels) {
            (Some(_), Some(_)) => {
                return Err("pixel.mean_over_voxels: expected none beside mean_over, got a value".to_owned());
            }
            (given, None) => given.unwrap_or(MeanOver::Valid),
            (None, Some(true)) => MeanOver::Voxels,
            (None, Some(false)) => MeanOver::Valid,
        };
        let pixel = Self {
            kind,
            label_smoothing: fields.label_smoothing,
            class_weights: fields.class_weights,
            k_percent: fields.k_percent,
            reduction: fields.reduction,
            mean_over,
            empty: fields.empty,
            weight: fields.weight,
        };
        let written = Fields::from(pixel.clone());
        let written = [
            written.epsilon.is_some(),
            written.q.is_some(),
            written.pos_weight.is_some(),
            written.gamma.is_some(),
            written.alpha.is_some(),
            written.scalar_alpha.is_some(),
            written.include_background.is_some(),
        ];
        let own: Vec<_> = given.iter().zip(written).map(|(&(name, given), written)| (name, given, written)).collect();
        not_taken("pixel", pixel.kind.name(), &own)?;
        Ok(pixel)
    }
}

impl From<Pixel> for Fields {
    fn from(pixel: Pixel) -> Self {
        let mut fields = Self {
            kind: Name::CrossEntropy,
            epsilon: None,
            q: None,
            pos_weight: None,
            gamma: None,
            alpha: None,
            scalar_alpha: None,
            include_background: None,
            label_smoothing: pixel.label_smoothing,
            class_weights: pixel.class_weights,
            k_percent: pixel.k_percent,
            reduction: pixel.reduction,
            mean_over: Some(pixel.mean_over),
            mean_over_voxels: None,
            empty: pixel.empty,
            weight: pixel.weight,
        };
        match pixel.kind {
            PixelKind::CrossEntropy => {}
            PixelKind::PolyCrossEntropy { epsilon } => {
                (fields.kind, fields.epsilon) = (Name::PolyCrossEntropy, Some(epsilon));
            }
            PixelKind::GeneralizedCrossEntropy { q } => {
                (fields.kind, fields.q) = (Name::GeneralizedCrossEntropy, Some(q));
            }
            PixelKind::BinaryCrossEntropy { pos_weight } => {
                (fields.kind, fields.pos_weight) = (Name::BinaryCrossEntropy, pos_weight);
            }
            PixelKind::Focal { gamma, alpha, scalar_alpha, include_background } => {
                fields.kind = Name::Focal;
                fields.gamma = Some(gamma);
                fields.alpha = match alpha {
                    Alpha::None => None,
                    Alpha::Scalar(alpha) => Some(ClassValues::Same(alpha)),
                    Alpha::PerClass(alpha) => Some(ClassValues::Each(alpha)),
                };
                fields.scalar_alpha = Some(scalar_alpha);
                fields.include_background = Some(include_background);
            }
        }
        fields
    }
}
