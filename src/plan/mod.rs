//! What the device runs: everything that depends on shapes and settings alone, and the pipelines that binding adds.

pub(crate) mod scratch;
pub(crate) mod stages;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::gpu::device::{self, Access};
use crate::gpu::pipelines::{Compiled, Pipelines};
use crate::layout::driver::Driver;
use crate::layout::slots::{DispatchText, check_items};
use crate::layout::variant::Variant;
use crate::layout::{HeadLayout, Layout};
use crate::report::{GlobalSums, Heads, Mailbox, Report};
use crate::spec::LossSpec;
use scratch::{PlanScratch, check_scratch};
use stages::HeadPipelines;

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

/// Settings of a plan besides its specification.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// The variant of the kernels, such as one that `tuning::tune` found; `None`: the default for the kind of adapter,
    /// [`Variant::for_device`].
    pub variant: Option<Variant>,
    /// A pipeline cache of the caller's, where the device has [`wgpu::Features::PIPELINE_CACHE`]. The plan's pipelines
    /// are looked up in it and added to it. Made from the data of an earlier process, it saves the compilation.
    pub pipeline_cache: Option<wgpu::PipelineCache>,
    /// Whether the batch is spread over several machines. Each is a rank, and has a plan for its own items. Between
    /// combine and finish the ranks add up their [`GlobalSums`](crate::GlobalSums); total, report and gradients are
    /// then those of one plan on the whole batch. The ranks' plans may differ in the number of items alone. A top-k is
    /// refused: it is not a sum over voxels.
    ///
    /// A rank's gradient is the derivative of the total with respect to the rank's own logits. For parameters that the
    /// ranks share, the gradients of all ranks must be added up. A trainer that averages gradients over R ranks instead
    /// sets the upstream gradient to R.
    pub distributed: bool,
    /// The most logits per statistics or gradient dispatch; `None`: 2^30. A desktop's watchdog kills a dispatch that
    /// runs for seconds (2 s on Windows), and 2^30 logits, read and written, take less at 10 GB/s. Heads, and the items
    /// of a head, are spread over as many dispatches as that needs; the results stay the same, bit for bit. An item is
    /// never divided: one with more logits gets a dispatch of its own.
    pub logits_per_dispatch: Option<NonZeroU64>,
}

/// The default of [`PlanOptions::logits_per_dispatch`].
const LOGITS_PER_DISPATCH: u64 = 1 << 30;

/// What a plan and its siblings have in common.
#[derive(Clone, Debug)]
pub(crate) struct PlanSettings {
    variant: Variant,
    distributed: bool,
    pub logits_per_dispatch: u64,
    pipelines: Arc<Pipelines>,
}

impl PlanSettings {
    /// All plans that are made with these settings are siblings.
    pub(crate) fn new(device: &wgpu::Device, options: PlanOptions) -> Self {
        let PlanOptions { variant, pipeline_cache, distributed, logits_per_dispatch } = options;
        Self {
            variant: variant.unwrap_or_else(|| Variant::for_device(device)),
            distributed,
            logits_per_dispatch: logits_per_dispatch.map_or(LOGITS_PER_DISPATCH, NonZeroU64::get),
            pipelines: Arc::new(Pipelines::new(device, pipeline_cache)),
        }
    }
}

/// All that the pipeline of a dispatch depends on within a plan: stage, text, accesses.
type DispatchKey = (&'static str, DispatchText, Vec<Access>);

/// What all steps of a plan share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub heads: Arc<Heads>,
    pub variant: Variant,
    pub limits: wgpu::Limits,
    pub scratch: PlanScratch,
    pipelines: HeadPipelines,
    pub settings: PlanSettings,
    /// The pipelines of dispatches that were bound before: for an equal dispatch the text is not composed again.
    parts: Mutex<HashMap<DispatchKey, Compiled>>,
    pub reports: Mailbox<Report>,
    /// `None` where the batch is not distributed.
    pub global_sums: Option<Mailbox<GlobalSums>>,
}

impl Plan {
    /// A plan with the default variant for the device.
    ///
    /// Takes the device with its limits and features as it is. Pipelines that read or write the caller's tensors are
    /// compiled at the first [`bind`](Self::bind), and kept.
    ///
    /// # Errors
    /// [`Error::NoHeads`] and [`Error::Spec`] for a specification that is wrong, [`Error::Limit`] where the device's
    /// limits are too small, [`Error::DeviceLost`], [`Error::OutOfMemory`], and [`Error::Device`] where wgpu refuses.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec) -> Result<Self, Error> {
        Self::with_variant(device, queue, spec, Variant::for_device(device))
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
        Self::make(device, queue, spec, &PlanSettings::new(device, options))
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

    /// Bytes of GPU memory that the plan itself holds: partial sums and staging buffers. Each step adds
    /// [`Step::memory`](crate::Step::memory). Where an item has at least as many voxels as a tile, a plan and a step
    /// together take less than 1 % of the logits' bytes plus 1 MiB; a top-k adds 4 bytes per voxel. An item takes at
    /// least one row of partial sums, however small it is.
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

impl Shared {
    /// Whether the batch is spread over several machines.
    pub(crate) fn distributed(&self) -> bool {
        self.global_sums.is_some()
    }

    /// The pipeline of a dispatch; its text is composed once.
    pub(crate) fn compiled(
        &self,
        stage: &'static str,
        text: DispatchText,
        accesses: Vec<Access>,
        compose: impl FnOnce(&DispatchText) -> String,
    ) -> Compiled {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = |(stage, text, accesses): &DispatchKey| {
            let heads: Vec<usize> = text.heads.iter().map(|head| head.head).collect();
            let (text, unchecked) = (compose(text).into(), self.variant.unchecked);
            self.settings.pipelines.pipeline(text, stage, &heads, accesses.clone(), unchecked)
        };
        parts.entry((stage, text, accesses)).or_insert_with_key(compile).clone()
    }

    /// Forgets the pipelines, after a call that wgpu refused.
    pub(crate) fn forget(&self) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.settings.pipelines.forget();
    }
}
