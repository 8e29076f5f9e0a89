//! What the device runs: everything that depends on shapes and settings alone, and the pipelines that binding adds.

mod head_pipelines;
pub(crate) mod options;
pub(crate) mod scratch;
pub(crate) mod shared;
pub(crate) mod stages;

use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::gpu::device;
use crate::layout::answers::Answers;
use crate::layout::driver::Driver;
use crate::layout::heads::Heads;
use crate::layout::split::{check_finish, check_items};
use crate::layout::variant::Variant;
use crate::layout::{HeadLayout, Layout};
use crate::report::Mailbox;
use crate::spec::LossSpec;
use head_pipelines::{HeadPipelines, finish_accesses};
use options::PlanSettings;
pub use options::{Ask, PlanOptions};
use scratch::{PlanScratch, check_scratch};
use shared::Shared;

/// A loss on a device: its pipelines, and the scratch buffers that a forward needs only while it runs.
///
/// Made once per specification; [`bind`](Self::bind) it to tensors to get a [`Step`](crate::Step). Cloning is cheap and
/// shares everything. The forwards, backwards and reports of a plan's steps run in any order, and are submitted in any
/// order, from any thread. One rule: between a step's statistics and its combine, no statistics of another step of the
/// plan may run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) shared: Arc<Shared>,
}

impl Plan {
    /// A plan with the default variant for the device.
    ///
    /// Takes the device with its limits and features as it is, and asks it whether what its driver states is true
    /// ([`Answers`]): that waits for the device once. Pipelines that read or write the caller's tensors are
    /// compiled at the first [`bind`](Self::bind), and kept.
    ///
    /// # Errors
    /// [`Error::NoHeads`] and [`Error::Spec`] for a specification that is wrong, [`Error::Limit`] where the device's
    /// limits are too small, [`Error::WrongAnswer`] where it cannot do what every loss needs, [`Error::DeviceLost`],
    /// [`Error::OutOfMemory`], and [`Error::Device`] where wgpu refuses or the device does not answer.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec) -> Result<Self, Error> {
        Self::with_options(device, queue, spec, PlanOptions::default())
    }

    /// A plan with this variant of the kernels: short for [`PlanOptions::variant`].
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Variant`] for a variant that the device cannot run.
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
        spec.validate()?;
        Self::make(device, queue, spec, &PlanSettings::new(device, queue, options)?)
    }

    /// A plan of another specification, on the same device and with the same options. Siblings share the pipelines of
    /// kernels with equal text. The text does not contain shapes: heads that differ in their number of voxels or items
    /// share kernels. The pipelines live as long as any of the siblings.
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
        // first whether the device can hold it at all, before the variant is fitted to its loops
        check_scratch(&Layout::new(spec, variant)?, &limits)?;
        let variant = variant.within_iterations(spec, &driver)?;
        let layout = Layout::new(spec, variant)?;
        if layout.has_top_k() && !settings.answers.workgroup_atomics {
            return Err(Error::WrongAnswer { question: "a histogram by workgroup atomics, which a top-k needs" });
        }
        check_scratch(&layout, &limits)?;
        check_items(spec, &layout, &limits, variant)?;
        let of_finish = finish_accesses(distributed, layout.has_top_k()).len();
        check_finish(u32::try_from(of_finish).expect("a few"), &limits)?;
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
                dispatches: Mutex::default(),
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

    /// Bytes of GPU memory that the plan itself holds: partial sums and staging buffers. Each step adds
    /// [`Step::memory`](crate::Step::memory). Where an item has at least as many voxels as a tile, a plan and a step
    /// together take less than 1 % of the logits' bytes plus 1 MiB; a top-k adds 4 bytes per voxel. An item takes at
    /// least one row of partial sums, however small it is.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let shared = &self.shared;
        shared.scratch.bytes() + shared.reports.bytes() + shared.global_sums.as_ref().map_or(0, Mailbox::bytes)
    }

    /// What the device answered, or what is believed of its driver: the facts on which the plan rests.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.shared.settings.answers
    }

    /// The variant of the kernels.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.shared.variant
    }
}
