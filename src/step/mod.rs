//! What happens each iteration: encode, and nothing else. No allocation, no compilation, no wait, no readback.

mod bind;

use std::sync::Arc;

use crate::error::Error;
use crate::gpu::device::checked;
use crate::gpu::dispatch::{Dispatch, Recipe};
use crate::plan::Plan;
use crate::plan::stages::HeadStages;
use crate::report::{GlobalSums, Mailbox, PendingGlobalSums, PendingReport};

/// Labels of compute passes.
const STATISTICS: &str = "segloss: statistics";
const COMBINE: &str = "segloss: combine";
const FINISH: &str = "segloss: finish";
const GRADIENT: &str = "segloss: gradient";

/// Where a step encodes: the caller's command encoder, or a compute pass that the caller has begun.
pub trait Commands: sealed::Sealed {
    #[doc(hidden)]
    fn in_pass(&mut self, label: &str, encode: &mut dyn FnMut(&mut wgpu::ComputePass<'_>));
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for wgpu::CommandEncoder {}
    impl Sealed for wgpu::ComputePass<'_> {}
}

impl Commands for wgpu::CommandEncoder {
    fn in_pass(&mut self, label: &str, encode: &mut dyn FnMut(&mut wgpu::ComputePass<'_>)) {
        let descriptor = wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes: None };
        encode(&mut self.begin_compute_pass(&descriptor));
    }
}

impl Commands for wgpu::ComputePass<'_> {
    fn in_pass(&mut self, label: &str, encode: &mut dyn FnMut(&mut wgpu::ComputePass<'_>)) {
        self.push_debug_group(label);
        encode(self);
        self.pop_debug_group();
    }
}

/// A plan bound to tensors: one forward and backward, encoded into the caller's encoder or compute pass.
///
/// A step has coefficients and a report of its own, so that steps of one plan run in any order: two batches forward, then
/// two backward. The same step's forward twice is the later one's.
#[derive(Debug)]
pub struct Step {
    pub(crate) plan: Plan,
    pub(crate) statistics: Vec<Dispatch>,
    pub(crate) stages: Arc<HeadStages>,
    pub(crate) gradient: Vec<Dispatch>,
}

/// One dispatch of a step: work for an encoder of its own.
#[derive(Clone, Copy, Debug)]
pub struct StepPart<'a> {
    stage: &'static str,
    dispatch: &'a Dispatch,
}

impl StepPart<'_> {
    /// Encodes the dispatch.
    pub fn encode(&self, commands: &mut impl Commands) {
        commands.in_pass(self.stage, &mut |pass| self.dispatch.encode(pass));
    }
}

impl Step {
    /// Encodes statistics, combine and finish: after it the report and the coefficients of the gradient are on the device.
    pub fn forward(&self, commands: &mut impl Commands) {
        commands.in_pass("segloss: forward", &mut |pass| {
            self.forward_dispatches().for_each(|(_, dispatch)| dispatch.encode(pass));
        });
    }

    /// Encodes the gradient of the total, times the upstream scalar, for every head that bound one. After
    /// [`forward`](Self::forward) of the same step.
    pub fn backward(&self, commands: &mut impl Commands) {
        self.gradient(commands);
    }

    /// The forward in parts, in order, for systems that end what runs long and count a command buffer, not a dispatch, as
    /// macOS does: each part goes into an encoder of its own, and all are submitted in this order. No forward of another
    /// step of the plan may run between them. How long a part runs follows
    /// [`PlanOptions::logits_per_dispatch`](crate::PlanOptions::logits_per_dispatch).
    pub fn forward_parts(&self) -> impl Iterator<Item = StepPart<'_>> {
        self.forward_dispatches().map(|(stage, dispatch)| StepPart { stage, dispatch })
    }

    /// The backward in parts: as [`forward_parts`](Self::forward_parts), but other steps may run between them.
    pub fn backward_parts(&self) -> impl Iterator<Item = StepPart<'_>> {
        self.gradient.iter().map(|dispatch| StepPart { stage: GRADIENT, dispatch })
    }

    fn forward_dispatches(&self) -> impl Iterator<Item = (&'static str, &Dispatch)> {
        let statistics = self.statistics.iter().map(|dispatch| (STATISTICS, dispatch));
        let combine = self.stages.combining().map(|dispatch| (COMBINE, dispatch));
        statistics.chain(combine).chain(self.stages.finishing().map(|dispatch| (FINISH, dispatch)))
    }

    /// The first stage alone: one row of partial sums per tile. The plan's steps share these rows: [`combine`](Self::combine)
    /// comes before the statistics of another step of the plan.
    pub fn statistics(&self, commands: &mut impl Commands) {
        commands.in_pass(STATISTICS, &mut |pass| {
            self.statistics.iter().for_each(|dispatch| dispatch.encode(pass));
        });
    }

    /// The second stage alone: partial sums to statistics.
    pub fn combine(&self, commands: &mut impl Commands) {
        commands.in_pass(COMBINE, &mut |pass| self.stages.combining().for_each(|dispatch| dispatch.encode(pass)));
    }

    /// Encodes the copy of this rank's sums to a staging buffer. After [`statistics`](Self::statistics) and
    /// [`combine`](Self::combine), in the same encoder or a later one; the sums can be read once that encoder is submitted.
    ///
    /// # Errors
    /// [`Error::NotDistributed`] where the plan is not, [`Error::GlobalSumsUnread`] where every staging buffer holds sums that
    /// were neither read nor dropped.
    pub fn global_sums(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PendingGlobalSums, Error> {
        self.sums()?.encode(&self.stages.scratch.statistics, encoder)
    }

    /// Writes the sums of all ranks over this rank's, at the start of the queue's next submission: the one that has
    /// [`finish`](Self::finish), and not `combine`, which would write over them.
    ///
    /// # Errors
    /// [`Error::NotDistributed`], [`Error::GlobalSums`] for lists that are not as long as the rank's own, [`Error::Limit`]
    /// where a head of all ranks has 2^32 voxels or more.
    pub fn set_global_sums(&self, sums: &GlobalSums) -> Result<(), Error> {
        self.sums()?.write(&self.plan.shared.queue, &self.stages.scratch.statistics, sums)
    }

    fn sums(&self) -> Result<&Mailbox<GlobalSums>, Error> {
        self.plan.shared.global_sums.as_ref().ok_or(Error::NotDistributed)
    }

    /// The third stage alone: statistics to report and coefficients; before it the selection, where a head has a top-k.
    pub fn finish(&self, commands: &mut impl Commands) {
        commands.in_pass(FINISH, &mut |pass| self.stages.finishing().for_each(|dispatch| dispatch.encode(pass)));
    }

    /// The last stage alone: logits, target and coefficients to the gradient.
    pub fn gradient(&self, commands: &mut impl Commands) {
        commands.in_pass(GRADIENT, &mut |pass| {
            self.gradient.iter().for_each(|dispatch| dispatch.encode(pass));
        });
    }

    /// Statistics and gradient dispatches of this step: one each wherever the device's storage bindings suffice, the variant's
    /// `heads_per_dispatch`, and the plan's `logits_per_dispatch`.
    #[must_use]
    pub fn dispatches(&self) -> (usize, usize) {
        (self.statistics.len(), self.gradient.len())
    }

    /// Bytes of GPU memory that the step itself holds: what stands between its forward and its backward or report, and a
    /// table of a few hundred bytes per head and dispatch. A few kB; with a top-k also 4 bytes per voxel.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let tables = self.statistics.iter().chain(&self.gradient).map(|dispatch| dispatch.entries[0].size);
        self.stages.bytes() + tables.sum::<u64>()
    }

    /// Every dispatch of forward and backward, in order, as data.
    #[must_use]
    pub fn recipes(&self) -> Vec<Recipe> {
        self.dispatches_in_order().map(Dispatch::recipe).collect()
    }

    fn dispatches_in_order(&self) -> impl Iterator<Item = &Dispatch> {
        self.forward_dispatches().map(|(_, dispatch)| dispatch).chain(&self.gradient)
    }

    /// Makes the driver compile every kernel now: many do it at the first dispatch. Submits dispatches that do no work, and
    /// waits for them. Writes to no tensor and to no report.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::OutOfMemory`] and [`Error::Device`] where wgpu refuses.
    pub fn warm_up(&self) -> Result<(), Error> {
        let shared = &self.plan.shared;
        let during = "warming up";
        checked(&shared.device, during, || {
            let mut encoder = shared
                .device
                .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("segloss: warm-up") });
            encoder.in_pass("segloss: warm-up", &mut |pass| {
                self.dispatches_in_order().for_each(|dispatch| dispatch.encode_no_work(&shared.device, pass));
            });
            shared.queue.submit([encoder.finish()]);
            shared.device.poll(wgpu::PollType::wait_indefinitely())
        })?
        .map_err(|error| Error::Device { during, message: error.to_string() })?;
        Ok(())
    }

    /// Encodes the copy of the report to a staging buffer. After [`forward`](Self::forward), in the same encoder or a later
    /// one; the report can be read once that encoder is submitted, or any time later. A report is taken once: it is lost
    /// where no forward of the step ran since the last one, so that none is read twice for one that failed.
    ///
    /// # Errors
    /// [`Error::ReportsUnread`] where every staging buffer holds a report that was neither read nor dropped.
    pub fn report(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PendingReport, Error> {
        self.plan.shared.reports.encode(&self.stages.scratch.report, encoder)
    }
}
