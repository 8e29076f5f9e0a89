//! The published losses, with their own defaults.

use super::head::Loss;
use super::overlap::{Absent, ClassWeighting, Form, Overlap};
use super::pixel::{Alpha, Empty, Pixel, PixelKind, ScalarAlpha};
use super::types::{Activation, ClassValues};

/// The head weights of nnU-Net's deep supervision: 1, 1/2, 1/4, … for `levels` outputs from full resolution down, the lowest
/// dropped (0), normalised to a sum of 1. A single level has weight 1 (nnU-Net divides 0 by 0 there).
#[must_use]
pub fn nnunet_deep_supervision(levels: usize) -> Vec<f32> {
    let kept = if levels > 1 { levels - 1 } else { levels };
    let raw = |level: usize| {
        if level < kept { 0.5_f64.powf(f64::from(u32::try_from(level).unwrap_or(u32::MAX))) } else { 0.0 }
    };
    let sum: f64 = (0..levels).map(raw).sum();
    #[expect(clippy::cast_possible_truncation, reason = "computed in f64, rounded once")]
    let weights = (0..levels).map(|level| (raw(level) / sum) as f32).collect();
    weights
}

/// `weight_mode` of MONAI's `DeepSupervisionLoss`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightMode {
    /// 1, 1/2, 1/4, … and 1/16 from the fifth output on: MONAI's default.
    Exp,
    /// 1 for every output.
    Same,
    /// 1 for the first output, 1/2 for the others.
    Two,
}

/// The head weights of MONAI's `DeepSupervisionLoss` for `levels` outputs, from full resolution down.
#[must_use]
pub fn monai_deep_supervision(mode: WeightMode, levels: usize) -> Vec<f32> {
    let exp = |least| std::iter::successors(Some(1.0_f32), move |weight| Some((weight * 0.5).max(least)));
    match mode {
        WeightMode::Exp => exp(0.0625).take(levels).collect(),
        WeightMode::Same => vec![1.0; levels],
        WeightMode::Two => exp(0.5).take(levels).collect(),
    }
}

impl Loss {
    /// MONAI `DiceCELoss(softmax=True, to_onehot_y=True)`: soft Dice per item, background included, smoothing constants
    /// 1e-5, plus cross-entropy.
    #[must_use]
    pub fn monai_dice_ce() -> Self {
        Self::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy())
    }

    /// nnU-Net `DC_and_CE_loss` as its trainer builds it (`MemoryEfficientSoftDiceLoss`, `smooth=1e-5`, `do_bg=False`): the
    /// negative soft Dice without background, its denominator at least 1e-8, plus cross-entropy. The trainer's `batch_dice`
    /// depends on the configuration: set it with [`Overlap::batch`]. A head whose voxels are all ignored adds no
    /// cross-entropy.
    #[must_use]
    pub fn nnunet_dc_ce() -> Self {
        let overlap = Overlap::dice().include_background(false).form(Form::Negative).denominator_floor(1e-8);
        Self::new().overlap(overlap).pixel(Pixel::cross_entropy())
    }

    /// nnU-Net `DC_and_BCE_loss` as its trainer builds it for regions: one sigmoid per region, the negative soft Dice with
    /// background, its denominator at least 1e-8, plus binary cross-entropy. As in [`nnunet_dc_ce`](Self::nnunet_dc_ce), the
    /// trainer's `batch_dice` depends on the configuration. The target is [`probabilities`](super::Head::probabilities); an
    /// ignored voxel is one that a [`mask`](super::Head::mask) leaves out.
    #[must_use]
    pub fn nnunet_dc_bce() -> Self {
        let overlap = Overlap::dice().form(Form::Negative).denominator_floor(1e-8);
        let loss = Self::new().overlap(overlap).pixel(Pixel::binary_cross_entropy());
        Self { activation: Activation::Sigmoid, ..loss }
    }

    /// nnU-Net `DC_and_topk_loss`: [`nnunet_dc_ce`](Self::nnunet_dc_ce) with the mean of the 10 per cent largest
    /// cross-entropies.
    #[must_use]
    pub fn nnunet_dc_topk() -> Self {
        Self::nnunet_dc_ce().pixel(Pixel::top_k_cross_entropy(10.0))
    }

    /// MONAI `DiceLoss(softmax=True, to_onehot_y=True)`.
    #[must_use]
    pub fn monai_dice() -> Self {
        Self::new().overlap(Overlap::dice())
    }

    /// `DiceLoss("multiclass", log_loss=True)` of `segmentation_models.pytorch`: over the batch, without smoothing. A class
    /// without a voxel in the batch counts 0, and is a part of the mean all the same.
    #[must_use]
    pub fn smp_log_dice() -> Self {
        let overlap = Overlap::tversky(0.5, 0.5).batch(true).smooth(0.0, 0.0).denominator_floor(1e-7);
        Self::new().overlap(overlap.absent(Absent::Zero).form(Form::Log))
    }

    /// MONAI `TverskyLoss(softmax=True, to_onehot_y=True)`: α = β = 0.5.
    #[must_use]
    pub fn monai_tversky() -> Self {
        Self::new().overlap(Overlap::tversky(0.5, 0.5))
    }

    /// MONAI `GeneralizedDiceLoss(softmax=True, to_onehot_y=True)`: weights 1/T².
    ///
    /// The smoothing constants of 1e-5 swallow the ratio at 3-D sizes, as they do in MONAI: the weighted sums are about 1/T, so
    /// that two classes of 2·10⁶ voxels each and 10 % overlap give 0.15 where 0.9 is meant. There set
    /// [`smooth(0.0, 0.0)`](Overlap::smooth) and a [`denominator_floor`](Overlap::denominator_floor) far below 1/T.
    #[must_use]
    pub fn monai_generalized_dice() -> Self {
        Self::new().overlap(Overlap::generalized_dice(ClassWeighting::Square))
    }

    /// MONAI `FocalLoss(to_onehot_y=True)`: on the sigmoid, γ = 2, no α, background included. With another α or γ it is
    /// [`Pixel::monai_focal`]; its `reduction="sum"` is [`Reduction::SumOfItemMeans`](super::Reduction::SumOfItemMeans).
    #[must_use]
    pub fn monai_focal() -> Self {
        Self { activation: Activation::Sigmoid, ..Self::new().pixel(Pixel::monai_focal(2.0, Alpha::None)) }
    }

    /// MONAI `DiceFocalLoss(sigmoid=True, to_onehot_y=True)`.
    #[must_use]
    pub fn monai_dice_focal() -> Self {
        Self::monai_focal().overlap(Overlap::dice())
    }

    /// PyTorch `cross_entropy`. The mean over no voxel is NaN, as there; PyTorch's default `ignore_index` of −100 is set on
    /// the [`Head`](super::Head).
    #[must_use]
    pub fn torch_cross_entropy() -> Self {
        Self::new().pixel(Pixel::cross_entropy().empty(Empty::Nan))
    }
}

impl Pixel {
    /// MONAI's focal term, background included: a scalar α has no effect under a softmax without the background.
    #[must_use]
    pub fn monai_focal(gamma: impl Into<ClassValues>, alpha: Alpha) -> Self {
        let (gamma, scalar_alpha) = (gamma.into(), ScalarAlpha::IgnoredWithoutBackground);
        Self { kind: PixelKind::Focal { gamma, alpha, scalar_alpha, include_background: true }, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_supervision_weights_are_those_of_the_published_wrappers() {
        assert_eq!(nnunet_deep_supervision(3), [2.0 / 3.0, 1.0 / 3.0, 0.0]);
        assert_eq!(nnunet_deep_supervision(1), [1.0]);
        assert_eq!(nnunet_deep_supervision(0), [0.0; 0]);
        // max(0.5^l, 0.0625), 1, and 1 for the first and 0.5 for the others
        assert_eq!(monai_deep_supervision(WeightMode::Exp, 6), [1.0, 0.5, 0.25, 0.125, 0.0625, 0.0625]);
        assert_eq!(monai_deep_supervision(WeightMode::Same, 3), [1.0; 3]);
        assert_eq!(monai_deep_supervision(WeightMode::Two, 4), [1.0, 0.5, 0.5, 0.5]);
        assert_eq!(monai_deep_supervision(WeightMode::Exp, 0), [0.0; 0]);
    }
}
