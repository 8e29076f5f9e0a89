//! The overlap term: a function of the statistics I = Σ p t, P = Σ p, T = Σ t of each class.

use super::check::Check;
use super::reduction::Reduction;
use super::types::ClassValues;
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
    /// Dice with the [`average`](Overlap::average) `micro`, its sums weighted by T: MONAI `GeneralizedDiceLoss`.
    GeneralizedDice {
        /// How the weight of a class follows from T.
        class_weighting: ClassWeighting,
    },
    /// Matthews' correlation coefficient, `(V I − P T + nr) / √(P T (V − T) (V − P) + dr)` with V = Σ m: MONAI
    /// `MCCLoss`, smp `MCCLoss`. Without `smooth_counts` a class without an error (P = I = T) is 1, as in MONAI.
    Mcc {
        /// Added to each of TP, FP, FN and TN (smp `eps`); finite and not negative.
        smooth_counts: f32,
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
            Self::Mcc { .. } => "mcc",
        }
    }

    /// The two numbers that a kind may have: α and β, or `smooth_counts`.
    pub(crate) fn parameters(&self) -> [f32; 2] {
        match *self {
            Self::Tversky { alpha, beta } => [alpha, beta],
            Self::Mcc { smooth_counts } => [smooth_counts, 0.0],
            Self::Dice | Self::Jaccard | Self::GeneralizedDice { .. } => [0.0, 0.0],
        }
    }

    /// How T weights the classes of one ratio per row; `None` for kinds with one ratio per class.
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

/// What is made of the ratio r = num/den.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `1 − r`, as in MONAI. With [`gamma`](Overlap::gamma) it is the focal Tversky loss.
    OneMinus,
    /// `−r`, as in nnU-Net.
    Negative,
    /// `r`.
    Identity,
    /// `−ln max(r, eps)`: `DiceLoss(log_loss=True)` of `segmentation_models.pytorch`; with [`gamma`](Overlap::gamma) the
    /// exponential-logarithmic loss. Where it clamps, the slope is 0.
    Log,
    /// `ln cosh(1 − r)`: the log-cosh Dice loss.
    LogCosh,
}

/// Over what a row's ratio is taken; the names are scikit-learn's.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// A ratio per class, and then their mean or sum.
    Macro,
    /// One ratio per row: I, P and T are first summed over the classes, each times its class weight.
    Micro,
}

/// What a class without a voxel in the row's target (T = 0) does.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It counts as any other, as in MONAI and nnU-Net.
    Count,
    /// It leaves its row's mean, as in kornia; a row without any class is 0.
    Skip,
    /// It adds 0, and stays in the mean, as in `segmentation_models.pytorch`.
    Zero,
}

impl Absent {
    /// Its name in text.
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Skip => "skip",
            Self::Zero => "zero",
        }
    }
}

/// The overlap term of a head. The names are MONAI's; [`Default`] has the defaults of MONAI's `DiceLoss`.
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "super::overlap_text::Fields", into = "super::overlap_text::Fields")
)]
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of MONAI's, by its name")]
pub struct Overlap {
    /// Which overlap.
    pub kind: OverlapKind,
    /// Whether class 0 takes part. It is dropped after the softmax; with one class the setting has no effect.
    pub include_background: bool,
    /// The classes that take part, in the order of `class_weights` and `gamma`; `None`: all that `include_background` leaves.
    pub classes: Option<Vec<u32>>,
    /// Sums over the batch before the ratio (MONAI `batch`, nnU-Net `batch_dice`), instead of one ratio per item.
    pub batch: bool,
    /// `P = Σ p²`, `T = Σ t²` (MONAI `squared_pred`); not for mcc, nor with the minimum as product.
    pub squared: bool,
    /// Added to the numerator; finite and not negative.
    pub smooth_nr: f32,
    /// Added to the denominator; finite and not negative.
    pub smooth_dr: f32,
    /// Clamps the denominator from below (nnU-Net: 1e-8); where it clamps, the denominator has no derivative.
    pub denominator_floor: Option<f32>,
    /// One weight per class that takes part, multiplied onto the class's loss before the reduction, or with
    /// [`Average::Micro`] onto its sums.
    pub class_weights: Option<Vec<f32>>,
    /// Compatibility: leaves out the weight of the only class that takes part, as MONAI's `DiceLoss` does (two classes without
    /// the background, say).
    pub ignore_single_class_weight: bool,
    /// Over the classes of a row, and then over rows (items, or the one batch): the plain mean, the mean over Σ w, or the sum.
    pub reduction: Reduction,
    /// Whether there is a ratio per class or one per row.
    pub average: Average,
    /// What is made of the ratio.
    pub form: Form,
    /// The exponent of the form's value, one for all or one per class that takes part; not for `negative` and `identity`.
    /// Finite and not negative.
    pub gamma: Option<ClassValues>,
    /// The least that a logarithm or a power sees; below it, its derivative is 0. Positive. 1 − r has an error of about
    /// 2e-7 in f32, so a power below 1 wants at least 1e-6.
    pub eps: f32,
    /// What I sums.
    pub product: Product,
    /// What a class does that the row's target lacks.
    pub absent: Absent,
    /// The exponent of the reduced term (the `gamma` of smp's `TverskyLoss`); finite and positive.
    pub power_of_mean: Option<f32>,
    /// The weight of this term in the head (MONAI `lambda_dice`, nnU-Net `weight_dice`); finite and not negative. At 0 the
    /// term adds exactly 0 to the total and to the gradient, whatever it is.
    pub weight: f32,
}

impl Default for Overlap {
    fn default() -> Self {
        Self {
            kind: OverlapKind::Dice,
            include_background: true,
            classes: None,
            batch: false,
            squared: false,
            smooth_nr: 1e-5,
            smooth_dr: 1e-5,
            denominator_floor: None,
            class_weights: None,
            ignore_single_class_weight: false,
            reduction: Reduction::Mean,
            average: Average::Macro,
            form: Form::OneMinus,
            gamma: None,
            eps: 1e-7,
            product: Product::Product,
            absent: Absent::Count,
            power_of_mean: None,
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

    /// Matthews' correlation coefficient with MONAI's other defaults.
    #[must_use]
    pub fn mcc() -> Self {
        Self { kind: OverlapKind::Mcc { smooth_counts: 0.0 }, smooth_nr: 0.0, ..Self::default() }
    }

    /// Sets [`product`](Self::product).
    #[must_use]
    pub fn product(mut self, product: Product) -> Self {
        self.product = product;
        self
    }

    /// Sets [`absent`](Self::absent).
    #[must_use]
    pub fn absent(mut self, absent: Absent) -> Self {
        self.absent = absent;
        self
    }

    /// Sets [`average`](Self::average).
    #[must_use]
    pub fn average(mut self, average: Average) -> Self {
        self.average = average;
        self
    }

    /// Sets [`classes`](Self::classes).
    #[must_use]
    pub fn classes(mut self, classes: impl Into<Vec<u32>>) -> Self {
        self.classes = Some(classes.into());
        self
    }

    /// Sets [`gamma`](Self::gamma).
    #[must_use]
    pub fn gamma(mut self, gamma: impl Into<ClassValues>) -> Self {
        self.gamma = Some(gamma.into());
        self
    }

    /// Sets [`eps`](Self::eps).
    #[must_use]
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    /// Sets [`power_of_mean`](Self::power_of_mean).
    #[must_use]
    pub fn power_of_mean(mut self, exponent: f32) -> Self {
        self.power_of_mean = Some(exponent);
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
        let single = self.count_taking_part(classes) == 1;
        self.class_weights.as_deref().filter(|_| !(self.ignore_single_class_weight && single))
    }

    /// Whether there is one ratio per row.
    pub(crate) fn is_micro(&self) -> bool {
        self.average == Average::Micro || self.kind.class_weighting().is_some()
    }

    /// Losses per row: one per class that takes part, or one where no class axis is left.
    pub(crate) fn losses_of_row(&self, classes: usize) -> usize {
        if self.is_micro() { 1 } else { self.count_taking_part(classes) }
    }

    /// The first class that takes part where no list says which: 1 where the background is dropped and other classes remain.
    pub(crate) fn first_class(&self, classes: usize) -> usize {
        usize::from(!self.include_background && classes > 1)
    }

    /// The classes that take part, in the order of their weights.
    pub(crate) fn taking_part(&self, classes: usize) -> Vec<usize> {
        match &self.classes {
            Some(listed) => listed.iter().map(|&class| class as usize).collect(),
            None => (self.first_class(classes)..classes).collect(),
        }
    }

    /// How many classes take part.
    pub(crate) fn count_taking_part(&self, classes: usize) -> usize {
        self.classes.as_ref().map_or(classes - self.first_class(classes), Vec::len)
    }

    /// Checks every setting, in a head of `classes` classes.
    pub(super) fn check(&self, check: &Check, classes: usize) -> Result<(), Error> {
        if self.reduction == Reduction::SumOfItemMeans {
            let expected = "mean, weighted_mean or sum: the others are of pixel terms";
            return check.refuse("overlap.reduction", expected, "sum_of_item_means");
        }
        check.not_negative("overlap.weight", self.weight)?;
        check.not_negative("overlap.smooth_nr", self.smooth_nr)?;
        check.not_negative("overlap.smooth_dr", self.smooth_dr)?;
        if let Some(floor) = self.denominator_floor {
            check.not_negative("overlap.denominator_floor", floor)?;
        }
        check.positive("overlap.eps", self.eps)?;
        self.power_of_mean.iter().try_for_each(|&exponent| check.positive("overlap.power_of_mean", exponent))?;
        self.check_classes(check, classes)?;
        match self.kind {
            OverlapKind::Dice | OverlapKind::Jaccard | OverlapKind::GeneralizedDice { .. } => {}
            OverlapKind::Tversky { alpha, beta } => {
                check.not_negative("overlap.alpha", alpha)?;
                check.not_negative("overlap.beta", beta)?;
            }
            OverlapKind::Mcc { smooth_counts } => check.not_negative("overlap.smooth_counts", smooth_counts)?,
        }
        let is_mcc = matches!(self.kind, OverlapKind::Mcc { .. });
        if self.average == Average::Micro && is_mcc {
            return check.refuse("overlap.average", "macro, for mcc", "micro");
        }
        if self.is_micro() && self.absent != Absent::Count {
            return check.refuse("overlap.absent", "count, since no class axis is left", self.absent.name());
        }
        if self.squared && is_mcc {
            return check.refuse("overlap.squared", "false, for mcc", "true");
        }
        if self.squared && self.product == Product::Minimum {
            return check.refuse("overlap.squared", "false, with the minimum as product", "true");
        }
        let taking_part = self.count_taking_part(classes);
        if let Some(gamma) = &self.gamma {
            if matches!(self.form, Form::Negative | Form::Identity) {
                let expected = "none: it is the exponent of one_minus, log or log_cosh";
                return check.refuse("overlap.gamma", expected, "an exponent");
            }
            if self.is_micro() && matches!(gamma, ClassValues::Each(_)) {
                return check.refuse("overlap.gamma", "one number, since no class axis is left", "a list");
            }
            check.class_values("overlap.gamma", gamma, taking_part)?;
        }
        let weights = self.weights_that_count(classes);
        weights.iter().try_for_each(|w| check.class_weights("overlap.class_weights", w, taking_part))
    }

    fn check_classes(&self, check: &Check, classes: usize) -> Result<(), Error> {
        let Some(listed) = &self.classes else { return Ok(()) };
        let given = || format!("{listed:?}");
        if !self.include_background {
            return check.refuse("overlap.include_background", "true beside a list of classes", "false");
        }
        if listed.is_empty() || listed.iter().any(|&class| class as usize >= classes) {
            let expected = format!("one class or more, each below {classes}");
            return check.refuse("overlap.classes", &expected, given());
        }
        let mut sorted = listed.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return check.refuse("overlap.classes", "each class once", given());
        }
        Ok(())
    }
}
