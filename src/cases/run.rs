//! A case on a device, compared with what it expects.

use super::schema::{Case, Number};
use crate::host::{self, HostTarget, HostTensors};
use crate::{Error, LossSpec, Plan, Report, Target};

/// How a case went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Loss, terms and gradient are within the tolerance.
    Passed,
    /// Something is not, or an error came instead; each a phrase.
    Failed(Vec<String>),
    /// The case needs what this crate has not; each a phrase.
    Unsupported(Vec<String>),
}

/// Runs a case.
#[must_use]
pub fn run(device: &wgpu::Device, queue: &wgpu::Queue, case: &Case) -> Outcome {
    let heads: Result<Vec<_>, Vec<String>> = case.heads.iter().map(super::CaseHead::to_head).collect();
    let spec = match heads {
        Ok(heads) => LossSpec { heads },
        Err(lacks) => return Outcome::Unsupported(lacks),
    };
    match differences(device, queue, case, &spec) {
        Ok(differences) if differences.is_empty() => Outcome::Passed,
        Ok(differences) => Outcome::Failed(differences),
        Err(error) => Outcome::Failed(vec![error.to_string()]),
    }
}

fn differences(device: &wgpu::Device, queue: &wgpu::Queue, case: &Case, spec: &LossSpec) -> Result<Vec<String>, Error> {
    let logits: Vec<Vec<f32>> = case.heads.iter().map(|head| to_f32(&head.logits)).collect();
    let labels: Vec<Vec<i64>> = case.heads.iter().map(super::CaseHead::labels).collect();
    let probabilities: Vec<Vec<f32>> = case.heads.iter().map(|head| to_f32(&head.target.values)).collect();
    let tensors: Vec<_> = (0..spec.heads.len())
        .map(|i| HostTensors {
            target: match spec.heads[i].target {
                Target::Labels(_) => HostTarget::Labels(&labels[i]),
                Target::Probabilities(_) => HostTarget::Probabilities(&probabilities[i]),
            },
            mask: case.heads[i].mask.as_ref().map(|mask| &mask.values[..]),
            ..HostTensors::labels(&logits[i], &labels[i])
        })
        .collect();
    let result = host::run(&Plan::new(device, queue, spec)?, &tensors, 1.0)?;
    let mut differences = loss_differences(case, &result.report);
    if let Some(expected) = &case.expected.grads {
        for (head, (given, expected)) in result.gradients.iter().zip(expected).enumerate() {
            let scale = expected.iter().map(|e| e.0.abs()).fold(0.0, f64::max);
            let worst = given.iter().zip(expected).map(|(&x, e)| distance(x, e.0)).fold(0.0, f64::max);
            if given.len() != expected.len() || worst > case.tolerance.grad * scale {
                let relative = worst / scale;
                differences.push(format!(
                    "head {head}: gradient: worst difference {worst:.3e}, {relative:.3e} of the largest"
                ));
            }
        }
    }
    Ok(differences)
}

fn loss_differences(case: &Case, report: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: String, given: f32, expected: f64| {
        let distance = distance(given, expected);
        if distance > case.tolerance.loss * expected.abs().max(1.0) {
            differences.push(format!("{what}: expected {expected}, got {given}, difference {distance:.3e}"));
        }
    };
    compare("total".to_owned(), report.total, case.expected.loss.0);
    for (head, (given, expected)) in report.heads.iter().zip(case.expected.heads.iter().flatten()).enumerate() {
        for (term, given, expected) in
            [("overlap", given.overlap, expected.overlap), ("pixel", given.pixel, expected.pixel)]
        {
            if let Some(expected) = expected {
                let given = given.map_or(f32::NAN, |term| term.value);
                compare(format!("head {head}: {term}"), given, expected.0);
            }
        }
    }
    differences
}

/// |x − e|; 0 where both are NaN or the same infinity, infinite where only one is.
fn distance(given: f32, expected: f64) -> f64 {
    let given = f64::from(given);
    // the same bits: also two infinities, whose difference is NaN
    if given.to_bits() == expected.to_bits() || given.is_nan() && expected.is_nan() {
        return 0.0;
    }
    let distance = (given - expected).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

#[expect(clippy::cast_possible_truncation, reason = "the logits of a case are f32 numbers")]
fn to_f32(numbers: &[Number]) -> Vec<f32> {
    numbers.iter().map(|number| number.0 as f32).collect()
}
