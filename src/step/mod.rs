//! What happens in each training iteration: encoding, and nothing else. No allocation, no compilation, no wait, no
//! readback.

mod bind;

use std::sync::Arc;

use crate::error::Error;
use crate::gpu::device::checked;
use crate::gpu::dispatch::{Dispatch, Recipe, Stage};
use crate::plan::Plan;
use crate::plan::stages::HeadStages;
use crate::report::{GlobalSums, Mailbox, PendingGlobalSums, PendingReport, ReportWords};

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
/// Each step has its own coefficients and report, so that steps of one plan run in any order, such as two forwards and
/// then two backwards. A second forward of the same step replaces the results of the first.
#[derive(Debug)]
pub struct Step {
    pub(crate) plan: Plan,
    pub(crate) statistics: Vec<Arc<Dispatch>>,
    pub(crate) stages: Arc<HeadStages>,
    /// Copies the caller's upstream gradient to where the gradient stage reads it.
    pub(crate) upstream: Option<Dispatch>,
    pub(crate) gradient: Vec<Arc<Dispatch>>,
}

/// One dispatch of a step, to encode alone.
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
    /// Encodes statistics, combine and finish. They leave the report and the coefficients of the gradient on the
    /// device.
    pub fn forward(&self, commands: &mut impl Commands) {
        commands.in_pass("segloss: forward", &mut |pass| {
            self.forward_dispatches().for_each(|(_, dispatch)| dispatch.encode(pass));
        });
    }

    /// Encodes the gradient of the total, times the upstream gradient, for every head that has a gradient tensor. Comes
    /// after [`forward`](Self::forward) of the same step.
    pub fn backward(&self, commands: &mut impl Commands) {
        self.gradient(commands);
    }

    /// The forward in parts, one per dispatch, for systems whose watchdog limits the time of a command buffer instead
    /// of a dispatch, as on macOS. Encode each part into an encoder of its own, and submit all in this order; no
    /// forward of another step of the plan may run between them.
    /// [`PlanOptions::logits_per_dispatch`](crate::PlanOptions::logits_per_dispatch) bounds how long a part runs.
    pub fn forward_parts(&self) -> impl Iterator<Item = StepPart<'_>> {
        self.forward_dispatches().map(|(stage, dispatch)| StepPart { stage, dispatch })
    }

    /// The backward in parts, as [`forward_parts`](Self::forward_parts); but other steps may run between them.
    pub fn backward_parts(&self) -> impl Iterator<Item = StepPart<'_>> {
        self.backward_dispatches().map(|dispatch| StepPart { stage: GRADIENT, dispatch })
    }

    fn forward_dispatches(&self) -> impl Iterator<Item = (&'static str, &Dispatch)> {
        let statistics = self.statistics.iter().map(|dispatch| (STATISTICS, &**dispatch));
        let combine = self.stages.combining().map(|dispatch| (COMBINE, dispatch));
        statistics.chain(combine).chain(self.stages.finishing().map(|dispatch| (FINISH, dispatch)))
    }

    fn backward_dispatches(&self) -> impl Iterator<Item = &Dispatch> {
        self.upstream.iter().chain(self.gradient.iter().map(Arc::as_ref))
    }

    /// Encodes the first stage alone: logits and target to one row of partial sums per tile. All steps of the plan
    /// share these rows, so [`combine`](Self::combine) must come before the statistics of another step of the plan.
    pub fn statistics(&self, commands: &mut impl Commands) {
        commands.in_pass(STATISTICS, &mut |pass| {
            self.statistics.iter().for_each(|dispatch| dispatch.encode(pass));
        });
    }

    /// Encodes the second stage alone: partial sums to statistics.
    pub fn combine(&self, commands: &mut impl Commands) {
        commands.in_pass(COMBINE, &mut |pass| self.stages.combining().for_each(|dispatch| dispatch.encode(pass)));
    }

    /// Encodes the copy of this rank's sums to a staging buffer. Comes after [`statistics`](Self::statistics) and
    /// [`combine`](Self::combine), in the same encoder or a later one. The sums can be read once that encoder is
    /// submitted.
    ///
    /// # Errors
    /// [`Error::NotDistributed`] where the plan is not distributed, [`Error::GlobalSumsUnread`] where every staging
    /// buffer holds sums that were neither read nor dropped.
    pub fn global_sums(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PendingGlobalSums, Error> {
        self.sums()?.encode(&self.stages.scratch.statistics, encoder)
    }

    /// Replaces this rank's sums by those of all ranks, at the start of the queue's next submission. That submission
    /// should contain [`finish`](Self::finish), but not `combine`, which would overwrite them.
    ///
    /// # Errors
    /// [`Error::NotDistributed`] where the plan is not distributed, [`Error::GlobalSums`] for lists that are not as
    /// long as the rank's own, [`Error::Limit`] where a head has 2^32 voxels or more over all ranks.
    pub fn set_global_sums(&self, sums: &GlobalSums) -> Result<(), Error> {
        self.sums()?.write(&self.plan.shared.queue, &self.stages.scratch.statistics, sums)
    }

    fn sums(&self) -> Result<&Mailbox<GlobalSums>, Error> {
        self.plan.shared.global_sums.as_ref().ok_or(Error::NotDistributed)
    }

    /// Encodes the third stage alone: statistics to report and coefficients, preceded by the selection where a head has
    /// a top-k.
    pub fn finish(&self, commands: &mut impl Commands) {
        commands.in_pass(FINISH, &mut |pass| self.stages.finishing().for_each(|dispatch| dispatch.encode(pass)));
    }

    /// Encodes the last stage alone: logits, target and coefficients to the gradient.
    pub fn gradient(&self, commands: &mut impl Commands) {
        commands.in_pass(GRADIENT, &mut |pass| {
            self.backward_dispatches().for_each(|dispatch| dispatch.encode(pass));
        });
    }

    /// The number of statistics and of gradient dispatches of this step. One each, unless the device's storage
    /// bindings, the variant's `heads_per_dispatch` or the plan's `logits_per_dispatch` require more. A dispatch of one
    /// invocation is not counted: it copies the upstream gradient, where the device's storage bindings do not suffice
    /// for it, or where it lies in a buffer that the gradient stage writes to.
    #[must_use]
    pub fn dispatches(&self) -> (usize, usize) {
        (self.statistics.len(), self.gradient.len())
    }

    /// Bytes of GPU memory that the step itself holds: the results of its forward that its backward and report read,
    /// and a table of a few hundred bytes per head and dispatch. A few kB; with a top-k also 4 bytes per voxel.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let bound = self.statistics.iter().map(Arc::as_ref).chain(self.backward_dispatches());
        self.stages.bytes() + bound.map(Dispatch::bytes).sum::<u64>()
    }

    /// Every dispatch of forward and backward, in order, as data.
    #[must_use]
    pub fn recipes(&self) -> Vec<Recipe> {
        let forward = self.forward_dispatches().map(|(_, dispatch)| dispatch.recipe(Stage::Forward));
        forward.chain(self.backward_dispatches().map(|dispatch| dispatch.recipe(Stage::Backward))).collect()
    }

    /// Where the forward writes the report, and what its words are: for a reader of [`recipes`](Self::recipes).
    #[must_use]
    pub fn report_words(&self) -> ReportWords {
        ReportWords::new(&self.stages.scratch.report, &self.plan.shared.heads)
    }

    fn dispatches_in_order(&self) -> impl Iterator<Item = &Dispatch> {
        self.forward_dispatches().map(|(_, dispatch)| dispatch).chain(self.backward_dispatches())
    }

    /// Makes the driver compile every kernel now; many drivers otherwise do so at the first dispatch. Submits
    /// dispatches without work, and waits for them. Writes to no tensor and to no report.
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

    /// Encodes the copy of the report to a staging buffer. Comes after [`forward`](Self::forward), in the same encoder
    /// or a later one. The report can be read once that encoder is submitted, or any time later. A forward gives one
    /// report: a second copy is [`Error::ReportLost`] when it is read, so that an old report is not taken for that of a
    /// forward that failed.
    ///
    /// # Errors
    /// [`Error::ReportsUnread`] where every staging buffer holds a report that was neither read nor dropped.
    pub fn report(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PendingReport, Error> {
        self.plan.shared.reports.encode(&self.stages.scratch.report, encoder)
    }
}
