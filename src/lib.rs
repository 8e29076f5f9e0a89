//! Segmentation losses of several network heads in one GPU dispatch, and their gradient in one more.

pub mod adapter;
#[cfg(feature = "cases")]
pub mod cases;
mod error;
pub mod host;
mod plan;
pub mod reference;
mod report;
mod spec;
mod step;

pub use adapter::{AdapterChoice, open_adapter};
pub use error::{Error, Tensor};
pub use plan::{HeadTensors, Plan, Variant};
pub use report::{HeadReport, PendingReport, Report, Term, VoxelPosition};
pub use spec::{
    Activation, Empty, Form, Head, LabelType, Loss, LossSpec, Overlap, OverlapKind, Pixel, PixelKind, Reduction,
    Target, other_convention,
};
pub use step::{Commands, Step};
pub use wgpu;

/// The composed text of the shaders, to read and to validate: no device is needed.
pub mod shaders {
    pub use crate::plan::{ComposedShader, permutations, representative};
}
