//! `segloss-cases/1`: logits, targets and settings, and the loss and gradient that a published implementation gives.
//!
//! [`read`] a file; [`run`] a case on a device. A case that needs what this crate has not yet is
//! [`Outcome::Unsupported`], with what it lacks: never guessed.

mod run;
mod schema;

pub use run::{Outcome, run, trial};
pub use schema::{
    Case, CaseError, CaseFile, CaseHead, CaseTarget, CaseTensor, Expected, ExpectedHead, Number, Tolerance, read,
};
