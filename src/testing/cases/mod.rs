//! Case files, `segloss-cases/1`: logits, targets and settings, and the loss and gradient of a published
//! implementation.
//!
//! `read` a file; `run` a case on a device. A case that needs something this crate lacks is
//! `Outcome::Unsupported`, with what is lacking.

mod run;
mod schema;

pub use run::{Outcome, expected, run, run_in, trial};
pub use schema::{
    Case, CaseError, CaseFile, CaseHead, CaseTarget, CaseTensor, Expected, ExpectedHead, Number, Tolerance, read,
};
