//! How many iterations the loops of an invocation run. Mesa's software driver ends all loops of a shader after 65,535
//! iterations in all, without an error, so on software drivers a plan stays well below that.

use super::driver::Driver;
use super::variant::Variant;
use super::words::COMBINE_RUN;
use crate::error::{Bound, Error};
use crate::spec::{HardCounts, Head, LossSpec, Reduction};

/// Half of what the driver allows, since the counts here leave small loops out.
const MOST: u64 = 1 << 15;

impl Variant {
    /// This variant, with shorter tiles for heads of many classes, more folding invocations for many items, and a shorter
    /// chunk where hard counts double the sums of a stream: of twelve subgroup sums in its loop SwiftShader's compiler makes
    /// kernels in 1 s, of eighteen in 10 s, of twenty-four not in 2 minutes.
    pub(crate) fn within_iterations(mut self, spec: &LossSpec, driver: &Driver) -> Result<Self, Error> {
        if !driver.is_software() {
            return Ok(self);
        }
        let streams_counts = |head: &Head| {
            head.hard_counts != HardCounts::None
                && self.split(u32::try_from(head.classes()).unwrap_or(u32::MAX), head.channels_last()).is_none()
        };
        if self.subgroups && spec.heads.iter().any(streams_counts) {
            self.chunk = self.chunk.div_ceil(2);
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

    /// Iterations of statistics and gradient: over the quads of a tile, and where classes stream, over the chunks of each
    /// quad, with the sums of each chunk over the workgroup.
    fn of_tile(self, head: &Head) -> u64 {
        let classes = u32::try_from(head.classes()).unwrap_or(u32::MAX);
        let chunks = u64::from(classes.div_ceil(self.chunk));
        let sums = if head.hard_counts == HardCounts::None { 1 } else { 2 };
        let met = sums * u64::from(self.chunk.div_ceil(self.invocations)) * (1 + 3 * u64::from(self.invocations));
        let split = self.split(classes, head.channels_last());
        let quads = u64::from(self.tile / 4 * split.map_or(1, |split| split.lanes)).div_ceil(self.invocations.into());
        if split.is_none() { quads * (1 + chunks * (4 + met)) } else { quads + chunks * met }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::defaults::INTEGRATED;
    use crate::spec::Loss;

    #[test]
    fn a_software_driver_streams_half_a_chunk_of_hard_counts_by_subgroups() {
        let driver = |kind| Driver { kind, limits: wgpu::Limits::default(), subgroups: true, subgroup_size: 4 };
        let chunk = |kind, classes: usize, counts| {
            let spec = LossSpec::new().head(Head::new([1, classes, 64], Loss::monai_dice_ce()).hard_counts(counts));
            let variant = Variant { split_classes: 0, chunk: 4, ..INTEGRATED };
            variant.within_iterations(&spec, &driver(kind)).expect("it fits").chunk
        };
        assert_eq!(chunk(wgpu::DeviceType::Cpu, 17, HardCounts::Batch), 2);
        // neither without counts, nor of few classes, nor on hardware
        assert_eq!(chunk(wgpu::DeviceType::Cpu, 17, HardCounts::None), 4);
        assert_eq!(chunk(wgpu::DeviceType::Cpu, 4, HardCounts::Batch), 4);
        assert_eq!(chunk(wgpu::DeviceType::DiscreteGpu, 17, HardCounts::Batch), 4);
    }
}
