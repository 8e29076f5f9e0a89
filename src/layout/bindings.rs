//! Which tensors of a dispatch share a binding.
//!
//! WebGPU lets no two bindings of a dispatch overlap where one may be written, and a buffer that a dispatch writes to is
//! bound `read_write` wherever it is bound. An offset is rounded down to the device's alignment, so the bindings of two
//! tensors may overlap although the tensors do not. So in a buffer that is written, tensors whose bindings would overlap share
//! one, whatever their roles and types. Others share where that gains, or where a dispatch would have too many:
//!
//! 1. tensors of one role and type, if no two of these bindings overlap, or nothing in the buffer is written;
//! 2. else, of several heads that load and store alike, as many neighbours as the largest binding holds: their text then has
//!    no switch over bindings;
//! 3. else each tensor by itself, but for those that would overlap;
//! 4. where that is more than the device has, as many neighbours as the largest binding holds.
//!
//! What is larger than that is bound in windows.

use std::collections::HashMap;
use std::ops::Range;

use super::slots::{BindingKind, Role, SlotKind, Unit};
use super::tensors::Extent;

/// A tensor of a dispatch, or a run of its items.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The index of its head in the dispatch.
    pub head: usize,
    pub role: Role,
    pub extent: Extent,
}

/// A range of a buffer that is bound once, or in windows.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub kind: BindingKind,
    pub buffer: wgpu::Buffer,
    /// From a multiple of the device's offset alignment to a whole unit.
    pub bytes: Range<u64>,
}

impl Binding {
    /// The bytes of window `index`.
    pub(crate) fn window_bytes(&self, index: u32) -> Range<u64> {
        let length = 4_u64 << self.kind.window;
        let first = self.bytes.start.saturating_add(u64::from(index) * length);
        first..self.bytes.end.min(first + length)
    }
}

/// The bindings of a dispatch, the slots in them, and of each piece its slot and its first element in the binding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bound {
    pub bindings: Vec<Binding>,
    pub slots: Vec<SlotKind>,
    pub places: Vec<(u32, u32)>,
}

impl Bound {
    /// Storage bindings.
    pub(crate) fn count(&self) -> u32 {
        self.bindings.iter().map(|binding| binding.kind.windows).sum()
    }
}

/// What bindings may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BindingLimits {
    pub largest: u64,
    pub alignment: u64,
    /// Whether four elements may be loaded at once.
    pub wide: bool,
}

/// The most elements of a binding that several tensors share: indices, and steps past an end, stay far below 2^32.
const MOST_SHARED_ELEMENTS: u64 = 1 << 31;

/// Tensors that share a binding, by their indices among the pieces, and the bytes that they cover.
#[derive(Clone, Debug)]
struct Group {
    bytes: Range<u64>,
    pieces: Vec<usize>,
}

impl Group {
    fn with(&self, other: &Self) -> Self {
        let bytes = self.bytes.start.min(other.bytes.start)..self.bytes.end.max(other.bytes.end);
        Self { bytes, pieces: [&self.pieces[..], &other.pieces].concat() }
    }

    fn length(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    /// Whether several tensors may share it: every element has an index.
    fn has_indices(&self, pieces: &[Piece]) -> bool {
        let least = self.pieces.iter().map(|&piece| pieces[piece].extent.format.bytes()).min();
        self.pieces.len() == 1 || self.length() / least.unwrap_or(1) <= MOST_SHARED_ELEMENTS
    }
}

/// Tensors that must share a binding, and lie too far apart for that: the index of one that could lie elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooFarApart {
    pub piece: usize,
}

/// Binds the tensors of a dispatch in no more than `most` bindings if that is possible; else in few, and the caller sees
/// that they are too many.
pub(crate) fn bind(pieces: &[Piece], most: u32, limits: BindingLimits) -> Result<Bound, TooFarApart> {
    let apart = bound(pieces, false, limits)?;
    if apart.count() <= most { Ok(apart) } else { bound(pieces, true, limits) }
}

/// `few`: as few bindings as there can be, instead of as many as the text is fastest with.
fn bound(pieces: &[Piece], few: bool, limits: BindingLimits) -> Result<Bound, TooFarApart> {
    let mut bound = Bound { places: vec![(0, 0); pieces.len()], ..Bound::default() };
    let mut buffers: Vec<&wgpu::Buffer> = Vec::new();
    for piece in pieces {
        if !buffers.contains(&&piece.extent.buffer) {
            buffers.push(&piece.extent.buffer);
        }
    }
    for buffer in buffers {
        let here: Vec<usize> = (0..pieces.len()).filter(|&piece| pieces[piece].extent.buffer == *buffer).collect();
        let written = here.iter().any(|&piece| pieces[piece].role.is_written());
        for group in groups(pieces, &here, few, written, limits)? {
            bound.push(pieces, &group, buffer, written, limits);
        }
    }
    Ok(bound)
}

/// The groups of a buffer's tensors.
fn groups(
    pieces: &[Piece],
    here: &[usize],
    few: bool,
    written: bool,
    limits: BindingLimits,
) -> Result<Vec<Group>, TooFarApart> {
    let alone = |&piece: &usize| {
        let bytes = &pieces[piece].extent.bytes;
        let bytes = bytes.start - bytes.start % limits.alignment..bytes.end.next_multiple_of(4);
        Group { bytes, pieces: vec![piece] }
    };
    let fits = |group: &Group| group.length() <= limits.largest && group.has_indices(pieces);
    let mut like: Vec<Group> = Vec::new();
    for piece in here {
        let this = alone(piece);
        let kind = |piece: usize| (pieces[piece].role, pieces[piece].extent.format);
        let shared = like.iter_mut().filter(|group| kind(group.pieces[0]) == kind(*piece)).find_map(|group| {
            let both = group.with(&this);
            (group.bytes == this.bytes || fits(&both)).then_some((group, both))
        });
        match shared {
            Some((group, both)) => *group = both,
            None => like.push(this),
        }
    }
    let overlap = |one: &Group, next: &Group| next.bytes.start < one.bytes.end;
    let mut sorted = like.clone();
    sorted.sort_by_key(|group| group.bytes.start);
    let like_is_allowed = !written || !sorted.windows(2).any(|pair| overlap(&pair[0], &pair[1]));
    if like_is_allowed && !few {
        return Ok(like);
    }
    // several tensors of a kind, by themselves, are a switch in each load
    let few = few || like.len() < here.len() && loses_nothing(pieces, here, limits);
    let mut each: Vec<Group> = here.iter().map(alone).collect();
    each.sort_by_key(|group| group.bytes.start);
    let mut joined: Vec<Group> = Vec::new();
    for group in each {
        match joined.last_mut() {
            Some(last) if overlap(last, &group) && (written || fits(&last.with(&group))) => {
                let both = last.with(&group);
                if !both.has_indices(pieces) {
                    return Err(TooFarApart { piece: group.pieces[0] });
                }
                *last = both;
            }
            Some(last) if few && fits(&last.with(&group)) => *last = last.with(&group),
            _ => joined.push(group),
        }
    }
    let count = |groups: &[Group]| groups.iter().map(|group| windows(group.length(), limits.largest).1).sum::<u32>();
    Ok(if like_is_allowed && count(&like) <= count(&joined) { like } else { joined })
}

/// Whether tensors are loaded and stored in one binding as they are alone: those of a kind all wide or none, and all that is
/// written in one unit.
fn loses_nothing(pieces: &[Piece], here: &[usize], limits: BindingLimits) -> bool {
    let (mut of_kinds, mut written) = (HashMap::new(), None);
    here.iter().all(|&piece| {
        let Piece { role, extent, .. } = &pieces[piece];
        let slot = SlotKind { role: *role, format: extent.format, wide: extent.wide && limits.wide, binding: 0 };
        let as_others = *of_kinds.entry((slot.role, slot.format)).or_insert(slot.wide) == slot.wide;
        let as_written = !slot.role.is_written() || *written.get_or_insert(slot.unit()) == slot.unit();
        as_others && as_written
    })
}

impl Bound {
    fn push(&mut self, pieces: &[Piece], group: &Group, buffer: &wgpu::Buffer, written: bool, limits: BindingLimits) {
        let binding = to_u32(self.bindings.len());
        let first_slot = self.slots.len();
        for &index in &group.pieces {
            let Piece { role, extent, .. } = &pieces[index];
            let Extent { format, wide, .. } = *extent;
            let like = |slot: &SlotKind| (slot.role, slot.format) == (*role, format);
            let slot = self.slots[first_slot..].iter().position(like).map_or(self.slots.len(), |at| first_slot + at);
            if slot == self.slots.len() {
                self.slots.push(SlotKind { role: *role, format, wide: limits.wide, binding });
            }
            self.slots[slot].wide &= wide;
            let element = (extent.bytes.start - group.bytes.start) / format.bytes();
            // less than the alignment where a tensor is alone, and checked where it is not
            let first = u32::try_from(element).expect("a shared binding has few elements");
            self.places[index] = (to_u32(slot), first);
        }
        let mut unit = Unit::of_slots(self.slots[first_slot..].iter());
        // the next binding begins at a multiple of the alignment, so behind the unit
        let end = |unit: Unit| group.bytes.end.next_multiple_of(unit.bytes());
        while end(unit) > buffer.size() {
            unit = if unit == Unit::Quad { Unit::Pair } else { Unit::Word };
        }
        let bytes = group.bytes.start..end(unit);
        let (window, windows) = windows(bytes.end - bytes.start, limits.largest);
        let kind = BindingKind { unit, window, windows, read_write: written };
        self.bindings.push(Binding { kind, buffer: buffer.clone(), bytes });
    }
}

/// log2 of the words of a window, and the number of windows, for a binding of `length` bytes.
pub(crate) fn windows(length: u64, largest: u64) -> (u32, u32) {
    if length <= largest {
        return (31, 1);
    }
    let window = (largest / 4).ilog2();
    (window, u32::try_from(length.div_ceil(4 << window)).unwrap_or(u32::MAX / 8))
}

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a dispatch has few slots")
}
