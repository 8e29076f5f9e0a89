//! Case files, `segloss-cases/1` and `/2`: logits, targets and settings, and the loss and gradient of a published
//! implementation, or the setting for which a plan is refused.
//!
//! `read` a file; `run` a case on a device. A case that needs something this crate lacks is
//! `Outcome::Unsupported`, with what is lacking.

mod heads;
mod numbers;
mod run;
mod schema;
mod version_1;

pub use heads::{CaseHead, CaseTarget};
pub use numbers::{CaseTensor, Number};
pub use run::{Outcome, expected, run, run_in, trial};
pub use schema::{
    Case, CaseError, CaseFile, Expected, ExpectedHead, ExpectedMetrics, Refused, Results, Tolerance, read,
};
