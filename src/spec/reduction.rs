//! How a term becomes one number.

/// How a term becomes one number.
///
/// MONAI's `FocalLoss(reduction="sum")` is [`SumOfItemMeans`](Self::SumOfItemMeans): it takes the mean over space first.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The mean: of the overlap term over rows and classes, of the pixel term over the (class-weighted) voxels.
    Mean,
    /// Of an overlap term: over classes Σ w f / Σ w instead of Σ w f over their number, with w the class weights, as in smp
    /// and kornia; over rows the mean. Of a focal term: the mean divides by Σ w instead of the number of classes.
    WeightedMean,
    /// The sum.
    Sum,
    /// Of a pixel term, but a top-k: the sum over items of their means over voxels, `Σ_n (Σ m ℓ / Σ m)`, where ℓ is the sum
    /// over classes of focal and binary cross-entropy. An item without a voxel that counts adds 0.
    SumOfItemMeans,
}
