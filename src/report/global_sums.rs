//! The sums over the items of a rank, for a batch over several machines: added up over the ranks between combine and
//! finish.

use super::pending::{Arrives, Mailbox, Pending};
use crate::error::{Bound, Error};
use crate::gpu::device::checked;
use crate::layout::heads::Heads;
use crate::layout::{HeadLayout, words};
use crate::spec::Head;

/// A rank's sums over its items: a few numbers per class, whatever the volume. Added up over all ranks, they determine
/// the loss of the whole batch.
///
/// Each rank reads its own ([`Step::global_sums`](crate::Step::global_sums)), adds both lists up over all ranks,
/// element by element, with the trainer's collective (`MPI_Allreduce`, NCCL, …), and writes the result back
/// ([`Step::set_global_sums`](crate::Step::set_global_sums)). The lists have the same length on all ranks where their
/// plans differ in the number of items alone.
///
/// For each head, in the order of the specification, with C classes:
///
/// | `sums` | |
/// |---|---|
/// | C | I, over the rank's items |
/// | C | P |
/// | C | T, where the target is probabilities or the head has a `weight_map` |
/// | 1 | Σ m ℓ, the numerator of the pixel term; with `sum_of_item_means` the sum of the means of the rank's items |
/// | 1 | Σ m |
/// | 1 | the sum of the overlap terms of the rank's items; without meaning with `batch` |
///
/// | `counts` | |
/// |---|---|
/// | C | T, where it is not in `sums`: voxels of the class |
/// | 3 C | TP of each class, FP, FN, where the head has `hard_counts` |
/// | 1 | voxels that counted |
/// | 1 | voxels out of range |
/// | 1 | voxels with a logit that is not finite |
/// | 1 | items |
/// | 1 | items that take part in a mean over items: those that no sample mask leaves out |
///
/// Sums of integers are exact in any order. The collective decides the order in which f32 are added: where that is
/// fixed, the result is repeatable bit for bit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GlobalSums {
    /// Sums over voxels and items.
    pub sums: Vec<f32>,
    /// Counts of voxels and items. Those of one rank fit in 32 bits. Their sums must too; in 64 bits a sum that does
    /// not is an error instead of an overflow.
    pub counts: Vec<u64>,
}

/// The kind of a word of a head's global sums; the words are listed in combine.wgsl.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Count,
    /// Not a sum: a part of the first voxel out of range.
    Local,
}

/// The kinds of the words behind those of the classes.
const TAIL: [Kind; words::GLOBAL_WORDS as usize] = {
    let mut kinds = [Kind::Count; words::GLOBAL_WORDS as usize];
    kinds[words::PIXEL_SUM as usize] = Kind::Sum;
    kinds[words::MASS as usize] = Kind::Sum;
    kinds[words::OVERLAP_SUM as usize] = Kind::Sum;
    kinds[words::FIRST_ITEM as usize] = Kind::Local;
    kinds[words::FIRST_VOXEL as usize] = Kind::Local;
    kinds
};

fn kinds(head: &Head, layout: &HeadLayout) -> Vec<Kind> {
    let classes = head.classes();
    let of_class = |column: usize| match column / classes {
        0 | 1 => Kind::Sum,
        2 if !head.t_is_count() => Kind::Sum,
        _ => Kind::Count,
    };
    (0..layout.class_columns as usize).map(of_class).chain(TAIL).collect()
}

/// A rank's sums on their way to the host.
pub type PendingGlobalSums = Pending<GlobalSums>;

impl Arrives for GlobalSums {
    fn from_words(mut all_words: &[u32], of: &Heads) -> Result<Self, Error> {
        let mut all = Self::default();
        for (head, layout) in of.spec.heads.iter().zip(&of.layout.heads) {
            let (of_head, rest) = all_words.split_at(layout.global_words() as usize);
            all_words = rest;
            for (kind, &word) in kinds(head, layout).into_iter().zip(of_head) {
                match kind {
                    Kind::Sum => all.sums.push(f32::from_bits(word)),
                    Kind::Count => all.counts.push(word.into()),
                    Kind::Local => {}
                }
            }
        }
        Ok(all)
    }

    fn lost(message: String) -> Error {
        Error::GlobalSumsLost { message }
    }

    fn unread(ring: usize) -> Error {
        Error::GlobalSumsUnread { ring }
    }
}

impl Mailbox<GlobalSums> {
    /// Encodes the copy of a step's sums to a staging buffer.
    pub(crate) fn encode(
        &self,
        statistics: &wgpu::Buffer,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<PendingGlobalSums, Error> {
        let heads = &self.of().layout.heads;
        self.copy(encoder, |encoder, staging| {
            let mut to = 0;
            for layout in heads {
                let bytes = u64::from(layout.global_words()) * 4;
                let from = u64::from(layout.statistics) * 4;
                encoder.copy_buffer_to_buffer(statistics, from, staging, to, bytes);
                to += bytes;
            }
        })
    }

    /// Writes the sums of all ranks over a step's own.
    pub(crate) fn write(&self, queue: &wgpu::Queue, statistics: &wgpu::Buffer, all: &GlobalSums) -> Result<(), Error> {
        let of = self.of();
        let heads = || of.spec.heads.iter().zip(&of.layout.heads);
        let length =
            |wanted| heads().flat_map(|(head, layout)| kinds(head, layout)).filter(|kind| *kind == wanted).count();
        for (list, expected, given) in
            [("sums", length(Kind::Sum), all.sums.len()), ("counts", length(Kind::Count), all.counts.len())]
        {
            if expected != given {
                return Err(Error::GlobalSums { list, expected, given });
            }
        }
        let (mut sums, mut counts) = (all.sums.iter(), all.counts.iter());
        // runs of adjacent words, and where each begins
        let mut runs: Vec<(u32, Vec<u32>)> = Vec::new();
        for (index, (head, layout)) in heads().enumerate() {
            let items = (layout.class_columns + words::ITEMS) as usize;
            let mut gap = true;
            for ((at, kind), place) in kinds(head, layout).into_iter().enumerate().zip(layout.statistics..) {
                let word = match kind {
                    Kind::Sum => sums.next().map(|sum| sum.to_bits()),
                    Kind::Count => {
                        counts.next().map(|&count| count_word(index, head, count, at == items)).transpose()?
                    }
                    Kind::Local => None,
                };
                match (word, runs.last_mut()) {
                    (Some(word), Some((_, run))) if !gap => run.push(word),
                    (Some(word), _) => runs.push((place, vec![word])),
                    (None, _) => {}
                }
                gap = word.is_none();
            }
        }
        checked(&self.device, "writing the global sums", || {
            for (first, run) in &runs {
                let bytes = bytemuck::cast_slice(run);
                queue.write_buffer(statistics, u64::from(*first) * 4, bytes);
            }
        })
    }
}

/// A count as a word of the device. Where it is the number of items, the number of their voxels must fit as well.
fn count_word(index: usize, head: &Head, count: u64, items: bool) -> Result<u32, Error> {
    let needed = if items { count.saturating_mul(head.voxels() as u64) } else { count };
    u32::try_from(needed).and(u32::try_from(count)).map_err(|_| Error::Limit {
        head: Some(index),
        what: "the number of voxels of all ranks".to_owned(),
        bound: Bound::Count,
        needed,
        available: u32::MAX.into(),
    })
}
