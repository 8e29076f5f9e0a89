//! What the reference makes of random tensors, and how far a device is from it.

use super::compare::{Differences, Expected, Tolerance, compare};
use super::tensors::Tensors;
use crate::error::Error;
use crate::host::HostResult;
use crate::reference::{self, Evaluation};
use crate::spec::LossSpec;

/// The reference's loss and gradients.
///
/// # Errors
/// Those of [`reference::evaluate`].
pub fn evaluate(spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> Result<Evaluation, Error> {
    let wide: Vec<_> = tensors.iter().map(Tensors::wide).collect();
    let data: Vec<_> = wide.iter().map(Tensors::data).collect();
    reference::evaluate(spec, &data, f64::from(upstream))
}

/// How far a device's result is from the reference's.
///
/// # Errors
/// The differences in words, where they exceed [`Tolerance::DEVICE`].
pub fn check(given: &HostResult, expected: &Evaluation) -> Result<Differences, String> {
    compare(&Expected::of_evaluation(expected), given, Tolerance::DEVICE).tolerated()
}
