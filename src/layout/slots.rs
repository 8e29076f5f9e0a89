//! What the text of a dispatch depends on: slots, and the bindings that they read and write.
//!
//! A slot is a load or store that several heads may share: of one role and type, in one binding. A binding is a range of a
//! caller's buffer; `bindings.rs` says which tensors share one.

use std::collections::BTreeMap;
use std::ops::Range;

use super::tensors::Format;
use crate::error::Tensor;

/// What a slot reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    Logits,
    Labels,
    Probabilities,
    Mask,
    WeightMap,
    SampleMask,
    VoxelLosses,
    Gradient,
    /// A gradient that is added to what is there.
    AccumulatedGradient,
    /// Logits, and the gradient that overwrites them.
    GradientInPlace,
}

impl Role {
    /// The roles that have a list in shaders/voxels.wgsl.
    pub(crate) const LISTS: [Self; 8] = [
        Self::Logits,
        Self::Labels,
        Self::Probabilities,
        Self::Mask,
        Self::WeightMap,
        Self::SampleMask,
        Self::VoxelLosses,
        Self::Gradient,
    ];

    /// The lists that a slot of this role is in.
    pub(crate) fn lists(self) -> &'static [Self] {
        match self {
            Self::Logits => &[Self::Logits],
            Self::Labels => &[Self::Labels],
            Self::Probabilities => &[Self::Probabilities],
            Self::Mask => &[Self::Mask],
            Self::WeightMap => &[Self::WeightMap],
            Self::SampleMask => &[Self::SampleMask],
            Self::VoxelLosses => &[Self::VoxelLosses],
            Self::Gradient | Self::AccumulatedGradient => &[Self::Gradient],
            Self::GradientInPlace => &[Self::Logits, Self::Gradient],
        }
    }

    /// The caller's tensor.
    pub(crate) const fn tensor(self) -> Tensor {
        match self {
            Self::Logits => Tensor::Logits,
            Self::Labels | Self::Probabilities => Tensor::Target,
            Self::Mask => Tensor::Mask,
            Self::WeightMap => Tensor::WeightMap,
            Self::SampleMask => Tensor::SampleMask,
            Self::VoxelLosses => Tensor::VoxelLosses,
            Self::Gradient | Self::AccumulatedGradient | Self::GradientInPlace => Tensor::Gradient,
        }
    }

    /// Whether its stage writes to it.
    pub(crate) const fn is_written(self) -> bool {
        matches!(self, Self::VoxelLosses | Self::Gradient | Self::AccumulatedGradient | Self::GradientInPlace)
    }

    /// Whether its stage reads it.
    pub(crate) const fn is_read(self) -> bool {
        !matches!(self, Self::VoxelLosses | Self::Gradient)
    }

    /// The flag of a group whose heads share one slot in the role's list.
    pub(crate) const fn alone(self) -> &'static str {
        match self {
            Self::Logits => "one_logits",
            Self::Labels => "one_labels",
            Self::Probabilities => "one_probabilities",
            Self::Mask => "one_mask",
            Self::WeightMap => "one_weight_map",
            Self::SampleMask => "one_sample_mask",
            Self::VoxelLosses => "one_voxel_losses",
            Self::Gradient | Self::AccumulatedGradient | Self::GradientInPlace => "one_gradient",
        }
    }

    /// The name of the role's list in the shaders.
    pub(crate) const fn list(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Labels => "labels",
            Self::Probabilities => "probabilities",
            Self::Mask => "mask",
            Self::WeightMap => "weight_map",
            Self::SampleMask => "sample_mask",
            Self::VoxelLosses => "voxel_losses",
            Self::Gradient | Self::AccumulatedGradient | Self::GradientInPlace => "gradient",
        }
    }

    /// The callers' tensors that have this role.
    pub(crate) const fn tensors(self) -> &'static [Tensor] {
        match self {
            Self::Logits => &[Tensor::Logits],
            Self::Labels | Self::Probabilities => &[Tensor::Target],
            Self::Mask => &[Tensor::Mask],
            Self::WeightMap => &[Tensor::WeightMap],
            Self::SampleMask => &[Tensor::SampleMask],
            Self::VoxelLosses => &[Tensor::VoxelLosses],
            Self::Gradient | Self::AccumulatedGradient => &[Tensor::Gradient],
            Self::GradientInPlace => &[Tensor::Logits, Tensor::Gradient],
        }
    }
}

/// How a slot loads or stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotKind {
    pub role: Role,
    pub format: Format,
    /// Four elements at once.
    pub wide: bool,
    /// The index of its binding.
    pub binding: u32,
}

impl SlotKind {
    /// Whether its elements are floats of 16 bits, two in a word, that begin anywhere.
    pub(crate) const fn has_halves(self) -> bool {
        !self.wide && self.format.bits() == 16 && matches!(self.format, Format::Float(_))
    }

    /// The words that it loads or stores at once.
    pub(crate) const fn unit(self) -> Unit {
        let bits = self.format.bits();
        if self.has_halves() && self.role.is_written() {
            return Unit::AtomicWord;
        }
        match if self.wide { 4 * bits } else { bits } {
            ..=32 => Unit::Word,
            33..=64 => Unit::Pair,
            _ => Unit::Quad,
        }
    }
}

/// The words that a binding has as one: what a shader declares an array of. From the narrowest to the widest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// A word whose halves are stored apart: gradients of 16 bits, of which rows share a word.
    AtomicWord,
    Word,
    Pair,
    Quad,
}

impl Unit {
    pub(crate) const fn bytes(self) -> u64 {
        match self {
            Self::AtomicWord | Self::Word => 4,
            Self::Pair => 8,
            Self::Quad => 16,
        }
    }

    /// The unit of a binding that these slots share. All that is written covers whole units, since WebGPU lets an invocation
    /// that writes a part of a vector touch the rest; what is read may be a part of one.
    pub(crate) fn of_slots<'a>(slots: impl Iterator<Item = &'a SlotKind> + Clone) -> Self {
        let written = slots.clone().filter(|slot| slot.role.is_written()).map(|slot| slot.unit()).min();
        written.or_else(|| slots.map(|slot| slot.unit()).max()).unwrap_or(Self::Word)
    }
}

/// A binding: all that its declaration depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BindingKind {
    pub unit: Unit,
    /// log2 of the words of a window.
    pub window: u32,
    pub windows: u32,
    /// Bound `read_write` because its dispatch writes to the same buffer.
    pub read_write: bool,
}

/// What a head uses of its dispatch: per list, its slot and its first element in the slot's binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct HeadSlots {
    pub head: usize,
    /// The items that the dispatch handles. The first elements of the head's tensors are those of the first of these items.
    pub items: Range<u32>,
    pub slots: BTreeMap<Role, (u32, u32)>,
}

impl HeadSlots {
    /// Slot and first element in a list; zeros, which no shader reads, where the head lacks it.
    pub(crate) fn of(&self, role: Role) -> (u32, u32) {
        self.slots.get(&role).copied().unwrap_or_default()
    }
}

/// A dispatch without its buffers: what its text depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DispatchText {
    pub heads: Vec<HeadSlots>,
    pub slots: Vec<SlotKind>,
    pub bindings: Vec<BindingKind>,
}
