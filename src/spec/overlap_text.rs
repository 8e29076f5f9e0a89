//! The text of an overlap term: its settings, flat, and those of its kind.

use serde::{Deserialize, Serialize};

use super::check::{needed, not_taken};
use super::overlap::{Absent, Average, ClassWeighting, Form, Overlap, OverlapKind, Product};
use super::reduction::Reduction;
use super::types::ClassValues;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "as the settings that it writes")]
pub(super) struct Fields {
    kind: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpha: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beta: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class_weighting: Option<ClassWeighting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    smooth_counts: Option<f32>,
    include_background: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<Vec<u32>>,
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
    average: Average,
    form: Form,
    #[serde(skip_serializing_if = "Option::is_none")]
    gamma: Option<ClassValues>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eps: Option<f32>,
    product: Product,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<Absent>,
    /// The older text of `absent`: true is `skip`, false `count`. It is read, and never written.
    #[serde(skip_serializing)]
    present_classes_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_of_mean: Option<f32>,
    weight: f32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Name {
    Dice,
    Jaccard,
    Tversky,
    GeneralizedDice,
    Mcc,
}

/// The settings that every kind has, from the one form to the other.
macro_rules! settings {
    ($of:ident, { $($own:tt)* }) => {
        Self {
            $($own)*
            include_background: $of.include_background,
            classes: $of.classes,
            batch: $of.batch,
            squared: $of.squared,
            smooth_nr: $of.smooth_nr,
            smooth_dr: $of.smooth_dr,
            denominator_floor: $of.denominator_floor,
            class_weights: $of.class_weights,
            ignore_single_class_weight: $of.ignore_single_class_weight,
            reduction: $of.reduction,
            average: $of.average,
            form: $of.form,
            gamma: $of.gamma,
            product: $of.product,
            power_of_mean: $of.power_of_mean,
            weight: $of.weight,
        }
    };
}

impl Default for Fields {
    fn default() -> Self {
        // absent unless it is given, so that its older text is seen
        let mut fields: Self = Overlap::default().into();
        fields.absent = None;
        fields
    }
}

impl TryFrom<Fields> for Overlap {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields { alpha, beta, class_weighting, smooth_counts, eps, .. } = fields;
        let kind = match fields.kind {
            Name::Dice => OverlapKind::Dice,
            Name::Jaccard => OverlapKind::Jaccard,
            Name::Tversky => OverlapKind::Tversky {
                alpha: needed("overlap", "tversky", "alpha", alpha)?,
                beta: needed("overlap", "tversky", "beta", beta)?,
            },
            Name::GeneralizedDice => OverlapKind::GeneralizedDice {
                class_weighting: needed("overlap", "generalized_dice", "class_weighting", class_weighting)?,
            },
            Name::Mcc => OverlapKind::Mcc { smooth_counts: smooth_counts.unwrap_or(0.0) },
        };
        let absent = match (fields.absent, fields.present_classes_only) {
            (Some(_), Some(_)) => {
                return Err("overlap.present_classes_only: expected none beside absent, got a value".to_owned());
            }
            (given, None) => given.unwrap_or(Absent::Count),
            (None, Some(only)) => {
                if only {
                    Absent::Skip
                } else {
                    Absent::Count
                }
            }
        };
        let overlap = settings!(fields, { kind, eps: eps.unwrap_or(Overlap::default().eps), absent, });
        let written = Fields::from(overlap.clone());
        let own = [
            ("alpha", alpha.is_some(), written.alpha.is_some()),
            ("beta", beta.is_some(), written.beta.is_some()),
            ("class_weighting", class_weighting.is_some(), written.class_weighting.is_some()),
            ("smooth_counts", smooth_counts.is_some(), written.smooth_counts.is_some()),
        ];
        not_taken("overlap", overlap.kind.name(), &own)?;
        let of = "a term without a logarithm or a power";
        not_taken("overlap", of, &[("eps", eps.is_some(), written.eps.is_some())])?;
        Ok(overlap)
    }
}

impl From<Overlap> for Fields {
    fn from(overlap: Overlap) -> Self {
        let (mut alpha, mut beta, mut class_weighting, mut smooth_counts) = (None, None, None, None);
        let kind = match overlap.kind {
            OverlapKind::Dice => Name::Dice,
            OverlapKind::Jaccard => Name::Jaccard,
            OverlapKind::Tversky { alpha: a, beta: b } => {
                (alpha, beta) = (Some(a), Some(b));
                Name::Tversky
            }
            OverlapKind::GeneralizedDice { class_weighting: weighting } => {
                class_weighting = Some(weighting);
                Name::GeneralizedDice
            }
            OverlapKind::Mcc { smooth_counts: smooth } => {
                smooth_counts = Some(smooth);
                Name::Mcc
            }
        };
        let sees_eps = overlap.form == Form::Log || overlap.gamma.is_some() || overlap.power_of_mean.is_some();
        let eps = sees_eps.then_some(overlap.eps);
        let absent = Some(overlap.absent);
        settings!(overlap, { kind, alpha, beta, class_weighting, smooth_counts, eps, absent, present_classes_only: None, })
    }
}
