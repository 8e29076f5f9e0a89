//! The overlap term: a function of the statistics I = Σ p t, P = Σ p, T = Σ t of each class.

use super::check::Check;
use super::reduction::Reduction;
use crate::error::Error;

/// Which overlap.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum OverlapKind {
    /// `(2I + nr) / (P + T + dr)`: MONAI `DiceLoss`, nnU-Net `SoftDiceLoss`.
    Dice,
    /// `(2I + nr) / (2 (P + T − I) + dr)`: MONAI `DiceLoss(jaccard=True)`.
    Jaccard,
    /// `(I + nr) / (I + α(P − I) + β(T − I) + dr)`: MONAI `TverskyLoss`.
    Tversky {
        /// The weight of false positives; finite and not negative.
        alpha: f32,
        /// The weight of false negatives; finite and not negative.
        beta: f32,
    },
    /// `(2 Σ_c w_c I + nr) / (Σ_c w_c (P + T) + dr)`, one ratio per row: MONAI `GeneralizedDiceLoss`. No class axis is left,
    /// so class weights are an error.
    GeneralizedDice {
        /// How w follows from T.
        class_weighting: ClassWeighting,
    },
}

impl OverlapKind {
    /// Its name in text.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dice => "dice",
            Self::Jaccard => "jaccard",
            Self::Tversky { .. } => "tversky",
            Self::GeneralizedDice { .. } => "generalized_dice",
        }
    }

    /// The two numbers that a kind may have: α and β.
    pub(crate) fn parameters(&self) -> [f32; 2] {
        match *self {
            Self::Tversky { alpha, beta } => [alpha, beta],
            _ => [0.0, 0.0],
        }
    }

    /// How classes are weighted in one ratio per row; `None` for kinds with one ratio per class.
    pub(crate) fn class_weighting(&self) -> Option<ClassWeighting> {
        match *self {
            Self::GeneralizedDice { class_weighting } => Some(class_weighting),
            _ => None,
        }
    }
}

/// The weights of generalized Dice. A class that is absent (T = 0) gets the largest finite weight of its row.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassWeighting {
    /// 1 / T².
    Square,
    /// 1 / T.
    Simple,
    /// 1.
    Uniform,
}

/// What I sums.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// `p · t`.
    Product,
    /// `min(p, t)`: MONAI's `soft_label=True`, for targets that are probabilities. Not with `squared`.
    Minimum,
}

/// What is made of the ratio num/den.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// `1 − num/den`, as in MONAI.
    OneMinus,
    /// `−num/den`, as in nnU-Net.
    Negative,
    /// `−ln max(num/den, eps)`: `DiceLoss(log_loss=True)` of `segmentation_models.pytorch`. Where it clamps, the slope is 0.
    Log {
        /// The least ratio; positive and finite (smp: 1e-7).
        eps: f32,
    },
}

impl Form {
    /// The number that a form may have.
    pub(crate) fn parameter(self) -> f32 {
        match self {
            Self::OneMinus | Self::Negative => 0.0,
            Self::Log { eps } => eps,
        }
    }
}

/// The overlap term of a head. The names are MONAI's; [`Default`] has the defaults of MONAI's `DiceLoss`.
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "text::Fields", into = "text::Fields")
)]
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of MONAI's, by its name")]
pub struct Overlap {
    /// Which overlap.
    pub kind: OverlapKind,
    /// Whether class 0 takes part. It is dropped after the softmax; with one class the setting has no effect.
    pub include_background: bool,
    /// Sums over the batch before the ratio (MONAI `batch`, nnU-Net `batch_dice`), instead of one ratio per item.
    pub batch: bool,
    /// `P = Σ p²`, `T = Σ t²` (MONAI `squared_pred`); dice and jaccard only.
    pub squared: bool,
    /// Added to the numerator; finite and not negative.
    pub smooth_nr: f32,
    /// Added to the denominator; finite and not negative.
    pub smooth_dr: f32,
    /// Clamps the denominator from below (nnU-Net: 1e-8); where it clamps, the denominator has no derivative.
    pub denominator_floor: Option<f32>,
    /// One weight per class that takes part, multiplied onto the class's loss before the reduction.
    pub class_weights: Option<Vec<f32>>,
    /// Compatibility: leaves out the weight of the only class that takes part, as MONAI's `DiceLoss` does (two classes without
    /// the background, say).
    pub ignore_single_class_weight: bool,
    /// Over rows (items, or the one batch) and classes: the plain mean or the sum, weighted or not.
    pub reduction: Reduction,
    /// What is made of the ratio.
    pub form: Form,
    /// What I sums.
    pub product: Product,
    /// Averages each row over the classes with T > 0 alone; a row without any counts 0.
    pub present_classes_only: bool,
    /// The weight of this term in the head (MONAI `lambda_dice`, nnU-Net `weight_dice`); finite and not negative. At 0 the
    /// term adds exactly 0 to the total and to the gradient, whatever it is.
    pub weight: f32,
}

impl Default for Overlap {
    fn default() -> Self {
        Self {
            kind: OverlapKind::Dice,
            include_background: true,
            batch: false,
            squared: false,
            smooth_nr: 1e-5,
            smooth_dr: 1e-5,
            denominator_floor: None,
            class_weights: None,
            ignore_single_class_weight: false,
            reduction: Reduction::Mean,
            form: Form::OneMinus,
            product: Product::Product,
            present_classes_only: false,
            weight: 1.0,
        }
    }
}

impl Overlap {
    /// Soft Dice with MONAI's defaults.
    #[must_use]
    pub fn dice() -> Self {
        Self::default()
    }

    /// Soft Jaccard with MONAI's defaults.
    #[must_use]
    pub fn jaccard() -> Self {
        Self { kind: OverlapKind::Jaccard, ..Self::default() }
    }

    /// Tversky with MONAI's other defaults; α weighs false positives, β false negatives.
    #[must_use]
    pub fn tversky(alpha: f32, beta: f32) -> Self {
        Self { kind: OverlapKind::Tversky { alpha, beta }, ..Self::default() }
    }

    /// Generalized Dice with MONAI's other defaults.
    #[must_use]
    pub fn generalized_dice(class_weighting: ClassWeighting) -> Self {
        Self { kind: OverlapKind::GeneralizedDice { class_weighting }, ..Self::default() }
    }

    /// Sets [`product`](Self::product).
    #[must_use]
    pub fn product(mut self, product: Product) -> Self {
        self.product = product;
        self
    }

    /// Sets [`present_classes_only`](Self::present_classes_only).
    #[must_use]
    pub fn present_classes_only(mut self, present: bool) -> Self {
        self.present_classes_only = present;
        self
    }

    /// Sets [`include_background`](Self::include_background).
    #[must_use]
    pub fn include_background(mut self, include: bool) -> Self {
        self.include_background = include;
        self
    }

    /// Sets [`batch`](Self::batch).
    #[must_use]
    pub fn batch(mut self, batch: bool) -> Self {
        self.batch = batch;
        self
    }

    /// Sets [`squared`](Self::squared).
    #[must_use]
    pub fn squared(mut self, squared: bool) -> Self {
        self.squared = squared;
        self
    }

    /// Sets [`smooth_nr`](Self::smooth_nr) and [`smooth_dr`](Self::smooth_dr).
    #[must_use]
    pub fn smooth(mut self, nr: f32, dr: f32) -> Self {
        (self.smooth_nr, self.smooth_dr) = (nr, dr);
        self
    }

    /// Sets [`denominator_floor`](Self::denominator_floor).
    #[must_use]
    pub fn denominator_floor(mut self, floor: f32) -> Self {
        self.denominator_floor = Some(floor);
        self
    }

    /// Sets [`class_weights`](Self::class_weights).
    #[must_use]
    pub fn class_weights(mut self, weights: impl Into<Vec<f32>>) -> Self {
        self.class_weights = Some(weights.into());
        self
    }

    /// Sets [`ignore_single_class_weight`](Self::ignore_single_class_weight).
    #[must_use]
    pub fn ignore_single_class_weight(mut self, ignore: bool) -> Self {
        self.ignore_single_class_weight = ignore;
        self
    }

    /// Sets [`reduction`](Self::reduction).
    #[must_use]
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets [`form`](Self::form).
    #[must_use]
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Sets [`weight`](Self::weight).
    #[must_use]
    pub fn weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    /// The class weights, unless they are left out.
    pub(crate) fn weights_that_count(&self, classes: usize) -> Option<&[f32]> {
        let single = classes - self.first_class(classes) == 1;
        self.class_weights.as_deref().filter(|_| !(self.ignore_single_class_weight && single))
    }

    /// Losses per row: one per class that takes part, or one where no class axis is left.
    pub(crate) fn losses_of_row(&self, classes: usize) -> usize {
        if self.kind.class_weighting().is_some() { 1 } else { classes - self.first_class(classes) }
    }

    /// The first class that takes part: 1 where the background is dropped and other classes remain.
    pub(crate) fn first_class(&self, classes: usize) -> usize {
        usize::from(!self.include_background && classes > 1)
    }

    /// Checks every setting, in a head of `classes` classes.
    pub(super) fn check(&self, check: &Check, classes: usize) -> Result<(), Error> {
        if self.reduction == Reduction::SumOfItemMeans {
            return check.refuse(
                "overlap.reduction",
                "mean or sum: the others are of pixel terms",
                "sum_of_item_means",
            );
        }
        check.not_negative("overlap.weight", self.weight)?;
        check.not_negative("overlap.smooth_nr", self.smooth_nr)?;
        check.not_negative("overlap.smooth_dr", self.smooth_dr)?;
        if let Some(floor) = self.denominator_floor {
            check.not_negative("overlap.denominator_floor", floor)?;
        }
        if let Form::Log { eps } = self.form
            && !(eps.is_normal() && eps > 0.0)
        {
            return check.refuse("overlap.eps", "a positive number that f32 holds in full", eps);
        }
        match self.kind {
            OverlapKind::Dice | OverlapKind::Jaccard => {}
            OverlapKind::Tversky { alpha, beta } => {
                check.not_negative("overlap.alpha", alpha)?;
                check.not_negative("overlap.beta", beta)?;
            }
            OverlapKind::GeneralizedDice { .. } => {
                if self.class_weights.is_some() {
                    return check.refuse("overlap.class_weights", "none, since no class axis is left", "weights");
                }
                if self.present_classes_only {
                    return check.refuse("overlap.present_classes_only", "false, since no class axis is left", "true");
                }
            }
        }
        if self.squared && !matches!(self.kind, OverlapKind::Dice | OverlapKind::Jaccard) {
            return check.refuse("overlap.squared", "false, except for dice and jaccard", "true");
        }
        if self.squared && self.product == Product::Minimum {
            return check.refuse("overlap.squared", "false, with the minimum as product", "true");
        }
        let taking_part = classes - self.first_class(classes);
        let weights = self.weights_that_count(classes);
        weights.iter().try_for_each(|w| check.class_weights("overlap.class_weights", w, taking_part))
    }
}

/// The text of an overlap term: its settings, flat, and those of its kind.
#[cfg(feature = "serde")]
mod text {
    use super::super::check::{needed, not_taken};
    use super::{ClassWeighting, Form, Overlap, OverlapKind, Product, Reduction};

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[expect(clippy::struct_excessive_bools, reason = "as the settings that it writes")]
    pub(in crate::spec) struct Fields {
        kind: Name,
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
        form: FormName,
        #[serde(skip_serializing_if = "Option::is_none")]
        eps: Option<f32>,
        product: Product,
        present_classes_only: bool,
        weight: f32,
    }

    #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum FormName {
        OneMinus,
        Negative,
        Log,
    }

    #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Name {
        Dice,
        Jaccard,
        Tversky,
        GeneralizedDice,
    }

    /// The settings that every kind has, from the one form to the other.
    macro_rules! settings {
        ($of:ident, { $($own:tt)* }) => {
            Self {
                $($own)*
                include_background: $of.include_background,
                batch: $of.batch,
                squared: $of.squared,
                smooth_nr: $of.smooth_nr,
                smooth_dr: $of.smooth_dr,
                denominator_floor: $of.denominator_floor,
                class_weights: $of.class_weights,
                ignore_single_class_weight: $of.ignore_single_class_weight,
                reduction: $of.reduction,
                product: $of.product,
                present_classes_only: $of.present_classes_only,
                weight: $of.weight,
            }
        };
    }

    impl Default for Fields {
        fn default() -> Self {
            Overlap::default().into()
        }
    }

    impl TryFrom<Fields> for Overlap {
        type Error = String;

        fn try_from(fields: Fields) -> Result<Self, String> {
            let Fields { alpha, beta, class_weighting, .. } = fields;
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
            };
            let (form, form_name) = match fields.form {
                FormName::OneMinus => (Form::OneMinus, "one_minus"),
                FormName::Negative => (Form::Negative, "negative"),
                FormName::Log => (Form::Log { eps: needed("overlap", "log", "eps", fields.eps)? }, "log"),
            };
            let overlap = settings!(fields, { kind, form, });
            let written = Fields::from(overlap.clone());
            let own = [
                ("alpha", alpha.is_some(), written.alpha.is_some()),
                ("beta", beta.is_some(), written.beta.is_some()),
                ("class_weighting", class_weighting.is_some(), written.class_weighting.is_some()),
            ];
            not_taken("overlap", kind.name(), &own)?;
            not_taken("overlap", form_name, &[("eps", fields.eps.is_some(), written.eps.is_some())])?;
            Ok(overlap)
        }
    }

    impl From<Overlap> for Fields {
        fn from(overlap: Overlap) -> Self {
            let (mut alpha, mut beta, mut class_weighting) = (None, None, None);
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
            };
            let (form, eps) = match overlap.form {
                Form::OneMinus => (FormName::OneMinus, None),
                Form::Negative => (FormName::Negative, None),
                Form::Log { eps } => (FormName::Log, Some(eps)),
            };
            settings!(overlap, { kind, alpha, beta, class_weighting, form, eps, })
        }
    }
}
