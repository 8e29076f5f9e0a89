//! Segmentation losses of several network heads in one GPU dispatch, and their gradient in one more.
//!
//! Soft Dice and its relatives, and label-smoothed cross-entropy, as MONAI, nnU-Net and PyTorch define them, in hand-written
//! WGSL run through [wgpu]. Data goes one way:
//!
//! 1. [`LossSpec`]: what you ask for. Heads, each with a shape, a target, a [`Loss`] and a weight.
//! 2. [`Plan`]: what the device will run. Checked against the device's limits; owns pipelines and scratch.
//! 3. [`Step`]: a plan bound to your buffers, where they are ([`HeadTensors`]). Encodes [`forward`](Step::forward) and
//!    [`backward`](Step::backward) into your encoder or compute pass: no allocation, no compilation, no wait.
//! 4. [`Report`]: what comes back. The total, every term of every head, every class's soft Dice, and the voxels that counted.
//!
//! ```
//! use segloss::{AdapterChoice, Head, Loss, LossSpec, Plan, host};
//!
//! let (device, queue) = AdapterChoice::default().open()?;
//! let spec = LossSpec::new().head(Head::new([1, 3, 2, 2], Loss::monai_dice_ce()));
//! let plan = Plan::new(&device, &queue, &spec)?;
//! // a trainer binds its own buffers; this uploads two slices
//! let tensors = host::HostTensors::labels(&[0.5; 12], &[0, 1, 2, 1]);
//! let result = host::run(&plan, &[tensors], 1.0)?;
//! assert!((result.report.heads[0].pixel.unwrap().value - 3.0_f32.ln()).abs() < 1e-6);
//! # Ok::<(), segloss::Error>(())
//! ```
//!
//! With the feature `burn`, the module `burn` does all of this for tensors of burn, as a node of its graph.
//!
//! What is wrong is a typed [`Error`], when the plan is made or tensors are bound. [`mod@reference`] is the same loss on the CPU
//! in f64; `shaders/README.md` derives the mathematics.

#[cfg(feature = "burn")]
pub mod burn;
mod error;
mod gpu;
pub mod host;
mod kernels;
mod layout;
mod plan;
pub mod reference;
mod report;
mod spec;
mod step;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
#[cfg(feature = "tuning")]
pub mod tuning;

pub use error::{Bound, Error, Tensor};
pub use gpu::adapter::{AdapterChoice, open_adapter};
pub use gpu::device::Access;
pub use gpu::dispatch::{BoundRange, Recipe};
pub use layout::tensors::{Gradient, HeadTensors, Scalars};
pub use layout::variant::Variant;
pub use plan::{Plan, PlanOptions};
pub use report::{
    ClassCounts, GlobalSums, HeadReport, ItemCounts, NonFinite, Pending, PendingGlobalSums, PendingReport, Report,
    Term, VoxelPosition,
};
pub use spec::{
    Activation, Alpha, ClassWeighting, Empty, FloatType, Form, HardCounts, Head, LabelType, Loss, LossSpec, Overlap,
    OverlapKind, Pixel, PixelKind, Product, Reduction, ScalarAlpha, Target, WeightMode, monai_deep_supervision,
    nnunet_deep_supervision, pytorch_label_smoothing,
};
pub use step::{Commands, Step, StepPart};
pub use wgpu;

#[doc = include_str!("../docs/coming-from.md")]
pub mod coming_from {}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/distributed.md")]
struct Distributed;
