//! What the device will run: everything that depends on shapes and settings alone, and what binding adds.

mod head_pipelines;
pub(crate) mod options;
pub(crate) mod scratch;
pub(crate) mod shared;
pub(crate) mod stages;

use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::gpu::device;
use crate::layout::driver::Driver;
use crate::layout::slots::check_items;
use crate::layout::variant::Variant;
use crate::layout::{HeadLayout, Layout};
use crate::report::{Heads, Mailbox};
use crate::spec::LossSpec;
use head_pipelines::HeadPipelines;
pub use options::PlanOptions;
use options::PlanSettings;
use scratch::{PlanScratch, check_scratch};
use shared::Shared;

/// A loss on a device: pipelines, and the scratch that a forward uses up within its own commands.
///
/// Made once for a specification; [`bind`](Self::bind) it to tensors to get a [`Step`](crate::Step). Cloning is cheap and shares
/// everything. Steps of one plan do not disturb each other: their forwards, backwards and reports run in any order, and are
/// submitted in any order, from any thread. A forward runs whole, though: between its statistics and its combine, no
/// statistics of another step of the plan may run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) shared: Arc<Shared>,
}

impl Plan {
    /// A plan with the default variant for the device.
    ///
    /// Reads the device's limits and features; configures nothing. Pipelines that touch tensors are compiled at the first
    /// [`bind`](Self::bind), and kept.
    ///
    /// # Errors
    /// [`Error::NoHeads`] and [`Error::Spec`] for a specification that is wrong, [`Error::Limit`] where the device is too
    /// small, [`Error::DeviceLost`], [`Error::OutOfMemory`] and [`Error::Device`] where wgpu refuses.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec) -> Result<Self, Error> {
        Self::with_variant(device, queue, spec, Variant::for_device(device))
    }

    /// A plan with a variant of the caller's: short for [`PlanOptions::variant`].
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Variant`] for a variant that does not fit.
    pub fn with_variant(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &LossSpec,
        variant: Variant,
    ) -> Result<Self, Error> {
        let options = PlanOptions { variant: Some(variant), ..PlanOptions::default() };
        Self::with_options(device, queue, spec, options)
    }

    /// A plan with options.
    ///
    /// # Errors
    /// As [`with_variant`](Self::with_variant).
    pub fn with_options(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &LossSpec,
        options: PlanOptions,
    ) -> Result<Self, Error> {
        Self::make(device, queue, spec, &PlanSettings::new(device, options))
    }

    /// A plan of another specification beside this one: same device, same options, and kernels whose text is the same are
    /// compiled once. Shapes are no part of the text: heads that differ in their number of voxels or samples share kernels.
    /// The pipelines live as long as any of the siblings.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn sibling(&self, spec: &LossSpec) -> Result<Self, Error> {
        Self::make(&self.shared.device, &self.shared.queue, spec, &self.shared.settings)
    }

    pub(crate) fn make(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &LossSpec,
        settings: &PlanSettings,
    ) -> Result<Self, Error> {
        spec.validate()?;
        let PlanSettings { variant, distributed, ref pipelines, .. } = *settings;
        if distributed {
            spec.check_distributed()?;
        }
        let driver = Driver::of(device);
        variant.check(&driver)?;
        let limits = driver.limits.clone();
        // what the device cannot hold comes before what fits its loops
        check_scratch(&Layout::new(spec, variant)?, &limits)?;
        let variant = variant.within_iterations(spec, &driver)?;
        let layout = Layout::new(spec, variant)?;
        check_scratch(&layout, &limits)?;
        check_items(spec, &layout, &limits, variant)?;
        let shared = device::checked(device, "making a plan", || {
            let scratch = PlanScratch::new(device, spec, &layout);
            let pipelines = HeadPipelines::new(spec, &layout, variant, distributed, pipelines);
            let heads = Arc::new(Heads { spec: spec.clone(), layout });
            let reports = Mailbox::new(device, "segloss: report, staging", heads.layout.report, &heads);
            let words = heads.layout.heads.iter().map(HeadLayout::global_words).sum();
            let global_sums = distributed.then(|| Mailbox::new(device, "segloss: global sums, staging", words, &heads));
            Shared {
                device: device.clone(),
                queue: queue.clone(),
                heads,
                variant,
                limits,
                scratch,
                pipelines,
                settings: settings.clone(),
                parts: Mutex::default(),
                reports,
                global_sums,
            }
        })
        .inspect_err(|_| settings.pipelines.forget())?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The specification.
    #[must_use]
    pub fn spec(&self) -> &LossSpec {
        &self.shared.heads.spec
    }

    /// Bytes of GPU memory that the plan itself holds: partial sums, and the staging of reports. Each step adds what
    /// [`Step::memory`](crate::Step::memory) says. Where items have a tile's voxels and more, a plan and a step are together below 1 % of the
    /// logits' bytes plus 1 MiB, but for a top-k, which adds 4 bytes per voxel; an item takes at least one row of partial sums,
    /// however small it is.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let shared = &self.shared;
        shared.scratch.bytes() + shared.reports.bytes() + shared.global_sums.as_ref().map_or(0, Mailbox::bytes)
    }

    /// The variant of the kernels.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.shared.variant
    }
}
