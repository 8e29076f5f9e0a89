//! Finds the fastest variant of the kernels on a device by measuring, and remembers it in a file.
//!
//! All [`Variant`](crate::Variant)s compute the same; they differ in speed alone. A plan takes the default for its
//! adapter's kind, or one that the caller gives. [`tune`] returns the fastest for an adapter, driver and specification:
//! from the caller's file, or by measuring where the file has none yet.
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
