//! From tensors to bindings: slots, windows, and the split into as few dispatches as fit.
//!
//! A slot is a load or store that several heads may share: heads whose tensors lie in one buffer share one binding that
//! covers them, up to the size of the largest binding. A tensor larger than that is a slot of its own, bound in windows;
//! where a head needs more windows than the device has bindings, its items are spread over several dispatches.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Layout;
use super::tensors::{self, Extent, Format};
use super::variant::Variant;
use crate::error::{Bound, Error};
use crate::spec::LossSpec;

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

    /// Whether its stage writes to it.
    pub(crate) const fn is_written(self) -> bool {
        matches!(self, Self::VoxelLosses | Self::Gradient | Self::AccumulatedGradient | Self::GradientInPlace)
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
}

/// How a slot loads or stores: all that its text depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotKind {
    pub role: Role,
    pub format: Format,
    /// Four elements at once.
    pub wide: bool,
    /// log2 of the elements of a window.
    pub window: u32,
    pub windows: u32,
    /// Bound `read_write` because the same dispatch writes to the same buffer.
    pub read_write: bool,
}

/// One load or store of a dispatch, and what it is bound to.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub kind: SlotKind,
    pub buffer: wgpu::Buffer,
    /// The bytes that the slot covers, from a multiple of the device's offset alignment to a whole word.
    pub bytes: Range<u64>,
}

impl Slot {
    /// The bytes of window `index`.
    pub(crate) fn window_bytes(&self, index: u32) -> Range<u64> {
        let length = (1_u64 << self.kind.window) * self.kind.format.bytes();
        let first = self.bytes.start + u64::from(index) * length;
        first..self.bytes.end.min(first + length)
    }
}

/// What a head uses of its dispatch: per list, its slot and its first element in it.
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

/// The heads of one dispatch, and their slots by role.
#[derive(Clone, Debug, Default)]
pub(crate) struct DispatchSlots {
    pub heads: Vec<HeadSlots>,
    pub slots: Vec<Slot>,
    /// Logits of all its heads.
    logits: u64,
}

/// A dispatch without its buffers: what its text depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DispatchText {
    pub heads: Vec<HeadSlots>,
    pub kinds: Vec<SlotKind>,
}

/// What the device allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DispatchLimits {
    /// Storage buffers of a dispatch, less those that the stage itself needs.
    pub storage_buffers: u32,
    /// The limit that this follows from.
    pub bound: Bound,
    /// 1 where that limit counts the table of heads as well, else 0.
    pub table: u32,
    /// Storage buffers that the stage itself needs.
    pub own: u32,
    pub largest_binding: u64,
    pub alignment: u64,
    /// Whether four elements may be loaded at once.
    pub wide: bool,
    /// Heads per dispatch.
    pub heads: u32,
    /// Logits per dispatch; one item may have more.
    pub logits: u64,
}

/// The least offset alignment that WebGPU allows a device to state; the largest is 256.
const LEAST_ALIGNMENT: u64 = 32;

impl DispatchLimits {
    pub(crate) fn new(limits: &wgpu::Limits, own: u32, variant: Variant) -> Self {
        // the table of heads is a binding as well, and a buffer of the stage, but not a storage buffer
        let (bound, most, table) = [
            (Bound::StorageBuffers, limits.max_storage_buffers_per_shader_stage, 0),
            (Bound::Buffers, limits.max_buffers_and_acceleration_structures_per_shader_stage, 1),
            (Bound::Bindings, limits.max_bindings_per_bind_group, 1),
        ]
        .into_iter()
        .min_by_key(|(_, most, table)| most.saturating_sub(*table))
        .expect("three limits");
        Self {
            storage_buffers: most.saturating_sub(table + own),
            bound,
            table,
            own,
            largest_binding: largest_binding(limits),
            alignment: u64::from(limits.min_storage_buffer_offset_alignment).max(LEAST_ALIGNMENT),
            wide: variant.wide,
            heads: variant.heads_per_dispatch,
            logits: u64::MAX,
        }
    }
}

/// A head's tensors in a stage, or those of a run of its items.
type Tensors = Vec<(Role, Extent)>;

/// Elements of the logits, or of the gradient that overwrites them.
fn logits(tensors: &[(Role, Extent)]) -> u64 {
    let own = tensors.iter().filter(|(role, _)| role.lists().contains(&Role::Logits));
    own.map(|(_, extent)| (extent.bytes.end - extent.bytes.start) / extent.format.bytes()).sum()
}

/// The most elements of a slot that several tensors share: indices, and steps past an end, stay far below 2^32.
const MOST_SHARED_ELEMENTS: u64 = 1 << 31;

/// Splits heads into as few dispatches as fit. `items`: of each head; `wanted`: a head's tensors in this stage, none where it
/// takes no part.
pub(crate) fn split(
    items: &[u32],
    wanted: impl Fn(usize) -> Tensors,
    limits: DispatchLimits,
) -> Result<Vec<DispatchSlots>, Error> {
    let mut dispatches: Vec<DispatchSlots> = Vec::new();
    for (index, &items) in items.iter().enumerate() {
        let tensors = wanted(index);
        if tensors.is_empty() {
            continue;
        }
        let of_items = |run: &Range<u32>| -> Tensors {
            tensors.iter().map(|(role, extent)| (*role, extent.of_items(run, items))).collect()
        };
        for run in runs_of_items(index, items, &of_items, limits)? {
            let tensors = of_items(&run);
            let small = |dispatch: &DispatchSlots| dispatch.logits + logits(&tensors) <= limits.logits;
            let fitting = dispatches.iter_mut().filter(|dispatch| small(dispatch)).find_map(|dispatch| {
                let grown = dispatch.with(index, &run, &tensors, limits);
                let fits = grown.bindings() <= limits.storage_buffers && grown.heads.len() <= limits.heads as usize;
                fits.then_some((dispatch, grown))
            });
            match fitting {
                Some((dispatch, grown)) => *dispatch = grown,
                None => dispatches.push(DispatchSlots::default().with(index, &run, &tensors, limits)),
            }
        }
    }
    dispatches.iter_mut().for_each(DispatchSlots::share_written_buffers);
    Ok(dispatches)
}

/// The largest binding of a device in whole words. Metal may state more than shaders can address: sizes are 32-bit numbers
/// there.
pub(crate) fn largest_binding(limits: &wgpu::Limits) -> u64 {
    limits.max_storage_buffer_binding_size.min(u32::MAX.into()) / 4 * 4
}

/// log2 of the elements of a window, and the number of windows, for a binding of `length` bytes.
fn windows(length: u64, element: u64, largest_binding: u64) -> (u32, u32) {
    if length <= largest_binding {
        return (31, 1);
    }
    let window = (largest_binding / element).ilog2();
    (window, u32::try_from(length.div_ceil(element << window)).unwrap_or(u32::MAX / 8))
}

/// Refuses, before there are tensors, a head that cannot be bound: one item's logits and target need more windows than the
/// statistics stage has bindings.
pub(crate) fn check_items(
    spec: &LossSpec,
    layout: &Layout,
    limits: &wgpu::Limits,
    variant: Variant,
) -> Result<(), Error> {
    let of_dispatch = DispatchLimits::new(limits, layout.statistics_bindings(), variant);
    for (index, head) in spec.heads.iter().enumerate() {
        let [logits, target] = tensors::item_bytes(head).map(|(bytes, format)| {
            let (_, windows) = windows(bytes, format.bytes(), of_dispatch.largest_binding);
            windows
        });
        if logits + target > of_dispatch.storage_buffers {
            return Err(too_many_bindings(index, logits + target, of_dispatch));
        }
    }
    Ok(())
}

/// A head's items in as few runs as possible, of nearly equal length, each with no more logits and windows than a dispatch
/// may have.
fn runs_of_items(
    head: usize,
    items: u32,
    of_items: &dyn Fn(&Range<u32>) -> Tensors,
    limits: DispatchLimits,
) -> Result<Vec<Range<u32>>, Error> {
    let bindings = |run: &Range<u32>| DispatchSlots::default().with(head, run, &of_items(run), limits).bindings();
    let most_items = limits.logits / logits(&of_items(&(0..1))).max(1);
    let least_runs = u64::from(items).div_ceil(most_items.max(1));
    for runs in u32::try_from(least_runs).unwrap_or(items)..=items {
        let length = items.div_ceil(runs);
        let runs: Vec<_> = (0..items).step_by(length as usize).map(|first| first..items.min(first + length)).collect();
        if runs.iter().all(|run| bindings(run) <= limits.storage_buffers) {
            return Ok(runs);
        }
    }
    let most = (0..items).map(|item| bindings(&(item..item + 1))).max().unwrap_or(0);
    Err(too_many_bindings(head, most, limits))
}

/// The error where one item of a head needs `bindings` besides those of its stage.
fn too_many_bindings(head: usize, bindings: u32, limits: DispatchLimits) -> Error {
    Error::Limit {
        head: Some(head),
        what: "the tensors of one item, and what its stage needs".to_owned(),
        bound: limits.bound,
        needed: (bindings + limits.own + limits.table).into(),
        available: (limits.storage_buffers + limits.own + limits.table).into(),
    }
}

impl DispatchSlots {
    /// What the text of the dispatch depends on.
    pub(crate) fn text(&self) -> DispatchText {
        let mut heads = self.heads.clone();
        // where a tensor begins in its slot is in the table, not in the text
        heads.iter_mut().flat_map(|head| head.slots.values_mut()).for_each(|(_, first)| *first = 0);
        DispatchText { heads, kinds: self.slots.iter().map(|slot| slot.kind).collect() }
    }

    /// Storage bindings of the slots.
    pub(crate) fn bindings(&self) -> u32 {
        self.slots.iter().map(|slot| slot.kind.windows).sum()
    }

    /// The dispatch with one more head, or with a run of its items.
    fn with(&self, head: usize, items: &Range<u32>, tensors: &[(Role, Extent)], limits: DispatchLimits) -> Self {
        let mut dispatch = self.clone();
        let slots: Vec<(Role, usize)> =
            tensors.iter().map(|(role, extent)| (*role, dispatch.place(*role, extent, limits))).collect();
        let mut entry = HeadSlots { head, items: items.clone(), ..HeadSlots::default() };
        for ((role, slot), (_, extent)) in slots.into_iter().zip(tensors) {
            let first = dispatch.slots[slot].element(extent.bytes.start);
            entry.slots.extend(role.lists().iter().map(|list| (*list, (to_u32(slot), first))));
        }
        dispatch.heads.push(entry);
        dispatch.logits += logits(tensors);
        dispatch
    }

    /// Finds or makes the slot of a tensor.
    fn place(&mut self, role: Role, extent: &Extent, limits: DispatchLimits) -> usize {
        let covered = extent.bytes.start - extent.bytes.start % limits.alignment..extent.bytes.end.next_multiple_of(4);
        let shared = self.slots.iter().position(|slot| {
            let union = slot.bytes.start.min(covered.start)..slot.bytes.end.max(covered.end);
            let same = slot.buffer == extent.buffer && slot.kind.role == role && slot.kind.format == extent.format;
            let length = union.end - union.start;
            let small = length <= limits.largest_binding && length / extent.format.bytes() <= MOST_SHARED_ELEMENTS;
            same && (slot.bytes == covered || slot.kind.windows == 1 && small)
        });
        if let Some(index) = shared {
            let slot = &mut self.slots[index];
            let moved = (slot.bytes.start - slot.bytes.start.min(covered.start)) / extent.format.bytes();
            // the slot may grow downwards: the other tensors then begin later in it
            slot.bytes = slot.bytes.start.min(covered.start)..slot.bytes.end.max(covered.end);
            slot.kind.wide &= extent.wide;
            let here = self.heads.iter_mut().flat_map(|head| head.slots.values_mut());
            for (_, first) in here.filter(|(slot, _)| *slot == to_u32(index)) {
                *first += u32::try_from(moved).expect("a shared slot is no larger than a binding");
            }
            return index;
        }
        let length = covered.end - covered.start;
        let (window, windows) = windows(length, extent.format.bytes(), limits.largest_binding);
        let wide = extent.wide && limits.wide;
        let kind = SlotKind { role, format: extent.format, wide, window, windows, read_write: role.is_written() };
        self.slots.push(Slot { kind, buffer: extent.buffer.clone(), bytes: covered });
        self.slots.len() - 1
    }

    /// A dispatch may not read a buffer that it also writes, so all its bindings of such a buffer are `read_write`.
    fn share_written_buffers(&mut self) {
        let written: Vec<wgpu::Buffer> =
            self.slots.iter().filter(|slot| slot.kind.role.is_written()).map(|slot| slot.buffer.clone()).collect();
        for slot in &mut self.slots {
            slot.kind.read_write |= written.contains(&slot.buffer);
        }
    }
}

impl Slot {
    /// The element of this slot at a byte of its buffer.
    fn element(&self, byte: u64) -> u32 {
        let element = (byte - self.bytes.start) / self.kind.format.bytes();
        // less than a binding where the slot is shared, less than the alignment where it is not
        u32::try_from(element).expect("the first element of a tensor is near the start of its slot")
    }
}

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a dispatch has few slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_of_four_gibibytes_comes_in_windows_whatever_a_device_states() {
        let limits = wgpu::Limits { max_storage_buffer_binding_size: 14 << 30, ..wgpu::Limits::default() };
        let largest = largest_binding(&limits);
        assert!(largest < 1 << 32, "{largest}");
        for element in [2, 4, 8] {
            let (window, count) = windows(5 << 30, element, largest);
            let bytes = element << window;
            assert!(count > 1 && bytes <= largest && bytes * u64::from(count) >= 5 << 30, "{count} of {bytes} bytes");
        }
        assert_eq!(windows(largest, 4, largest), (31, 1));
    }
}
