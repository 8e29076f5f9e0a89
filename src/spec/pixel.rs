//! The pixel term: a mean or sum over voxels.

use super::Reduction;

/// Which pixel term.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PixelKind {
    /// Softmax cross-entropy with label smoothing and class weights: PyTorch `cross_entropy`.
    CrossEntropy,
    /// The mean of the `int(n · k_percent / 100)` largest cross-entropies of the head's n voxels, ignored ones counting as 0:
    /// nnU-Net `TopKLoss`. Voxels that tie at the threshold share what is left, and the gradient.
    TopKCrossEntropy {
        /// Per cent of the voxels; in (0, 100], and enough for one voxel. In f64, as nnU-Net counts: 11.2 % of 125 voxels
        /// are 14, and 13 with the f32 nearest to 11.2.
        k_percent: f64,
    },
    /// A sigmoid cross-entropy a class, on the target `(1−ε) t + ε/2`: PyTorch `binary_cross_entropy_with_logits`. The mean
    /// is over voxels and classes.
    BinaryCrossEntropy {
        /// One weight per class, on the positive part.
        pos_weight: Option<Vec<f32>>,
    },
    /// MONAI `FocalLoss`, on the softmax or the sigmoid as the head's activation says. The mean is over voxels and classes.
    Focal {
        /// The exponent γ; finite and not negative.
        gamma: f32,
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
    serde(try_from = "super::text::PixelFields", into = "super::text::PixelFields")
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
    /// Over the voxels that count.
    pub reduction: Reduction,
    /// Compatibility, for binary cross-entropy and focal: the mean divides by the voxels that count, not by voxels times
    /// classes, and is so much larger. nnU-Net's `DC_and_BCE_loss` does so with an ignore label (R regions: R times), and
    /// MONAI's `FocalLoss` with `ignore_index` (C times).
    pub mean_over_voxels: bool,
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
            mean_over_voxels: false,
            empty: Empty::Zero,
            weight: 1.0,
        }
    }
}

/// Converts ε of the convention "1−ε to the right class, ε/(C−1) to each wrong one" to that of PyTorch and of this crate:
/// ε' = ε·C/(C−1). With one class there is no wrong one, and nothing to smooth: 0.
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
        Self { kind: PixelKind::TopKCrossEntropy { k_percent }, ..Self::default() }
    }

    /// How many of `voxels` losses a top-k takes; `None` without a top-k.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nnU-Net computes it in f64, and cuts off"
    )]
    pub(crate) fn top_k(&self, voxels: usize) -> Option<usize> {
        match self.kind {
            PixelKind::TopKCrossEntropy { k_percent } => Some((voxels as f64 * k_percent / 100.0) as usize),
            _ => None,
        }
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
    pub fn focal(gamma: f32, alpha: Alpha) -> Self {
        let scalar_alpha = ScalarAlpha::FirstClass;
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

    /// Sets [`mean_over_voxels`](Self::mean_over_voxels).
    #[must_use]
    pub fn mean_over_voxels(mut self, over_voxels: bool) -> Self {
        self.mean_over_voxels = over_voxels;
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
}
