//! How a plan is made, besides its specification.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::gpu::pipelines::Pipelines;
use crate::layout::variant::Variant;

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
    pub variant: Variant,
    pub distributed: bool,
    pub logits_per_dispatch: u64,
    pub pipelines: Arc<Pipelines>,
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
