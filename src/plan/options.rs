//! How a plan is made, besides its specification.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::error::Error;
use crate::gpu::pipelines::Pipelines;
use crate::layout::answers::{Answers, BuiltInF16};
use crate::layout::driver::Driver;
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
    /// Whether the device is asked before the plan rests on it.
    pub ask: Ask,
    /// Whether f16 is converted by WGSL's built-in functions, or by integers; `None`: by the built-in functions on hardware that
    /// answered right. Both give the same bits.
    pub built_in_f16: Option<bool>,
    /// The most logits per statistics or gradient dispatch; `None`: 2^30. A desktop's watchdog kills a dispatch that
    /// runs for seconds (2 s on Windows), and 2^30 logits, read and written, take less at 10 GB/s. Heads, and the items
    /// of a head, are spread over as many dispatches as that needs; the results stay the same, bit for bit. An item is
    /// never divided: one with more logits gets a dispatch of its own.
    pub logits_per_dispatch: Option<NonZeroU64>,
}

/// Whether a device is asked questions with known answers ([`Answers`]).
///
/// Kernels believe what a driver states: that sums over subgroups are right, that a subgroup has one size, that workgroup
/// atomics count. Where a driver is wrong, every loss is wrong without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// The plan asks when it is made, and waits for the answers as for a compilation, at most 30 s. Its siblings have them.
    #[default]
    Device,
    /// The device has answered: [`Answers::of`], or [`Plan::answers`](crate::Plan::answers) of another plan on it.
    Answered(Answers),
    /// The device is not asked, and what its driver states is believed.
    TrustDriver,
}

/// The default of [`PlanOptions::logits_per_dispatch`].
const LOGITS_PER_DISPATCH: u64 = 1 << 30;

/// What a plan and its siblings have in common.
#[derive(Clone, Debug)]
pub(crate) struct PlanSettings {
    pub variant: Variant,
    pub answers: Answers,
    pub f16: BuiltInF16,
    pub distributed: bool,
    pub logits_per_dispatch: u64,
    pub pipelines: Arc<Pipelines>,
}

impl PlanSettings {
    /// All plans that are made with these settings are siblings. Asks the device, unless the options say otherwise.
    pub(crate) fn new(device: &wgpu::Device, queue: &wgpu::Queue, options: PlanOptions) -> Result<Self, Error> {
        let PlanOptions { variant: given, pipeline_cache, distributed, ask, built_in_f16, logits_per_dispatch } =
            options;
        let driver = Driver::of(device);
        let variant = given.unwrap_or_else(|| Variant::for_driver(&driver));
        variant.check(&driver)?;
        let pipelines = Arc::new(Pipelines::new(device, pipeline_cache));
        let answers = match ask {
            Ask::Device => Answers::ask(device, queue, variant, &driver, &pipelines)?,
            Ask::Answered(answers) => answers,
            Ask::TrustDriver => Answers::trusting(&driver),
        };
        if !answers.workgroup_sums {
            return Err(Error::WrongAnswer { question: "a sum through workgroup memory" });
        }
        if given.is_some() {
            answers.check(variant)?;
        }
        let f16 = match built_in_f16 {
            None => answers.built_in_f16(&driver),
            Some(false) => BuiltInF16::default(),
            Some(true) if answers.decodes_f16 && answers.encodes_f16 => BuiltInF16 { decodes: true, encodes: true },
            Some(true) => return Err(Error::WrongAnswer { question: "the conversion of f16 by built-in functions" }),
        };
        Ok(Self {
            variant: answers.within(variant),
            answers,
            f16,
            distributed,
            logits_per_dispatch: logits_per_dispatch.map_or(LOGITS_PER_DISPATCH, NonZeroU64::get),
            pipelines,
        })
    }
}
