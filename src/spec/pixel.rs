//! The pixel term: a mean or sum over voxels.

use super::check::Check;
use super::reduction::Reduction;
use super::types::Activation;
use crate::error::Error;

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
    /// One sigmoid cross-entropy per class, on the target `(1−ε) t + ε/2`: PyTorch `binary_cross_entropy_with_logits`. The mean
    /// is over voxels and classes.
    BinaryCrossEntropy {
        /// One weight per class, on the positive part.
        pos_weight: Option<Vec<f32>>,
    },
    /// MONAI `FocalLoss`, on the softmax or the sigmoid, by the head's activation. The mean is over voxels and classes.
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

impl PixelKind {
    /// Its name in text.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross_entropy",
            Self::TopKCrossEntropy { .. } => "top_k_cross_entropy",
            Self::BinaryCrossEntropy { .. } => "binary_cross_entropy",
            Self::Focal { .. } => "focal",
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
    serde(try_from = "text::Fields", into = "text::Fields")
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
        let of_voxels = matches!(self.kind, PixelKind::CrossEntropy | PixelKind::TopKCrossEntropy { .. });
        if self.mean_over_voxels && of_voxels {
            let expected = "false, except for binary_cross_entropy and focal";
            return check.refuse("pixel.mean_over_voxels", expected, "true");
        }
        let taking_part = classes - self.first_class(classes);
        match &self.kind {
            PixelKind::CrossEntropy => {}
            PixelKind::TopKCrossEntropy { k_percent } => {
                let given = || format!("{k_percent} of {voxels} voxels");
                if !(*k_percent > 0.0 && *k_percent <= 100.0) {
                    return check.refuse("pixel.k_percent", "a number in (0, 100]", k_percent);
                }
                if self.reduction == Reduction::SumOfItemMeans {
                    return check.refuse(
                        "pixel.reduction",
                        "mean or sum, for a top-k of the batch",
                        "sum_of_item_means",
                    );
                }
                if self.top_k(voxels) == Some(0) {
                    return check.refuse("pixel.k_percent", "enough for one voxel", given());
                }
            }
            PixelKind::BinaryCrossEntropy { pos_weight } => {
                pos_weight.iter().try_for_each(|w| check.class_weights("pixel.pos_weight", w, classes))?;
                if self.class_weights.is_some() {
                    return check.refuse("pixel.class_weights", "none: binary_cross_entropy has pos_weight", "weights");
                }
            }
            PixelKind::Focal { gamma, alpha, .. } => {
                check.not_negative("pixel.gamma", *gamma)?;
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
}

/// The text of a pixel term: its settings, flat, and those of its kind.
#[cfg(feature = "serde")]
mod text {
    use super::super::check::{needed, not_taken};
    use super::{Alpha, Empty, Pixel, PixelKind, Reduction, ScalarAlpha};

    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub(in crate::spec) struct Fields {
        kind: Name,
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

    #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Name {
        CrossEntropy,
        TopKCrossEntropy,
        BinaryCrossEntropy,
        Focal,
    }

    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    #[serde(untagged)]
    enum AlphaFields {
        Scalar(f32),
        PerClass(Vec<f32>),
    }

    impl Default for Fields {
        fn default() -> Self {
            Pixel::default().into()
        }
    }

    impl TryFrom<Fields> for Pixel {
        type Error = String;

        fn try_from(fields: Fields) -> Result<Self, String> {
            let Fields { k_percent, pos_weight, gamma, alpha, scalar_alpha, include_background, .. } = fields;
            let given = [
                k_percent.is_some(),
                pos_weight.is_some(),
                gamma.is_some(),
                alpha.is_some(),
                scalar_alpha.is_some(),
                include_background.is_some(),
            ];
            let kind = match fields.kind {
                Name::CrossEntropy => PixelKind::CrossEntropy,
                Name::TopKCrossEntropy => PixelKind::TopKCrossEntropy {
                    k_percent: needed("pixel", "top_k_cross_entropy", "k_percent", k_percent)?,
                },
                Name::BinaryCrossEntropy => PixelKind::BinaryCrossEntropy { pos_weight },
                Name::Focal => PixelKind::Focal {
                    gamma: needed("pixel", "focal", "gamma", gamma)?,
                    alpha: match alpha {
                        None => Alpha::None,
                        Some(AlphaFields::Scalar(alpha)) => Alpha::Scalar(alpha),
                        Some(AlphaFields::PerClass(alpha)) => Alpha::PerClass(alpha),
                    },
                    scalar_alpha: scalar_alpha.unwrap_or(ScalarAlpha::FirstClass),
                    include_background: include_background.unwrap_or(true),
                },
            };
            let pixel = Self {
                kind,
                label_smoothing: fields.label_smoothing,
                class_weights: fields.class_weights,
                reduction: fields.reduction,
                mean_over_voxels: fields.mean_over_voxels,
                empty: fields.empty,
                weight: fields.weight,
            };
            let written = Fields::from(pixel.clone());
            let written = [
                ("k_percent", written.k_percent.is_some()),
                ("pos_weight", written.pos_weight.is_some()),
                ("gamma", written.gamma.is_some()),
                ("alpha", written.alpha.is_some()),
                ("scalar_alpha", written.scalar_alpha.is_some()),
                ("include_background", written.include_background.is_some()),
            ];
            let own: Vec<_> =
                written.iter().zip(given).map(|(&(name, written), given)| (name, given, written)).collect();
            not_taken("pixel", pixel.kind.name(), &own)?;
            Ok(pixel)
        }
    }

    impl From<Pixel> for Fields {
        fn from(pixel: Pixel) -> Self {
            let mut fields = Self {
                kind: Name::CrossEntropy,
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
                    (fields.kind, fields.k_percent) = (Name::TopKCrossEntropy, Some(k_percent));
                }
                PixelKind::BinaryCrossEntropy { pos_weight } => {
                    (fields.kind, fields.pos_weight) = (Name::BinaryCrossEntropy, pos_weight);
                }
                PixelKind::Focal { gamma, alpha, scalar_alpha, include_background } => {
                    fields.kind = Name::Focal;
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
}
