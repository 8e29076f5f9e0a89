//! The split of a stage into as few dispatches as the device allows, and of a head's items over several where one is not
//! enough.

use std::ops::Range;

use super::Layout;
use super::bindings::{BindingLimits, Bound, MOST_SHARED_ELEMENTS, Piece, TooFarApart, bind, windows};
use super::slots::{DispatchText, HeadSlots, Role};
use super::tensors::{self, Extent};
use super::variant::Variant;
use crate::error::{Bound as Limit, Error, Tensor};
use crate::spec::LossSpec;

/// The heads of one dispatch, and what they are bound to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DispatchSlots {
    pub heads: Vec<HeadSlots>,
    pub bound: Bound,
}

/// What the device allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DispatchLimits {
    /// Storage buffers of a dispatch, less those that the stage itself needs.
    pub storage_buffers: u32,
    /// The limit that this follows from.
    pub bound: Limit,
    /// 1 where that limit counts the table of heads as well, else 0.
    pub table: u32,
    /// Storage buffers that the stage itself needs.
    pub own: u32,
    pub bindings: BindingLimits,
    /// Heads per dispatch.
    pub heads: u32,
    /// Logits per dispatch; one item may have more.
    pub logits: u64,
}

/// The least offset alignment that WebGPU allows a device to state; the largest is 256.
const LEAST_ALIGNMENT: u64 = 32;

impl DispatchLimits {
    pub(crate) fn new(limits: &wgpu::Limits, own: u32, variant: Variant) -> Self {
        let (bound, most, table) = most_buffers(limits);
        Self {
            storage_buffers: most.saturating_sub(table + own),
            bound,
            table,
            own,
            bindings: BindingLimits {
                largest: largest_binding(limits),
                alignment: u64::from(limits.min_storage_buffer_offset_alignment).max(LEAST_ALIGNMENT),
                wide: variant.wide,
                elements: MOST_SHARED_ELEMENTS,
                whole: false,
            },
            heads: variant.heads_per_dispatch,
            logits: u64::MAX,
        }
    }
}

/// The limit that allows the fewest storage buffers in a stage, its value, and 1 where it counts the table of heads as well:
/// that is a binding, and a buffer of the stage, but not a storage buffer.
fn most_buffers(limits: &wgpu::Limits) -> (Limit, u32, u32) {
    [
        (Limit::StorageBuffers, limits.max_storage_buffers_per_shader_stage, 0),
        (Limit::Buffers, limits.max_buffers_and_acceleration_structures_per_shader_stage, 1),
        (Limit::Bindings, limits.max_bindings_per_bind_group, 1),
    ]
    .into_iter()
    .min_by_key(|(_, most, table)| most.saturating_sub(*table))
    .expect("three limits")
}

/// Refuses a plan whose finish stage, which binds `needed` storage buffers whatever the tensors are, cannot run.
pub(crate) fn check_finish(needed: u32, limits: &wgpu::Limits) -> Result<(), Error> {
    let (bound, most, table) = most_buffers(limits);
    if needed + table <= most {
        return Ok(());
    }
    let what = "the buffers of the finish stage".to_owned();
    Err(Error::Limit { head: None, what, bound, needed: (needed + table).into(), available: most.into() })
}

/// A head's tensors in a stage, or those of a run of its items.
type Tensors = Vec<(Role, Extent)>;

/// Elements of the logits, or of the gradient that overwrites them.
fn logits(tensors: &[(Role, Extent)]) -> u64 {
    let own = tensors.iter().filter(|(role, _)| role.lists().contains(&Role::Logits));
    own.map(|(_, extent)| (extent.bytes.end - extent.bytes.start) / extent.format.bytes()).sum()
}

/// A dispatch while heads are added to it.
#[derive(Clone, Default)]
struct Draft {
    heads: Vec<(usize, Range<u32>)>,
    pieces: Vec<Piece>,
    logits: u64,
    bound: Bound,
}

impl Draft {
    /// The dispatch with one more head, or with a run of its items.
    fn with(&self, head: usize, items: &Range<u32>, tensors: Tensors, limits: DispatchLimits) -> Result<Self, Error> {
        let mut draft = self.clone();
        draft.logits += logits(&tensors);
        let at = draft.heads.len();
        draft.heads.push((head, items.clone()));
        draft.pieces.extend(tensors.into_iter().map(|(role, extent)| Piece { head: at, role, extent }));
        draft.bound = bind(&draft.pieces, limits.storage_buffers, limits.bindings)
            .map_err(|TooFarApart { piece }| draft.too_far_apart(piece, limits))?;
        Ok(draft)
    }

    fn too_far_apart(&self, piece: usize, limits: DispatchLimits) -> Error {
        let Piece { head, role, extent } = &self.pieces[piece];
        let alignment = limits.bindings.alignment;
        Error::Binding {
            head: self.heads[*head].0,
            tensor: role.tensor(),
            expected: format!(
                "an offset that is a multiple of {alignment} bytes, the device's min_storage_buffer_offset_alignment, \
                 with {alignment} bytes that hold no other tensor before it: the buffer is written, and a binding of all \
                 tensors that share such bytes would have more elements than an index reaches"
            ),
            given: extent.bytes.start.to_string(),
        }
    }

    fn fits(&self, limits: DispatchLimits) -> bool {
        self.bound.count() <= limits.storage_buffers && self.heads.len() <= limits.heads as usize
    }

    fn finish(self) -> DispatchSlots {
        let Self { heads, pieces, bound, .. } = self;
        let mut heads: Vec<HeadSlots> = heads
            .into_iter()
            .map(|(head, items)| HeadSlots { head, items, slots: std::collections::BTreeMap::new() })
            .collect();
        for (piece, place) in pieces.iter().zip(&bound.places) {
            heads[piece.head].slots.extend(piece.role.lists().iter().map(|list| (*list, *place)));
        }
        DispatchSlots { heads, bound }
    }
}

/// Splits heads into as few dispatches as fit. `items`: of each head; `wanted`: a head's tensors in this stage, none where it
/// takes no part.
pub(crate) fn split(
    items: &[u32],
    wanted: impl Fn(usize) -> Tensors,
    limits: DispatchLimits,
) -> Result<Vec<DispatchSlots>, Error> {
    let mut drafts: Vec<Draft> = Vec::new();
    for (index, &items) in items.iter().enumerate() {
        let tensors = wanted(index);
        if tensors.is_empty() {
            continue;
        }
        let of_items = |run: &Range<u32>| -> Tensors {
            tensors.iter().map(|(role, extent)| (*role, extent.of_items(run, items))).collect()
        };
        'runs: for run in runs_of_items(index, items, &of_items, limits)? {
            let tensors = of_items(&run);
            for draft in &mut drafts {
                if draft.heads.len() < limits.heads as usize && draft.logits + logits(&tensors) <= limits.logits {
                    let grown = draft.with(index, &run, tensors.clone(), limits);
                    if let Some(grown) = grown.ok().filter(|grown| grown.fits(limits)) {
                        *draft = grown;
                        continue 'runs;
                    }
                }
            }
            drafts.push(Draft::default().with(index, &run, tensors, limits)?);
        }
    }
    Ok(drafts.into_iter().map(Draft::finish).collect())
}

/// The largest binding of a device in whole words. Metal may state more than shaders can address: sizes are 32-bit numbers
/// there.
pub(crate) fn largest_binding(limits: &wgpu::Limits) -> u64 {
    limits.max_storage_buffer_binding_size.min(u32::MAX.into()) / 4 * 4
}

/// Refuses, before there are tensors, a head that cannot be bound however they are placed: what the statistics stage reads
/// and writes of one item needs more bindings than the device has.
pub(crate) fn check_items(
    spec: &LossSpec,
    layout: &Layout,
    limits: &wgpu::Limits,
    variant: Variant,
) -> Result<(), Error> {
    let of_dispatch = DispatchLimits::new(limits, layout.statistics_bindings(), variant);
    let largest = of_dispatch.bindings.largest;
    for (index, head) in spec.heads.iter().enumerate() {
        let tensors = tensors::item_bytes(head);
        // each by itself, or all side by side in one buffer
        let one = tensors.iter().map(|&bytes| windows(bytes, largest).1).max().unwrap_or(0);
        let all = tensors.iter().sum::<u64>().div_ceil(largest.max(1));
        let least = one.max(u32::try_from(all).unwrap_or(u32::MAX / 8));
        if least > of_dispatch.storage_buffers {
            return Err(too_many_bindings(index, least, of_dispatch));
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
    let bindings =
        |run: &Range<u32>| Draft::default().with(head, run, of_items(run), limits).map(|draft| draft.bound.count());
    let most_items = limits.logits / logits(&of_items(&(0..1))).max(1);
    let least_runs = u64::from(items).div_ceil(most_items.max(1));
    for runs in u32::try_from(least_runs).unwrap_or(items)..=items {
        let length = items.div_ceil(runs);
        let runs: Vec<_> = (0..items).step_by(length as usize).map(|first| first..items.min(first + length)).collect();
        // too far apart is too much as well: an item may be near enough
        if runs.iter().all(|run| bindings(run).is_ok_and(|count| count <= limits.storage_buffers)) {
            return Ok(runs);
        }
    }
    let mut most = 0;
    for item in 0..items {
        most = most.max(bindings(&(item..item + 1))?);
    }
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
        // where a tensor begins in its binding is in the table, not in the text
        heads.iter_mut().flat_map(|head| head.slots.values_mut()).for_each(|(_, first)| *first = 0);
        let bindings = self.bound.bindings.iter().map(|binding| binding.kind).collect();
        DispatchText { heads, slots: self.bound.slots.clone(), bindings }
    }

    /// The callers' tensors in each binding, window by window: the index of the head, and which of its tensors.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = Vec<(usize, Tensor)>> {
        self.bound.bindings.iter().zip(0..).flat_map(|(binding, index)| {
            let here = |slot: u32| self.bound.slots[slot as usize].binding == index;
            let of_head = |head: &HeadSlots| {
                let roles = head.slots.iter().filter(|(_, (slot, _))| here(*slot)).flat_map(|(role, _)| role.tensors());
                roles.map(|tensor| (head.head, *tensor)).collect::<Vec<_>>()
            };
            let tensors: Vec<_> = self.heads.iter().flat_map(of_head).collect();
            std::iter::repeat_n(tensors, binding.kind.windows as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::bindings::windows;

    #[test]
    fn a_tensor_of_four_gibibytes_comes_in_windows_whatever_a_device_states() {
        let limits = wgpu::Limits { max_storage_buffer_binding_size: 14 << 30, ..wgpu::Limits::default() };
        let largest = largest_binding(&limits);
        assert!(largest < 1 << 32, "{largest}");
        let (window, count) = windows(5 << 30, largest);
        let bytes = 4 << window;
        assert!(count > 1 && bytes <= largest && bytes * u64::from(count) >= 5 << 30, "{count} of {bytes} bytes");
        assert_eq!(windows(largest, largest), (31, 1));
    }
}
