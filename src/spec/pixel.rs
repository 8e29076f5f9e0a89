//! The pixel term: a mean or sum over voxels.

use super::check::Check;
use super::reduction::Reduction;
use super::types::{Activation, ClassValues};
use crate::error::Error;

/// Which pixel term.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PixelKind {
    /// Softmax cross-entropy with label smoothing and class weights: PyTorch `cross_entropy`.
    CrossEntropy,
    /// Cross-entropy with `ε (1 − s)` added to each `−ln s`: optax `poly_loss_cross_entropy`.
    PolyCrossEntropy {
        /// ε; finite (optax: 2).
        epsilon: f32,
    },
    /// Cross-entropy with `(1 − s^q)/q` in the place of `−ln s`: Keras `CategoricalGeneralizedCrossEntropy`; robust against
    /// wrong labels.
    GeneralizedCrossEntropy {
        /// q; in (0, 1]. 1 is the mean absolute error, 0 would be cross-entropy.
        q: f32,
    },
    /// One sigmoid cross-entropy per class, on the target `(1−ε) t + ε/2`: PyTorch `binary_cross_entropy_with_logits`. The mean
    /// is over voxels and classes.
    BinaryCrossEntropy {
        /// One weight per class, on the positive part.
        pos_weight: Option<Vec<f32>>,
    },
    /// MONAI `FocalLoss`, on the softmax or the sigmoid, by the head's activation. The mean is over voxels and classes.
    Focal {
        /// The exponent γ, one for all or one per class that takes part; finite and not negative.
        gamma: ClassValues,
        /// The balance of positives and negatives.
        alpha: Alpha,
        /// What becomes of a scalar α under a softmax without the background.
        scalar_alpha: ScalarAlpha,
        /// Whether class 0 takes part. It is dropped before the activation; with one class the setting has no effect. Under a
        /// softmax at least two classes have to be left: for class 1 of two alone, `Alpha::PerClass` of 0 and 1 with the
        /// background.
        include_background: bool,
    },
}

impl PixelKind {
    /// Its name in text.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross_entropy",
            Self::PolyCrossEntropy { .. } => "poly_cross_entropy",
            Self::GeneralizedCrossEntropy { .. } => "generalized_cross_entropy",
            Self::BinaryCrossEntropy { .. } => "binary_cross_entropy",
            Self::Focal { .. } => "focal",
        }
    }

    /// Whether it is a function of the softmax and of a smoothed target, with one loss per voxel.
    pub(crate) fn is_cross_entropy(&self) -> bool {
        match self {
            Self::CrossEntropy | Self::PolyCrossEntropy { .. } | Self::GeneralizedCrossEntropy { .. } => true,
            Self::BinaryCrossEntropy { .. } | Self::Focal { .. } => false,
        }
    }
}

/// What a mean divides by.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeanOver {
    /// The voxels that count, each as its class weight (cross-entropies of labels), as 1 (of probabilities), or times the
    /// classes that take part (focal and binary cross-entropy, which have a loss per class): PyTorch, MONAI.
    Valid,
    /// The voxels that count, whatever their class. nnU-Net's `DC_and_BCE_loss` does so with an ignore label (R regions: R
    /// times larger), and MONAI's `FocalLoss` with `ignore_index` (C times).
    Voxels,
    /// All voxels, ignored ones too, as 1, or times the classes that take part: smp, mmsegmentation, kornia's focal loss.
    All,
}

impl MeanOver {
    /// Its name in text.
    fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Voxels => "voxels",
            Self::All => "all",
        }
    }
}

/// The focal term's balance factor.
#[derive(Clone, Debug, PartialEq)]
pub enum Alpha {
    /// None: 1 throughout.
    None,
    /// Softmax: 1−α for the first class that takes part and α for the others. Sigmoid: `α t + (1−α) (1−t)`.
    Scalar(f32),
    /// One per class that takes part. Sigmoid: on positives; 1 on negatives.
    PerClass(Vec<f32>),
}

/// What a scalar α does under a softmax that leaves the background out; elsewhere the setting has no effect.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarAlpha {
    /// 1−α is the factor of the first class that takes part.
    FirstClass,
    /// Nothing: every factor is 1, as in MONAI.
    IgnoredWithoutBackground,
}

/// What the mean over no voxel is: when all are ignored, or none has a class of positive weight. Its gradient is 0 either
/// way.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// 0, as in nnU-Net: the head adds nothing to this step.
    Zero,
    /// NaN, as in PyTorch.
    Nan,
}

/// The pixel term of a head. The names are PyTorch's; [`Default`] has the defaults of `cross_entropy`, except that the mean
/// over no voxel is 0.
///
/// With smoothing ε, class weights w and label y: `q_k = (1−ε) w_y [k=y] + (ε/C) w_k` and `ℓ = −Σ_k q_k log softmax(z)_k`;
/// the mean divides by `Σ w_y`.
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "super::pixel_text::Fields", into = "super::pixel_text::Fields")
)]
#[derive(Clone, Debug, PartialEq)]
pub struct Pixel {
    /// Which pixel term.
    pub kind: PixelKind,
    /// ε in [0, 1]: ε/C of the target goes to every class, the right one included. For the convention that gives ε/(C−1) to
    /// each wrong class, see [`label_smoothing_wrong_only`](Self::label_smoothing_wrong_only). Where a voxel's logits lie so far
    /// below the largest that f32 does not hold the sum of their distances, a smoothed loss is infinite; its gradient is not.
    pub label_smoothing: f32,
    /// One weight per class that takes part. Not for binary cross-entropy, which has `pos_weight`.
    pub class_weights: Option<Vec<f32>>,
    /// Takes the `int(n · k_percent / 100)` largest losses of the head's n voxels alone, ignored ones counting as 0: nnU-Net
    /// `TopKLoss`. Voxels that tie at the threshold share what is left, and the gradient. In (0, 100], and enough for one
    /// voxel; of cross-entropies. In f64, as nnU-Net counts: 11.2 % of 125 voxels are 14, and 13 with the f32 nearest to 11.2.
    pub k_percent: Option<f64>,
    /// Over the voxels that count.
    pub reduction: Reduction,
    /// What the mean divides by.
    pub mean_over: MeanOver,
    /// The mean over no voxel.
    pub empty: Empty,
    /// The weight of this term in the head (MONAI `lambda_ce`, nnU-Net `weight_ce`); finite and not negative. At 0 the term
    /// adds exactly 0 to the total and to the gradient, whatever it is.
    pub weight: f32,
}

impl Default for Pixel {
    fn default() -> Self {
        Self {
            kind: PixelKind::CrossEntropy,
            label_smoothing: 0.0,
            class_weights: None,
            reduction: Reduction::Mean,
            k_percent: None,
            mean_over: MeanOver::Valid,
            empty: Empty::Zero,
            weight: 1.0,
        }
    }
}

/// Converts ε of the convention "1−ε to the right class, ε/(C−1) to each wrong one" to that of PyTorch and of this crate:
/// ε' = ε·C/(C−1). With one class there is nothing to smooth: 0.
///
/// ε may reach (C−1)/C, where ε' is 1 and every class gets the same.
#[must_use]
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "rounded once, from f64")]
pub fn pytorch_label_smoothing(label_smoothing: f32, classes: usize) -> f32 {
    if classes < 2 {
        return 0.0;
    }
    let classes = classes as f64;
    (f64::from(label_smoothing) * classes / (classes - 1.0)) as f32
}

impl Pixel {
    /// Cross-entropy.
    #[must_use]
    pub fn cross_entropy() -> Self {
        Self::default()
    }

    /// Top-k cross-entropy.
    #[must_use]
    pub fn top_k_cross_entropy(k_percent: f64) -> Self {
        Self::default().k_percent(k_percent)
    }

    /// Poly-1 cross-entropy.
    #[must_use]
    pub fn poly_cross_entropy(epsilon: f32) -> Self {
        Self { kind: PixelKind::PolyCrossEntropy { epsilon }, ..Self::default() }
    }

    /// Generalized cross-entropy.
    #[must_use]
    pub fn generalized_cross_entropy(q: f32) -> Self {
        Self { kind: PixelKind::GeneralizedCrossEntropy { q }, ..Self::default() }
    }

    /// How many of `voxels` losses a top-k takes; `None` without a top-k.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nnU-Net computes it in f64, and cuts off"
    )]
    pub(crate) fn top_k(&self, voxels: usize) -> Option<usize> {
        self.k_percent.map(|k_percent| (voxels as f64 * k_percent / 100.0) as usize)
    }

    /// Binary cross-entropy.
    #[must_use]
    pub fn binary_cross_entropy() -> Self {
        Self { kind: PixelKind::BinaryCrossEntropy { pos_weight: None }, ..Self::default() }
    }

    /// Binary cross-entropy with a weight per class on its positive part.
    #[must_use]
    pub fn binary_cross_entropy_with(pos_weight: impl Into<Vec<f32>>) -> Self {
        Self { kind: PixelKind::BinaryCrossEntropy { pos_weight: Some(pos_weight.into()) }, ..Self::default() }
    }

    /// The focal term, background included.
    #[must_use]
    pub fn focal(gamma: impl Into<ClassValues>, alpha: Alpha) -> Self {
        let (gamma, scalar_alpha) = (gamma.into(), ScalarAlpha::FirstClass);
        Self { kind: PixelKind::Focal { gamma, alpha, scalar_alpha, include_background: true }, ..Self::default() }
    }

    /// The first class that takes part.
    pub(crate) fn first_class(&self, classes: usize) -> usize {
        match self.kind {
            PixelKind::Focal { include_background, .. } => usize::from(!include_background && classes > 1),
            _ => 0,
        }
    }

    /// Sets [`label_smoothing`](Self::label_smoothing), ε/C to every class, as PyTorch and MONAI do.
    #[must_use]
    pub fn label_smoothing(mut self, epsilon: f32) -> Self {
        self.label_smoothing = epsilon;
        self
    }

    /// Sets the smoothing of the other convention: ε/(C−1) to each wrong class of `classes`, 1−ε to the right one.
    #[must_use]
    pub fn label_smoothing_wrong_only(self, epsilon: f32, classes: usize) -> Self {
        self.label_smoothing(pytorch_label_smoothing(epsilon, classes))
    }

    /// Sets [`class_weights`](Self::class_weights).
    #[must_use]
    pub fn class_weights(mut self, weights: impl Into<Vec<f32>>) -> Self {
        self.class_weights = Some(weights.into());
        self
    }

    /// Sets [`reduction`](Self::reduction).
    #[must_use]
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets [`mean_over`](Self::mean_over).
    #[must_use]
    pub fn mean_over(mut self, mean_over: MeanOver) -> Self {
        self.mean_over = mean_over;
        self
    }

    /// Sets [`k_percent`](Self::k_percent).
    #[must_use]
    pub fn k_percent(mut self, k_percent: f64) -> Self {
        self.k_percent = Some(k_percent);
        self
    }

    /// Sets [`empty`](Self::empty).
    #[must_use]
    pub fn empty(mut self, empty: Empty) -> Self {
        self.empty = empty;
        self
    }

    /// Sets [`weight`](Self::weight).
    #[must_use]
    pub fn weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    /// Checks every setting, in a head of `classes` classes and of `voxels` voxels over all items.
    pub(super) fn check(
        &self,
        check: &Check,
        activation: Activation,
        classes: usize,
        voxels: usize,
    ) -> Result<(), Error> {
        check.not_negative("pixel.weight", self.weight)?;
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return check.refuse("pixel.label_smoothing", "a number in [0, 1]", self.label_smoothing);
        }
        let is_focal = matches!(self.kind, PixelKind::Focal { .. });
        if self.reduction == Reduction::WeightedMean && !is_focal {
            let expected = "mean, sum or sum_of_item_means, except for focal";
            return check.refuse("pixel.reduction", expected, "weighted_mean");
        }
        self.check_top_k(check, voxels)?;
        let taking_part = classes - self.first_class(classes);
        match &self.kind {
            PixelKind::CrossEntropy => {}
            PixelKind::PolyCrossEntropy { epsilon } => {
                if !epsilon.is_finite() {
                    return check.refuse("pixel.epsilon", "a finite number", epsilon);
                }
            }
            PixelKind::GeneralizedCrossEntropy { q } => {
                if !(q.is_normal() && (0.0..=1.0).contains(q)) {
                    return check.refuse("pixel.q", "a number in (0, 1]", q);
                }
            }
            PixelKind::BinaryCrossEntropy { pos_weight } => {
                pos_weight.iter().try_for_each(|w| check.class_weights("pixel.pos_weight", w, classes))?;
                if self.class_weights.is_some() {
                    return check.refuse("pixel.class_weights", "none: binary_cross_entropy has pos_weight", "weights");
                }
            }
            PixelKind::Focal { gamma, alpha, .. } => {
                check.class_values("pixel.gamma", gamma, taking_part)?;
                if self.label_smoothing > 0.0 {
                    return check.refuse("pixel.label_smoothing", "0, for focal", self.label_smoothing);
                }
                if activation == Activation::None {
                    return check.refuse("activation", "softmax or sigmoid, for focal", "none");
                }
                match alpha {
                    Alpha::None => {}
                    Alpha::Scalar(alpha) if (0.0..=1.0).contains(alpha) => {}
                    Alpha::Scalar(alpha) => return check.refuse("pixel.alpha", "a number in [0, 1]", alpha),
                    Alpha::PerClass(alpha) => check.class_weights("pixel.alpha", alpha, taking_part)?,
                }
            }
        }
        self.class_weights.iter().try_for_each(|w| check.class_weights("pixel.class_weights", w, taking_part))
    }

    fn check_top_k(&self, check: &Check, voxels: usize) -> Result<(), Error> {
        let Some(k_percent) = self.k_percent else { return Ok(()) };
        if !self.kind.is_cross_entropy() {
            return check.refuse("pixel.k_percent", &format!("none, for {}", self.kind.name()), k_percent);
        }
        if !(k_percent > 0.0 && k_percent <= 100.0) {
            return check.refuse("pixel.k_percent", "a number in (0, 100]", k_percent);
        }
        if self.reduction == Reduction::SumOfItemMeans {
            let expected = "mean or sum, for a top-k of the batch";
            return check.refuse("pixel.reduction", expected, "sum_of_item_means");
        }
        if self.mean_over != MeanOver::Valid {
            return check.refuse("pixel.mean_over", "valid, for a top-k, whose mean is over k", self.mean_over.name());
        }
        if self.top_k(voxels) == Some(0) {
            let given = format!("{k_percent} of {voxels} voxels");
            return check.refuse("pixel.k_percent", "enough for one voxel", given);
        }
        Ok(())
    }
}
