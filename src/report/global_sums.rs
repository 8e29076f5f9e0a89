//! The sums over the batch, for a batch over several machines: to be added up over the ranks between combine and finish.

use super::pending::{Arrives, Heads, Mailbox, Pending};
use crate::error::{Bound, Error};
use crate::gpu::device::checked;
use crate::layout::{HeadLayout, words};
use crate::spec::Head;

/// What a rank knows of the whole batch: a few numbers per class, whatever the volume. The loss of the whole batch is the loss
/// of their sums over all ranks.
///
/// A rank reads its own ([`Step::global_sums`](crate::Step::global_sums)), adds both lists up over all ranks, element by
/// element, with a collective of its own (`MPI_Allreduce`, NCCL, …), and writes them back
/// ([`Step::set_global_sums`](crate::Step::set_global_sums)). The lists of all ranks are of the same length where their plans
/// differ in the number of items alone.
///
/// For each head, in the order of the specification, C being its classes:
///
/// | `sums` | |
/// |---|---|
/// | C | I, over the rank's items |
/// | C | P |
/// | C | T, where the target is probabilities or the head has a `weight_map` |
/// | 1 | Σ m ℓ, the numerator of the pixel term; with `sum_of_item_means` the means of the rank's items, added up |
/// | 1 | Σ m |
/// | 1 | the overlap terms of the rank's items, added up; without meaning with `batch` |
///
/// | `counts` | |
/// |---|---|
/// | C | T, where it is no part of `sums`: voxels of the class |
/// | 3 C | TP of each class, FP, FN, where the head has `hard_counts` |
/// | 1 | voxels that counted |
/// | 1 | voxels out of range |
/// | 1 | voxels with a logit that is not finite |
/// | 1 | items |
/// | 1 | items that take part in a mean over items: all but those that a sample mask leaves out |
///
/// Integers are exact in any order. The order in which f32 are added is the collective's: where it is fixed, the bits are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GlobalSums {
    /// Sums over voxels and items.
    pub sums: Vec<f32>,
    /// Integers. One rank's fit in 32 bits, and so must the sum, but a 64-bit sum says where it does not.
    pub counts: Vec<u64>,
}

/// What a word of a head's global sums is; the words are listed in combine.wgsl.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sum,
    Count,
    /// No sum: the first voxel out of range.
    Local,
}

/// What the words that belong to no class are, behind those that do.
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

/// A rank's sums on their way.
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
    /// Encodes the copy of a step's sums.
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
        // runs of words without a gap, and where each begins
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

/// A count as the word that it is on the device. Where it is the number of items, their voxels are a count as well.
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
