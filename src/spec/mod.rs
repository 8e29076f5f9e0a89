//! What the user asks for: heads, their loss terms, their targets. No GPU in here.
//!
//! Setting names are those of MONAI and PyTorch: `label_smoothing`, `ignore_index`, `include_background`, `smooth_nr`,
//! `reduction`.

mod check;
mod head;
mod loss_spec;
mod overlap;
#[cfg(feature = "serde")]
mod overlap_text;
mod pixel;
#[cfg(feature = "serde")]
mod pixel_text;
mod presets;
mod reduction;
#[cfg(feature = "serde")]
mod text;
mod types;
mod validate;

pub use head::{HardCounts, Head, Loss};
pub use loss_spec::LossSpec;
pub use overlap::{Absent, Average, ClassWeighting, Form, Overlap, OverlapKind, Product};
pub use pixel::{Alpha, Empty, MeanOver, Pixel, PixelKind, ScalarAlpha, pytorch_label_smoothing};
pub use presets::{WeightMode, monai_deep_supervision, nnunet_deep_supervision};
pub use reduction::Reduction;
pub use types::{Activation, ClassValues, FloatType, LabelType, MemoryFormat, Target};
