//! Segmentation losses of several network heads in one GPU dispatch, and their gradient in one more.
//!
//! Soft Dice and label-smoothed cross-entropy and their relatives, as MONAI, nnU-Net and PyTorch define them, in
//! hand-written WGSL that runs through [wgpu]. Data goes one way:
//!
//! 1. [`LossSpec`]: what to compute. Heads, each with a shape, a target, a [`Loss`] and a weight.
//! 2. [`Plan`]: what the device runs. Checked against the device's limits; owns pipelines and scratch buffers.
//! 3. [`Step`]: a plan bound to your buffers in place ([`HeadTensors`]). Encodes [`forward`](Step::forward) and
//!    [`backward`](Step::backward) into your encoder or compute pass: no allocation, no compilation, no wait.
//! 4. [`Report`]: what is read back. The total, every term of every head, every class's soft Dice, and the number of
//!    voxels that counted.
//!
//! ```
//! use segloss::{AdapterChoice, Head, Loss, LossSpec, Plan, host};
//!
//! let (device, queue) = AdapterChoice::default().open()?;
//! let spec = LossSpec::new().head(Head::new([1, 3, 2, 2], Loss::monai_dice_ce()));
//! let plan = Plan::new(&device, &queue, &spec)?;
//! // a trainer binds its own buffers; this uploads logits and labels from the host
//! let tensors = host::HostTensors::labels(&[0.5; 12], &[0, 1, 2, 1]);
//! let result = host::run(&plan, &[tensors], 1.0)?;
//! assert!((result.report.heads[0].pixel.unwrap().value - 3.0_f32.ln()).abs() < 1e-6);
//! # Ok::<(), segloss::Error>(())
//! ```
//!
//! Mistakes are a typed [`Error`], returned when the plan is made or tensors are bound. [`mod@reference`] is the same
//! loss on the CPU in f64; `shaders/README.md` derives the mathematics.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `serde`: a [`LossSpec`] and everything in it reads and writes as JSON, TOML, ….
//! - `tuning`: module `tuning`, which finds the fastest [`Variant`] of the kernels for a device by measuring, and
//!   remembers it in a file. Implies `testing`.
//! - `testing`: module `testing`, for tests and tools: random tensors, the comparison with the reference, case files,
//!   the text of the shaders. Implies `serde`.
//! - `proptest`: random specifications in `testing`, as strategies of proptest. Implies `testing`.
//! - `burn`: module `burn`, the loss of [burn](https://burn.dev)'s tensors as a node of burn's graph.

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
pub use gpu::dispatch::{BoundRange, Recipe, Stage};
pub use layout::answers::Answers;
pub use layout::tensors::{Gradient, HeadTensors, Mask, Scalars};
pub use layout::variant::Variant;
pub use plan::{Ask, Plan, PlanOptions};
pub use report::{
    ClassCounts, GlobalSums, HeadReport, ItemCounts, NonFinite, Pending, PendingGlobalSums, PendingReport, Report,
    ReportWord, ReportWords, Term, VoxelPosition,
};
pub use spec::{
    Absent, Activation, Alpha, Average, ClassValues, ClassWeighting, Empty, FloatType, Form, HardCounts, Head,
    LabelType, Loss, LossSpec, MeanOver, MemoryFormat, Overlap, OverlapKind, Pixel, PixelKind, Product, Reduction,
    ScalarAlpha, Target, WeightMode, monai_deep_supervision, nnunet_deep_supervision, pytorch_label_smoothing,
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
