//! A head: the shape of its logits, its target, its loss, its weight.

use std::collections::BTreeMap;

use super::overlap::Overlap;
use super::pixel::Pixel;
use super::types::{Activation, FloatType, LabelType, MemoryFormat, Target};

/// Whether a head counts hits and misses: the voxels predicted as each class (TP, FP) and those of the class that are not (FN),
/// among those that count, each as one whatever its weight. The prediction is the argmax of a softmax (the first class of a
/// tie), else p > 0.5; the target is the label, or a probability above 0.5. nnU-Net's online evaluation, and MONAI's metrics.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardCounts {
    /// It does not.
    None,
    /// Of each class over the whole batch.
    Batch,
    /// Of each class over the whole batch, and of each item.
    Item,
}

/// What is computed of a head: an overlap term, a pixel term, or both.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    /// How logits become `p` in the overlap term.
    pub activation: Activation,
    /// Dice and its relatives.
    pub overlap: Option<Overlap>,
    /// Cross-entropy and its relatives.
    pub pixel: Option<Pixel>,
}

impl Loss {
    /// No term yet; add them with [`overlap`](Self::overlap) and [`pixel`](Self::pixel).
    #[must_use]
    pub const fn new() -> Self {
        Self { activation: Activation::Softmax, overlap: None, pixel: None }
    }

    /// Sets the overlap term.
    #[must_use]
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = Some(overlap);
        self
    }

    /// Sets the pixel term.
    #[must_use]
    pub fn pixel(mut self, pixel: Pixel) -> Self {
        self.pixel = Some(pixel);
        self
    }
}

impl Default for Loss {
    fn default() -> Self {
        Self::new()
    }
}

/// One output of the network.
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "super::text::HeadFields", into = "super::text::HeadFields")
)]
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a tensor or an output that a head has or lacks")]
pub struct Head {
    /// Shape of the logits, `[N, C, *spatial]`: items, classes, then any number of spatial axes (none: one voxel per item).
    pub shape: Vec<usize>,
    /// The type of the logits and of their gradient. In f16 a mean over many voxels needs a loss scale
    /// ([`Scalars::upstream`](crate::Scalars::upstream)): without one, a gradient of 2 · 128³ voxels is below four of the type's
    /// smallest steps, and most of it is rounded to 0. `check_finite` reports only what is too large.
    pub logits: FloatType,
    /// How logits, gradient and probabilities lie in memory.
    pub memory_format: MemoryFormat,
    /// The target.
    pub target: Target,
    /// The spatial shape of the labels, where it is not that of the logits: each voxel reads the label that PyTorch's
    /// `interpolate(mode="nearest-exact")` would pick for it. Deep supervision needs no smaller copies of its labels.
    pub resample: Option<Vec<usize>>,
    /// The class of each label, `None` for a label that counts nowhere; many labels may have one class. A label that the
    /// table lacks is out of range. With one channel the classes are 0, the background, and 1. Labels are read after
    /// `resample` and `ignore_index`; the largest of a table is 65,535.
    pub label_map: Option<BTreeMap<u32, Option<u32>>>,
    /// The channels of each label, for regions that overlap (of brain tumours: whole tumour, tumour core, enhancing tumour), `None` for a
    /// label that counts nowhere. The target is then, in every rule, that of probabilities of 0 and 1, without a dense tensor.
    /// Not with `label_map`, whose bounds it has.
    pub regions: Option<BTreeMap<u32, Option<Vec<u32>>>>,
    /// Whether a voxel mask is bound: u8, `[N, *spatial]`; voxels where it is 0 count nowhere.
    pub mask: bool,
    /// Whether a weight map is bound: f32, `[N, *spatial]`; it multiplies a voxel's part in both terms and in their means.
    pub weight_map: bool,
    /// Whether a sample mask is bound: u8, `[N]`; items where it is 0 count nowhere, and leave the mean over items.
    pub sample_mask: bool,
    /// The label that counts nowhere: neither in a term, nor in a mean, and its voxels' gradient is exactly 0. Where it
    /// is a class, as 0 often is, that class stays in the softmax and in the mean over classes, to which it adds about 1 without
    /// a voxel of its own: [`Overlap::include_background`] or [`Overlap::absent`] leave it out. The
    /// target's type has to hold it (−100 in `u8` is an error).
    pub ignore_index: Option<i64>,
    /// Whether the report has counts of hits and misses.
    pub hard_counts: HardCounts,
    /// Whether the terms come unreduced as well (`reduction="none"` of PyTorch and MONAI): the overlap term of each row and
    /// class in the report, and the pixel term of each voxel in a bound tensor, f32, `[N, *spatial]`.
    pub unreduced: bool,
    /// Whether the report says that logits or gradients are not finite, as a gradient scaler asks (PyTorch's `found_inf`).
    pub check_finite: bool,
    /// The terms.
    pub loss: Loss,
    /// The weight of this head in the total; finite and not negative. At 0 the head adds exactly 0 to the total, and its
    /// gradient is 0, whatever its logits and its terms are (NaN, say); the terms are reported all the same.
    pub weight: f32,
}

impl Head {
    /// A head with logits of this shape, `[N, C, *spatial]`; labels are `u8` unless [`labels`](Self::labels) sets another type.
    #[must_use]
    pub fn new(shape: impl Into<Vec<usize>>, loss: Loss) -> Self {
        Self {
            shape: shape.into(),
            logits: FloatType::F32,
            memory_format: MemoryFormat::ContiguousFormat,
            target: Target::Labels(LabelType::U8),
            resample: None,
            label_map: None,
            regions: None,
            mask: false,
            weight_map: false,
            sample_mask: false,
            ignore_index: None,
            hard_counts: HardCounts::None,
            unreduced: false,
            check_finite: false,
            loss,
            weight: 1.0,
        }
    }

    /// The target is labels of this type.
    #[must_use]
    pub fn labels(mut self, labels: LabelType) -> Self {
        self.target = Target::Labels(labels);
        self
    }

    /// Logits and gradient have this type.
    #[must_use]
    pub fn logits(mut self, logits: FloatType) -> Self {
        self.logits = logits;
        self
    }

    /// Sets [`memory_format`](Self::memory_format).
    #[must_use]
    pub fn memory_format(mut self, memory_format: MemoryFormat) -> Self {
        self.memory_format = memory_format;
        self
    }

    /// The target is one probability of this type per class and voxel.
    #[must_use]
    pub fn probabilities(mut self, probabilities: FloatType) -> Self {
        self.target = Target::Probabilities(probabilities);
        self
    }

    /// The labels have this spatial shape; sets [`resample`](Self::resample).
    #[must_use]
    pub fn resample(mut self, spatial: impl Into<Vec<usize>>) -> Self {
        self.resample = Some(spatial.into());
        self
    }

    /// Sets [`label_map`](Self::label_map).
    #[must_use]
    pub fn label_map(mut self, table: impl IntoIterator<Item = (u32, Option<u32>)>) -> Self {
        self.label_map = Some(table.into_iter().collect());
        self
    }

    /// Sets [`regions`](Self::regions).
    #[must_use]
    pub fn regions(mut self, table: impl IntoIterator<Item = (u32, Option<Vec<u32>>)>) -> Self {
        self.regions = Some(table.into_iter().collect());
        self
    }

    /// Sets [`mask`](Self::mask).
    #[must_use]
    pub fn mask(mut self, mask: bool) -> Self {
        self.mask = mask;
        self
    }

    /// Sets [`weight_map`](Self::weight_map).
    #[must_use]
    pub fn weight_map(mut self, weight_map: bool) -> Self {
        self.weight_map = weight_map;
        self
    }

    /// Sets [`sample_mask`](Self::sample_mask).
    #[must_use]
    pub fn sample_mask(mut self, sample_mask: bool) -> Self {
        self.sample_mask = sample_mask;
        self
    }

    /// Sets [`hard_counts`](Self::hard_counts).
    #[must_use]
    pub fn hard_counts(mut self, hard_counts: HardCounts) -> Self {
        self.hard_counts = hard_counts;
        self
    }

    /// Sets [`unreduced`](Self::unreduced).
    #[must_use]
    pub fn unreduced(mut self, unreduced: bool) -> Self {
        self.unreduced = unreduced;
        self
    }

    /// Sets [`check_finite`](Self::check_finite).
    #[must_use]
    pub fn check_finite(mut self, check_finite: bool) -> Self {
        self.check_finite = check_finite;
        self
    }

    /// Voxels with this label count nowhere.
    #[must_use]
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore_index = Some(label);
        self
    }

    /// The weight of this head in the total.
    #[must_use]
    pub fn weight(mut self, weight: f32) -> Self {
        self.weight = weight;
        self
    }

    /// Whether T is a count of voxels, an integer.
    pub(crate) fn t_is_count(&self) -> bool {
        matches!(self.target, Target::Labels(_)) && !self.weight_map
    }

    /// Whether the losses of voxels have a tensor of their own.
    pub(crate) fn voxel_losses(&self) -> bool {
        self.unreduced && self.loss.pixel.is_some()
    }

    /// `N`: samples.
    #[must_use]
    pub fn items(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// `C`: channels of the logits.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.shape.get(1).copied().unwrap_or(0)
    }

    /// `V`: spatial positions of an item.
    #[must_use]
    pub fn voxels(&self) -> usize {
        self.shape.iter().skip(2).product()
    }

    /// Labels of an item: its voxels, unless the labels have another spatial shape.
    #[must_use]
    pub fn target_voxels(&self) -> usize {
        self.resample.as_ref().map_or_else(|| self.voxels(), |spatial| spatial.iter().product())
    }

    /// Whether the classes of a voxel follow each other in memory. With one class, or one voxel, both formats are the same.
    pub(crate) fn channels_last(&self) -> bool {
        self.memory_format == MemoryFormat::ChannelsLast && self.classes() > 1 && self.voxels() > 1
    }

    /// Elements of the target: one label per voxel, or one probability per class and voxel.
    #[must_use]
    pub fn target_elements(&self) -> usize {
        match self.target {
            Target::Labels(_) => self.items() * self.target_voxels(),
            Target::Probabilities(_) => self.items() * self.classes() * self.voxels(),
        }
    }

    /// The ignore label as the shader compares it: its low 32 bits, to which shorter labels are extended by their sign.
    pub(crate) fn ignore_bits(&self) -> Option<u32> {
        let label = self.ignore_index?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(label as u32)
    }
}
