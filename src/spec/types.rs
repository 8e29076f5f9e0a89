//! What a head is made of in words: activation, element types, targets.

/// How the logits become the `p` of the overlap term. Cross-entropy is always on the softmax and binary cross-entropy on
/// the sigmoid, whatever the activation, as in MONAI; the focal term follows it.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Softmax over the classes.
    Softmax,
    /// One sigmoid per class: classes may overlap (nnU-Net's regions).
    Sigmoid,
    /// The logits are probabilities already.
    None,
}

/// The integer type of labels in their buffer. Eight- and sixteen-bit labels lie packed in 32-bit words, the first in the
/// low bits, as they do in the memory of every little-endian machine; no device feature is needed. A negative label that is
/// not the ignore label is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelType {
    /// One byte per voxel, unsigned.
    U8,
    /// Two bytes per voxel, unsigned.
    U16,
    /// Four bytes per voxel, unsigned.
    U32,
    /// One byte per voxel, signed: nnU-Net's segmentations of few classes.
    I8,
    /// Two bytes per voxel, signed.
    I16,
    /// Four bytes per voxel, signed.
    I32,
    /// Eight bytes per voxel, signed: PyTorch's labels. Those beyond ±(2^31 − 1) are out of range.
    I64,
}

impl LabelType {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::U8, Self::U16, Self::U32, Self::I8, Self::I16, Self::I32, Self::I64];

    /// Bits of one label.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::U8 | Self::I8 => 8,
            Self::U16 | Self::I16 => 16,
            Self::U32 | Self::I32 => 32,
            Self::I64 => 64,
        }
    }

    /// Its name in a specification's text: `u8`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
        }
    }

    /// Bytes of one label.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bits() as u64 / 8
    }

    /// The labels of this type that may be a class or the ignore label: of 64 bits those in ±(2^31 − 1), else all that the
    /// type holds.
    #[must_use]
    pub const fn range(self) -> std::ops::RangeInclusive<i64> {
        match self {
            Self::U8 => 0..=u8::MAX as i64,
            Self::U16 => 0..=u16::MAX as i64,
            Self::U32 => 0..=u32::MAX as i64,
            Self::I8 => i8::MIN as i64..=i8::MAX as i64,
            Self::I16 => i16::MIN as i64..=i16::MAX as i64,
            Self::I32 => i32::MIN as i64..=i32::MAX as i64,
            Self::I64 => -(i32::MAX as i64)..=i32::MAX as i64,
        }
    }
}

/// The floating-point type of a tensor in its buffer. Sixteen-bit types are storage: arithmetic is f32, a gradient is rounded
/// once, to nearest, and no device feature is needed. They lie two to a word, the first in the low bits.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// Four bytes.
    F32,
    /// Two bytes: IEEE half precision.
    F16,
    /// Two bytes: the upper half of an f32.
    Bf16,
}

impl FloatType {
    /// Its name in a specification's text: `bf16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// How the elements of logits, probabilities and gradient lie in memory; their shape is `[N, C, *spatial]` either way. The names
/// are PyTorch's.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MemoryFormat {
    /// The last spatial axis is contiguous: one voxel of a class follows another.
    #[default]
    ContiguousFormat,
    /// The classes are contiguous: memory has the shape `[N, *spatial, C]`, as convolutions often write it.
    ChannelsLast,
}

/// What the network should predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// One class per voxel, shape `[N, *spatial]`. With one channel (C = 1) there are two labels: 0 is the background, 1 the
    /// channel's class.
    Labels(LabelType),
    /// One number in [0, 1] per class and voxel, shape `[N, C, *spatial]`: one-hot, soft labels, or overlapping regions.
    Probabilities(FloatType),
}

/// One number for all classes that take part, or one for each, in their order.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(untagged))]
#[derive(Clone, Debug, PartialEq)]
pub enum ClassValues {
    /// The same for all.
    Same(f32),
    /// One per class.
    Each(Vec<f32>),
}

impl ClassValues {
    /// That of the class at `place` among those that take part.
    pub(crate) fn at(&self, place: usize) -> f32 {
        match self {
            Self::Same(value) => *value,
            Self::Each(values) => values[place],
        }
    }
}

impl From<f32> for ClassValues {
    fn from(value: f32) -> Self {
        Self::Same(value)
    }
}

impl From<Vec<f32>> for ClassValues {
    fn from(values: Vec<f32>) -> Self {
        Self::Each(values)
    }
}

impl<const N: usize> From<[f32; N]> for ClassValues {
    fn from(values: [f32; N]) -> Self {
        Self::Each(values.into())
    }
}
