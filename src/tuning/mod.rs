//! Which variant of the kernels a plan takes: apart from the kernels themselves, whose numbers it chooses.
//!
//! Every [`Variant`] computes the same; they differ in speed alone. [`Tuning::Default`] looks the adapter's kind up in a table.
//! `Tuning::Measured`, with the feature `tuning`, remembers what was fastest for an adapter, driver and specification in a file
//! that the caller names, and measures where the file has nothing yet:
//!
//! ```no_run
//! # #[cfg(feature = "tuning")]
//! # fn plan(device: &segloss::wgpu::Device, queue: &segloss::wgpu::Queue, spec: &segloss::LossSpec) -> Result<(), segloss::Error> {
//! use segloss::{Plan, PlanOptions, Tuning, tuning::Measured};
//! let tuning = Tuning::Measured(Measured::new("segloss-tuning.json"));
//! let plan = Plan::with_options(device, queue, spec, PlanOptions { tuning, ..PlanOptions::default() })?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "tuning")]
mod candidates;
#[cfg(feature = "tuning")]
mod check;
#[cfg(feature = "tuning")]
mod clock;
#[cfg(feature = "tuning")]
mod file;
#[cfg(feature = "tuning")]
mod kept;
#[cfg(feature = "tuning")]
mod measure;
#[cfg(feature = "tuning")]
mod search;

#[cfg(feature = "tuning")]
pub use clock::{Clock, ClockKind, Encode};
#[cfg(feature = "tuning")]
pub use kept::{Inexactness, Kept};
#[cfg(feature = "tuning")]
pub use measure::{Measured, Tuned, remembered, tune};
#[cfg(feature = "tuning")]
pub use search::{Candidate, Progress, Verdict};

use crate::error::Error;
use crate::layout::variant::Variant;
use crate::spec::LossSpec;

/// How a plan comes by its variant.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Tuning {
    /// A good variant for the kind of adapter: [`Variant::for_device`].
    #[default]
    Default,
    /// What was measured to be fastest for this adapter, driver and specification. Where the file does not say, making the
    /// plan measures: it allocates, compiles, submits to the queue and waits for it, for at most the time given. On a device
    /// that cannot be measured ([`Kept`]) it is the default variant, and the next plan tries again.
    #[cfg(feature = "tuning")]
    Measured(Measured),
    /// This one.
    Fixed(Variant),
}

impl Tuning {
    /// The variant for a plan of this specification.
    #[cfg_attr(not(feature = "tuning"), expect(clippy::unnecessary_wraps, reason = "measuring may fail"))]
    pub(crate) fn variant(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &LossSpec,
    ) -> Result<Variant, Error> {
        let _ = (queue, spec);
        match self {
            Self::Default => Ok(Variant::for_device(device)),
            #[cfg(feature = "tuning")]
            Self::Measured(measured) => tune(device, queue, spec, measured, &mut |_| {}).map(|tuned| tuned.variant),
            Self::Fixed(variant) => Ok(*variant),
        }
    }
}
