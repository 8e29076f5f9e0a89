//! How a plan is made, besides its specification.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::gpu::pipelines::Pipelines;
use crate::layout::variant::Variant;

/// How a plan is made, besides its specification.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// The variant of the kernels, such as `tuning::tune` found; `None`: a good one for the kind of adapter,
    /// [`Variant::for_device`].
    pub variant: Option<Variant>,
    /// The caller's pipeline cache, where the device has [`wgpu::Features::PIPELINE_CACHE`]: the plan's pipelines are looked
    /// up in it and added to it, so that a process that hands in the data of an earlier one starts warm.
    pub pipeline_cache: Option<wgpu::PipelineCache>,
    /// Whether the batch is spread over several machines, each a rank with a plan of its own, of its own items: between
    /// combine and finish the ranks add up their [`GlobalSums`](crate::GlobalSums), and then total, report and gradients are
    /// those of one plan on the whole batch. The plans differ in the number of items alone. A top-k is refused: it is no sum
    /// over voxels.
    ///
    /// The gradient of a rank is the total's by the rank's own logits: parameters that the ranks share add their gradients up
    /// over ranks. A trainer that averages gradients over R ranks instead sets the upstream gradient to R.
    pub distributed: bool,
    /// Logits that one statistics or gradient dispatch handles at most; `None`: 2^30. A desktop's watchdog kills what runs for
    /// seconds (2 s on Windows), and 2^30 logits, read and written, take less at 10 GB/s. Heads, and a head's items, are spread
    /// over as many dispatches as it takes; the numbers stay the same, bit for bit. An item is never divided: one with more
    /// logits is a dispatch alone.
    pub logits_per_dispatch: Option<NonZeroU64>,
}

/// The default of [`PlanOptions::logits_per_dispatch`].
const LOGITS_PER_DISPATCH: u64 = 1 << 30;

/// How a plan and its siblings are made.
#[derive(Clone, Debug)]
pub(crate) struct PlanSettings {
    pub variant: Variant,
    pub distributed: bool,
    pub logits_per_dispatch: u64,
    pub pipelines: Arc<Pipelines>,
}

impl PlanSettings {
    /// All plans of these are siblings.
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
