//! A head: the shape of its logits, its target, its loss, its weight.

use super::{Overlap, Pixel};

/// How the logits become the `p` of the overlap term. The pixel term is always on the softmax, as in MONAI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// Softmax over the classes.
    Softmax,
}

/// The integer type of labels in their buffer. Eight- and sixteen-bit labels lie packed in 32-bit words, the first in the
/// low bits, as they do in the memory of every little-endian machine; no device feature is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelType {
    /// One byte a voxel.
    U8,
    /// Two bytes a voxel.
    U16,
    /// Four bytes a voxel, signed. A negative label that is not the ignore label is out of range.
    I32,
    /// Four bytes a voxel.
    U32,
}

impl LabelType {
    /// Bits of one label.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::U8 => 8,
            Self::U16 => 16,
            Self::I32 | Self::U32 => 32,
        }
    }

    /// Bytes of one label.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bits() as u64 / 8
    }

    /// The labels that this type holds.
    #[must_use]
    pub const fn range(self) -> std::ops::RangeInclusive<i64> {
        match self {
            Self::U8 => 0..=u8::MAX as i64,
            Self::U16 => 0..=u16::MAX as i64,
            Self::I32 => i32::MIN as i64..=i32::MAX as i64,
            Self::U32 => 0..=u32::MAX as i64,
        }
    }
}

/// What the network should have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One class a voxel, shape `[N, *spatial]`.
    Labels(LabelType),
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
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Shape of the logits, `[N, C, *spatial]`: items, classes, then any number of spatial axes (none: one voxel an item).
    pub shape: Vec<usize>,
    /// The target.
    pub target: Target,
    /// The label that counts nowhere: neither in a term, nor in a mean, and its voxels' gradient is exactly 0. A label that
    /// the target's type cannot hold (−100 in `u8`) ignores nothing.
    pub ignore_index: Option<i64>,
    /// The terms.
    pub loss: Loss,
    /// The weight of this head in the total; finite and not negative.
    pub weight: f32,
}

impl Head {
    /// A head with logits of this shape, `[N, C, *spatial]`; labels are `u8` until [`labels`](Self::labels) says otherwise.
    #[must_use]
    pub fn new(shape: impl Into<Vec<usize>>, loss: Loss) -> Self {
        Self { shape: shape.into(), target: Target::Labels(LabelType::U8), ignore_index: None, loss, weight: 1.0 }
    }

    /// The target is labels of this type.
    #[must_use]
    pub fn labels(mut self, labels: LabelType) -> Self {
        self.target = Target::Labels(labels);
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

    /// The ignore label as the shader compares it: the bits of an i32 or u32, if the target can hold it.
    pub(crate) fn ignore_bits(&self) -> Option<u32> {
        let Target::Labels(labels) = self.target;
        let label = self.ignore_index.filter(|label| labels.range().contains(label))?;
        // the low 32 bits: two's complement for a negative i32
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(label as u32)
    }
}
