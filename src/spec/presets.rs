//! The published losses, with their own defaults.

use super::{Empty, Form, Loss, Overlap, Pixel};

impl Loss {
    /// MONAI `DiceCELoss(softmax=True, to_onehot_y=True)`: soft Dice an item, background included, smoothing constants
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

    /// PyTorch `cross_entropy`. The mean over no voxel is NaN, as there; PyTorch's default `ignore_index` of −100 is set on
    /// the [`Head`](super::Head).
    #[must_use]
    pub fn torch_cross_entropy() -> Self {
        Self::new().pixel(Pixel::cross_entropy().empty(Empty::Nan))
    }
}
