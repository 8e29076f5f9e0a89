//! The variant of the kernels that is fastest on a device, measured and remembered: apart from the kernels themselves, whose
//! numbers it chooses.
//!
//! Every [`Variant`](crate::Variant) computes the same; they differ in speed alone. A plan takes the default for its adapter's
//! kind, or one of the caller's. [`tune`] finds the one that was fastest for an adapter, driver and specification: in a file that
//! the caller names, or by measuring where the file has nothing yet.
//!
//! ```no_run
//! # fn plan(device: &segloss::wgpu::Device, queue: &segloss::wgpu::Queue, spec: &segloss::LossSpec) -> Result<(), segloss::Error> {
//! use segloss::{Plan, tuning};
//! let measured = tuning::Measured::new("segloss-tuning.json");
//! let tuned = tuning::tune(device, queue, spec, &measured, &mut |_| {})?;
//! let plan = Plan::with_variant(device, queue, spec, tuned.variant)?;
//! # Ok(())
//! # }
//! ```

mod candidates;
mod check;
mod clock;
mod file;
mod kept;
mod measure;
mod search;

pub use clock::{Clock, ClockKind, Encode};
pub use kept::Kept;
pub use measure::{Measured, Tuned, remembered, tune};
pub use search::{Candidate, Progress, Verdict};
