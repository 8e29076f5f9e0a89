//! How many iterations the loops of an invocation run. Mesa's software driver ends all loops of a shader after 65,535
//! iterations in all, without an error, so on software drivers a plan stays well below that.

use super::driver::Driver;
use super::variant::{STREAM_QUADS, Split, Variant};
use super::words::COMBINE_RUN;
use crate::error::{Bound, Error};
use crate::spec::{HardCounts, Head, LossSpec, Reduction};

/// Half of what the driver allows, since the counts here leave small loops out.
const MOST: u64 = 1 << 15;

impl Variant {
    /// This variant, with shorter tiles for heads of many classes, and more folding invocations for many items.
    pub(crate) fn within_iterations(mut self, spec: &LossSpec, driver: &Driver) -> Result<Self, Error> {
        if !driver.is_software() {
            return Ok(self);
        }
        let refuse = |what: &str, needed| {
            Err(Error::Limit {
                head: None,
                what: what.to_owned(),
                bound: Bound::LoopIterations,
                needed,
                available: MOST,
            })
        };
        let of_tile = |variant: Self| spec.heads.iter().map(|head| variant.of_tile(head)).max().unwrap_or(0);
        while of_tile(self) > MOST && self.tile.is_multiple_of(8 * self.invocations) {
            self.tile /= 2;
        }
        if of_tile(self) > MOST {
            return refuse("a tile", of_tile(self));
        }
        let most = driver.limits.max_compute_invocations_per_workgroup;
        while self.of_items(spec) > MOST && 2 * self.fold_invocations <= most {
            self.fold_invocations *= 2;
        }
        if self.of_items(spec) > MOST {
            return refuse("combining the items", self.of_items(spec));
        }
        Ok(self)
    }

    /// Iterations of statistics and gradient: over the quads of a tile, and where classes stream, over the classes of each block,
    /// with the sums of each chunk over the workgroup.
    fn of_tile(self, head: &Head) -> u64 {
        let classes = u32::try_from(head.classes()).unwrap_or(u32::MAX);
        let sums = if head.hard_counts == HardCounts::None { 1 } else { 2 };
        let chunks = sums * u64::from(classes.div_ceil(self.chunk));
        let met = u64::from(self.chunk.div_ceil(self.invocations)) * (1 + 3 * u64::from(self.invocations));
        let of_split = |split: Option<Split>| {
            let quads =
                u64::from(self.tile / 4 * split.map_or(1, |split| split.lanes)).div_ceil(self.invocations.into());
            if split.is_some() {
                return quads + chunks * met;
            }
            // each block reads every class up to three times
            quads.div_ceil(STREAM_QUADS.into()) * (1 + 3 * u64::from(classes) + chunks * met)
        };
        let last = head.channels_last();
        of_split(self.split(classes, last)).max(of_split(self.split_of_gradient(classes, last)))
    }

    /// Iterations of combine, or of finish over all heads: the larger.
    fn of_items(self, spec: &LossSpec) -> u64 {
        let fold = u64::from(self.fold_invocations);
        let of_head = |head: &Head| {
            let (items, classes) = (head.items() as u64, head.classes() as u64);
            let tiles = (head.voxels() as u64).div_ceil(self.tile.into());
            let few = items.div_ceil(fold) * (2 + tiles);
            let many = items * (2 * tiles.div_ceil(fold) + u64::from(self.fold_invocations.ilog2()) + 2);
            let combine = if tiles <= COMBINE_RUN.into() { few } else { many };
            let counts = if head.hard_counts == HardCounts::Item { items * (3 * classes + 1) } else { 0 };
            let means = head.loss.pixel.as_ref().is_some_and(|pixel| pixel.reduction == Reduction::SumOfItemMeans);
            let means = if means { items * (1 + classes) } else { 0 };
            let finish = (items * (2 + 4 * classes) + counts + means + 4 * classes).div_ceil(fold);
            (combine, finish)
        };
        let heads: Vec<_> = spec.heads.iter().map(of_head).collect();
        let combine = heads.iter().map(|(combine, _)| *combine).max().unwrap_or(0);
        combine.max(heads.iter().map(|(_, finish)| finish).sum())
    }
}
