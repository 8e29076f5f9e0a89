//! What happens each iteration: encode, and nothing else. No allocation, no compilation, no wait, no readback.

use crate::Error;
use crate::global_sums::{self, GlobalSums, PendingGlobalSums};
use crate::plan::device::{Access, Entry, bind_group, checked};
use crate::plan::{BoundRange, Plan, Recipe};
use crate::report::{PendingReport, encode_report};

/// One dispatch, ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub pipeline: wgpu::ComputePipeline,
    pub bindings: wgpu::BindGroup,
    pub layout: wgpu::BindGroupLayout,
    /// The same as data, and the grid.
    pub recipe: Recipe,
}

impl Dispatch {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        let [x, y] = self.recipe.grid;
        pass.dispatch_workgroups(x, y, 1);
    }

    /// The same bindings with a table of no heads: the kernel returns at once, and the driver has compiled it.
    fn encode_no_work(&self, device: &wgpu::Device, pass: &mut wgpu::ComputePass<'_>) {
        let mut entries: Vec<_> = self.recipe.bindings.iter().map(BoundRange::entry).collect();
        // a buffer that nobody wrote to is zero
        let empty = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("segloss: no heads"),
            size: entries[0].binding.buffer.size(),
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: false,
        });
        entries[0] = Entry::whole(Access::Uniform, &empty);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &bind_group(device, "segloss: warm-up", &self.layout, &entries), &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
}

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
#[derive(Debug)]
pub struct Step {
    pub(crate) plan: Plan,
    pub(crate) statistics: Vec<Dispatch>,
    /// With the caller's weights; else the plan's own.
    pub(crate) finish: Option<Dispatch>,
    pub(crate) gradient: Vec<Dispatch>,
}

impl Step {
    /// Encodes statistics, combine and finish: after it the report and the coefficients of the gradient are on the device.
    pub fn forward(&self, commands: &mut impl Commands) {
        commands.in_pass("segloss: forward", &mut |pass| {
            self.statistics.iter().for_each(|dispatch| dispatch.encode(pass));
            self.encode_combine(pass);
            self.encode_finish(pass);
        });
    }

    /// Encodes the gradient of the total, times the upstream scalar, for every head that bound one. After
    /// [`forward`](Self::forward) of the same step.
    pub fn backward(&self, commands: &mut impl Commands) {
        self.gradient(commands);
    }

    /// The first stage alone: one row of partial sums a tile.
    pub fn statistics(&self, commands: &mut impl Commands) {
        commands.in_pass("segloss: statistics", &mut |pass| {
            self.statistics.iter().for_each(|dispatch| dispatch.encode(pass));
        });
    }

    /// The second stage alone: partial sums to statistics.
    pub fn combine(&self, commands: &mut impl Commands) {
        commands.in_pass("segloss: combine", &mut |pass| self.encode_combine(pass));
    }

    fn encode_combine(&self, pass: &mut wgpu::ComputePass<'_>) {
        let shared = &self.plan.shared;
        std::iter::once(&shared.combine).chain(&shared.overlap_sums).for_each(|dispatch| dispatch.encode(pass));
    }

    /// Encodes the copy of this rank's sums to a staging buffer. After [`statistics`](Self::statistics) and
    /// [`combine`](Self::combine), in the same encoder or a later one; the sums can be read once that encoder is submitted.
    ///
    /// # Errors
    /// [`Error::NotDistributed`] where the plan is not, [`Error::GlobalSumsUnread`] where every staging buffer holds sums that
    /// were neither read nor dropped.
    pub fn global_sums(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PendingGlobalSums, Error> {
        global_sums::encode(&self.plan.shared, encoder)
    }

    /// Writes the sums of all ranks over this rank's, at the start of the queue's next submission: the one that has
    /// [`finish`](Self::finish), and not `combine`, which would write over them.
    ///
    /// # Errors
    /// [`Error::NotDistributed`], [`Error::GlobalSums`] for lists that are not as long as the rank's own, [`Error::Limit`]
    /// where a head of all ranks has 2^32 voxels or more.
    pub fn set_global_sums(&self, sums: &GlobalSums) -> Result<(), Error> {
        global_sums::write(&self.plan.shared, sums)
    }

    /// The third stage alone: statistics to report and coefficients; before it the selection, where a head has a top-k.
    pub fn finish(&self, commands: &mut impl Commands) {
        commands.in_pass("segloss: finish", &mut |pass| self.encode_finish(pass));
    }

    fn finish_dispatch(&self) -> &Dispatch {
        self.finish.as_ref().unwrap_or(&self.plan.shared.finish)
    }

    fn encode_finish(&self, pass: &mut wgpu::ComputePass<'_>) {
        self.plan.shared.top_k.iter().for_each(|dispatch| dispatch.encode(pass));
        self.finish_dispatch().encode(pass);
    }

    /// The last stage alone: logits, target and coefficients to the gradient.
    pub fn gradient(&self, commands: &mut impl Commands) {
        commands.in_pass("segloss: gradient", &mut |pass| {
            self.gradient.iter().for_each(|dispatch| dispatch.encode(pass));
        });
    }

    /// Statistics and gradient dispatches of this step: one each wherever the device's storage bindings suffice, the variant's
    /// `heads_per_dispatch`, and the plan's `logits_per_dispatch`.
    #[must_use]
    pub fn dispatches(&self) -> (usize, usize) {
        (self.statistics.len(), self.gradient.len())
    }

    /// Every dispatch of forward and backward, in order, as data.
    #[must_use]
    pub fn recipes(&self) -> Vec<Recipe> {
        self.dispatches_in_order().map(|dispatch| dispatch.recipe.clone()).collect()
    }

    fn dispatches_in_order(&self) -> impl Iterator<Item = &Dispatch> {
        let shared = &self.plan.shared;
        let combine = std::iter::once(&shared.combine).chain(&shared.overlap_sums);
        let small = combine.chain(&shared.top_k).chain([self.finish_dispatch()]);
        self.statistics.iter().chain(small).chain(&self.gradient)
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
    /// where no forward of the plan ran since the last one, so that none is read twice for one that failed.
    ///
    /// # Errors
    /// [`Error::ReportsUnread`] where every staging buffer holds a report that was neither read nor dropped.
    pub fn report(&self, encoder: &mut wgpu::CommandEncoder) -> Result<PendingReport, Error> {
        encode_report(&self.plan.shared, encoder)
    }
}
