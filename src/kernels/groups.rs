//! Heads that share text.

use std::collections::{BTreeMap, BTreeSet};

use crate::layout::slots::{DispatchText, HeadSlots, Role};
use crate::layout::variant::{Split, Variant};
use crate::layout::{Arithmetic, HeadLayout};

/// Heads that share text: their arithmetic, and the head where it has text of its own, so that its loads and stores need no
/// switch over the slots of others. A head has that where it is more than a sixteenth of the dispatch's work, and more than
/// half of the work that is left without the larger heads.
pub(super) type Group = (Arithmetic, Option<usize>);

/// The groups of a dispatch.
pub(crate) struct Groups<'a> {
    /// The group and the slots of each head, in the order of the dispatch.
    of_heads: Vec<(Group, &'a HeadSlots)>,
    pub(super) numbers: BTreeMap<Group, u32>,
}

impl<'a> Groups<'a> {
    pub(crate) fn new(dispatch: &'a DispatchText, heads: &[HeadLayout]) -> Self {
        let work = |slots: &HeadSlots| slots.items.len() as u64 * u64::from(heads[slots.head].tiles);
        let all: u64 = dispatch.heads.iter().map(work).sum();
        let group = |slots: &HeadSlots| {
            let mine = work(slots);
            let left: u64 = dispatch.heads.iter().map(work).filter(|&other| other <= mine).sum();
            let most = dispatch.heads.len() > 1 && 2 * mine > left && 16 * mine > all;
            (heads[slots.head].arithmetic.clone(), most.then_some(slots.head))
        };
        let of_heads: Vec<_> = dispatch.heads.iter().map(|slots| (group(slots), slots)).collect();
        let mut numbers: BTreeMap<Group, u32> = of_heads.iter().map(|(group, _)| (group.clone(), 0)).collect();
        numbers.values_mut().zip(0..).for_each(|(number, index)| *number = index);
        Self { of_heads, numbers }
    }

    /// The number of the group of the head at `position` in the dispatch.
    pub(crate) fn number(&self, position: usize) -> u32 {
        self.numbers[&self.of_heads[position].0]
    }

    /// The slots of a group's heads in the list of `role`.
    pub(super) fn slots(&self, group: &Group, role: Role) -> BTreeSet<u32> {
        let mine = self.of_heads.iter().filter(|(of_head, _)| of_head == group);
        mine.filter_map(|(_, slots)| slots.slots.get(&role)).map(|(slot, _)| *slot).collect()
    }

    /// How a group holds its classes. A group whose logits lie in several slots has one load per slot and class held: it
    /// holds fewer classes, or the driver would take long to compile. With channels last, how classes are held is known before
    /// slots are: whether a load is wide depends on it.
    pub(super) fn split(&self, group: &Group, variant: Variant, gradient: bool) -> Option<Split> {
        let several = self.slots(group, Role::Logits).len() > 1 && !group.0.is("channels_last");
        let variant = if several { variant.for_several_slots() } else { variant };
        let split = if gradient { Variant::split_of_gradient } else { Variant::split };
        split(variant, group.0.classes, group.0.is("channels_last"))
    }
}
