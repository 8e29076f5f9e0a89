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
//!
//! A caller whose tensors lie elsewhere in the same buffers each time binds whole buffers instead: where a tensor begins is then
//! in the table alone. A buffer that is written is one binding.

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
#[derive(Clone, Debug, PartialEq)]
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
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// The most elements of a binding that several tensors share.
    pub elements: u64,
    /// Buffers are bound whole where that is possible.
    pub whole: bool,
}

/// [`BindingLimits::elements`] of every device: indices, and steps past an end, stay far below 2^32.
pub(crate) const MOST_SHARED_ELEMENTS: u64 = 1 << 31;

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
    fn has_indices(&self, pieces: &[Piece], limits: BindingLimits) -> bool {
        let least = self.pieces.iter().map(|&piece| pieces[piece].extent.format.bytes()).min();
        self.pieces.len() == 1 || self.length() / least.unwrap_or(1) <= limits.elements
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
        let groups = match whole(pieces, &here, buffer, few || written, limits) {
            Some(groups) => groups,
            None => groups(pieces, &here, few, written, limits)?,
        };
        for group in groups {
            bound.push(pieces, &group, buffer, written, limits);
        }
    }
    Ok(bound)
}

/// The whole buffer for its tensors, for those of a kind or, `at_once`, for all; `None` where it is not to be bound whole, or
/// cannot.
fn whole(
    pieces: &[Piece],
    here: &[usize],
    buffer: &wgpu::Buffer,
    at_once: bool,
    limits: BindingLimits,
) -> Option<Vec<Group>> {
    let kind = |piece: usize| (pieces[piece].role, pieces[piece].extent.format);
    let bytes = 0..buffer.size() / 4 * 4;
    let mut groups: Vec<Group> = Vec::new();
    for &piece in here {
        match groups.iter_mut().find(|group| at_once || kind(group.pieces[0]) == kind(piece)) {
            Some(group) => group.pieces.push(piece),
            None => groups.push(Group { bytes: bytes.clone(), pieces: vec![piece] }),
        }
    }
    let has_indices = |group: &Group| {
        group.pieces.iter().all(|&piece| group.length() / pieces[piece].extent.format.bytes() <= limits.elements)
    };
    (limits.whole && bytes.end <= limits.largest && groups.iter().all(has_indices)).then_some(groups)
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
    let fits = |group: &Group| group.length() <= limits.largest && group.has_indices(pieces, limits);
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
                if !both.has_indices(pieces, limits) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::AdapterChoice;
    use crate::gpu::device::buffer;
    use crate::layout::tensors::Format;
    use crate::spec::{FloatType, LabelType};

    const F32: Format = Format::Float(FloatType::F32);
    const F16: Format = Format::Float(FloatType::F16);
    const U8: Format = Format::Integer(LabelType::U8);
    const LIMITS: BindingLimits =
        BindingLimits { largest: 1 << 20, alignment: 256, wide: true, elements: MOST_SHARED_ELEMENTS, whole: false };

    fn pool() -> wgpu::Buffer {
        let (device, _) = AdapterChoice::default().open().expect("an adapter");
        buffer(&device, "pool", 1 << 16, wgpu::BufferUsages::STORAGE)
    }

    /// Tensors of one head, or of as many as there are logits.
    fn pieces(buffer: &wgpu::Buffer, tensors: &[(Role, Format, Range<u64>)]) -> Vec<Piece> {
        let piece = |(role, format, bytes): &(Role, Format, Range<u64>)| {
            let wide = (bytes.start / format.bytes()).is_multiple_of(4);
            let extent = Extent { buffer: buffer.clone(), bytes: bytes.clone(), format: *format, wide };
            Piece { head: 0, role: *role, extent }
        };
        tensors.iter().map(piece).collect()
    }

    /// The unit and the bytes of each binding.
    fn bound(pieces: &[Piece], most: u32, limits: BindingLimits) -> Vec<(Unit, Range<u64>)> {
        let bound = bind(pieces, most, limits).expect("near enough");
        bound.bindings.into_iter().map(|binding| (binding.kind.unit, binding.bytes)).collect()
    }

    #[test]
    fn aligned_tensors_of_a_head_have_bindings_of_their_own_and_one_where_the_device_has_no_more() {
        let pool = pool();
        let (logits, labels, gradient) = (0..1024, 1024..1280, 1280..2304);
        let head = [(Role::Logits, F32, logits), (Role::Labels, U8, labels), (Role::Gradient, F32, gradient)];
        let head = pieces(&pool, &head);
        let own = [(Unit::Quad, 0..1024), (Unit::Word, 1024..1280), (Unit::Quad, 1280..2304)];
        assert_eq!(bound(&head, 3, LIMITS), own);
        assert_eq!(bound(&head, 2, LIMITS), [(Unit::Quad, 0..2304)]);
    }

    #[test]
    fn tensors_whose_bindings_would_overlap_share_one_and_the_others_do_not() {
        let pool = pool();
        // the labels begin in the last 256 bytes of the logits
        let tensors = [(Role::Logits, F32, 0..1040), (Role::Labels, U8, 1040..1300), (Role::Gradient, F32, 2048..3088)];
        let own = [(Unit::Quad, 0..1312), (Unit::Quad, 2048..3088)];
        assert_eq!(bound(&pieces(&pool, &tensors), 8, LIMITS), own);
        // nothing is written: bindings may overlap
        let read = [(Unit::Quad, 0..1040), (Unit::Word, 1024..1300)];
        assert_eq!(bound(&pieces(&pool, &tensors[..2]), 8, LIMITS), read);
    }

    #[test]
    fn a_buffer_that_is_bound_whole_has_the_same_bindings_wherever_its_tensors_lie() {
        let pool = pool();
        let whole = BindingLimits { whole: true, ..LIMITS };
        let read = |at: u64| {
            let tensors = [(Role::Logits, F32, at..at + 512), (Role::Labels, U8, at + 512..at + 640)];
            pieces(&pool, &tensors)
        };
        let written = |at: u64| [read(at), pieces(&pool, &[(Role::Gradient, F32, at + 1024..at + 1536)])].concat();
        let all = 0..1 << 18;
        for at in [0, 64, 4096] {
            assert_eq!(bound(&read(at), 8, whole), [(Unit::Quad, all.clone()), (Unit::Word, all.clone())]);
            assert_eq!(bound(&read(at), 1, whole), [(Unit::Quad, all.clone())], "where the device has no more");
            assert_eq!(bound(&written(at), 8, whole), [(Unit::Quad, all.clone())]);
            let places = bind(&written(at), 8, whole).expect("near enough").places;
            let at = u32::try_from(at).expect("small");
            assert_eq!(places, [(0, at / 4), (1, at + 512), (2, at / 4 + 256)]);
        }
        // a buffer that no binding holds is bound in parts
        let small = BindingLimits { largest: 1 << 12, ..whole };
        assert_eq!(bound(&read(64), 8, small), bound(&read(64), 8, BindingLimits { whole: false, ..small }));
    }

    #[test]
    fn a_gradient_of_halves_that_share_words_makes_its_binding_atomic() {
        let pool = pool();
        let tensors = [(Role::Logits, F16, 2..514), (Role::Gradient, F16, 514..1026), (Role::Labels, U8, 2048..2304)];
        let own = [(Unit::AtomicWord, 0..1028), (Unit::Word, 2048..2304)];
        assert_eq!(bound(&pieces(&pool, &tensors), 8, LIMITS), own);
    }

    #[test]
    fn heads_that_load_alike_share_a_binding_and_unlike_ones_do_not() {
        let pool = pool();
        let head = |first: u64, format: Format| {
            [(Role::Logits, format, first..first + 512), (Role::Gradient, format, first + 512..first + 1024)]
        };
        let alike = [head(0, F32), head(1024, F32)].concat();
        assert_eq!(bound(&pieces(&pool, &alike), 8, LIMITS), [(Unit::Quad, 0..2048)]);
        let unlike = [head(0, F32), head(1024, F16)].concat();
        assert_eq!(bound(&pieces(&pool, &unlike), 8, LIMITS).len(), 4);
        // where the device has too few, the narrowest that is written decides
        assert_eq!(bound(&pieces(&pool, &unlike), 3, LIMITS), [(Unit::Pair, 0..2048)]);
    }

    #[test]
    fn a_shared_range_beyond_the_largest_binding_comes_in_windows() {
        let pool = pool();
        let tensors = [(Role::Logits, F32, 4..40_004), (Role::Gradient, F32, 40_004..80_004)];
        let small = BindingLimits { largest: 1 << 14, ..LIMITS };
        let bound = bind(&pieces(&pool, &tensors), 8, small).expect("near enough");
        let [binding] = &bound.bindings[..] else { panic!("{bound:?}") };
        assert_eq!((binding.bytes.clone(), binding.kind.window, binding.kind.windows), (0..80_004, 12, 5));
        assert_eq!(bound.count(), 5);
        assert_eq!(binding.window_bytes(4), 65_536..80_004);
        assert_eq!(bound.places, [(0, 1), (1, 10_001)]);
    }

    #[test]
    fn tensors_that_must_share_a_binding_of_too_many_elements_are_refused() {
        let pool = pool();
        let tensors = [(Role::Logits, F32, 4..40_004), (Role::Gradient, F32, 40_004..80_004)];
        let few = BindingLimits { elements: 20_000, ..LIMITS };
        let refused = bind(&pieces(&pool, &tensors), 8, few).expect_err("too many elements");
        assert_eq!(refused.piece, 1);
        let apart = [(Role::Logits, F32, 4..40_004), (Role::Gradient, F32, 40_192..80_192)];
        assert_eq!(bound(&pieces(&pool, &apart), 8, few).len(), 2);
    }
}
