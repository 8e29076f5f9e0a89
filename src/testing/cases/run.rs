//! A case on a device, compared with what it expects.

use super::schema::{Case, Number};
use crate::host::{self, HostResult};
use crate::report::ClassCounts;
use crate::spec::{HardCounts, Head, LossSpec, Target};
use crate::testing::{Differences, Plans, Tensors};

/// How a case went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Loss, terms and gradient are within the tolerance: how far they are from what is expected.
    Passed(Differences),
    /// Something is not, or an error came instead; each a phrase.
    Failed(Vec<String>),
    /// The case needs what this crate has not; each a phrase.
    Unsupported(Vec<String>),
}

/// The specification and the tensors of a case.
///
/// # Errors
/// What the case needs that this crate has not; each a phrase.
pub fn trial(case: &Case) -> Result<(LossSpec, Vec<Tensors>), Vec<String>> {
    let heads: Result<Vec<_>, _> = case.heads.iter().map(super::CaseHead::to_head).collect();
    let spec = LossSpec { heads: asking(heads?, case) };
    let tensors = case.heads.iter().zip(&spec.heads).map(|(given, head)| {
        let is_labels = matches!(head.target, Target::Labels(_));
        Tensors {
            logits: to_f32(&given.logits),
            labels: if is_labels { given.labels() } else { Vec::new() },
            probabilities: if is_labels { Vec::new() } else { to_f32(&given.target.values) },
            mask: given.mask.as_ref().map(|mask| mask.values.clone()).unwrap_or_default(),
            weight_map: given.weight_map.as_ref().map(|map| map.values.clone()).unwrap_or_default(),
            sample_mask: given.sample_mask.as_ref().map(|mask| mask.values.clone()).unwrap_or_default(),
        }
    });
    let tensors = tensors.collect();
    Ok((spec, tensors))
}

/// Runs a case on the device of these plans.
#[must_use]
pub fn run(plans: &Plans, case: &Case) -> Outcome {
    let (spec, tensors) = match trial(case) {
        Ok(trial) => trial,
        Err(lacks) => return Outcome::Unsupported(lacks),
    };
    let result = plans
        .plan(&spec)
        .and_then(|plan| host::run(&plan, &tensors.iter().map(Tensors::host).collect::<Vec<_>>(), 1.0));
    let (worst, phrases) = match result {
        Ok(result) => differences(case, &result),
        Err(error) => return Outcome::Failed(vec![error.to_string()]),
    };
    if phrases.is_empty() { Outcome::Passed(worst) } else { Outcome::Failed(phrases) }
}

/// The heads ask for what the case expects of them.
fn asking(mut heads: Vec<Head>, case: &Case) -> Vec<Head> {
    for (head, expected) in heads.iter_mut().zip(case.expected.heads.iter().flatten()) {
        if expected.hard_counts.is_some() {
            head.hard_counts = HardCounts::Head;
        }
        head.unreduced = expected.overlap_losses.is_some() || expected.voxel_losses.is_some();
    }
    heads
}

/// The worst differences, and a phrase for each that is above the tolerance.
fn differences(case: &Case, result: &HostResult) -> (Differences, Vec<String>) {
    let (loss, mut phrases) = loss_differences(case, result);
    let mut all = Differences { loss, gradient: 0.0 };
    if let Some(expected) = &case.expected.grads {
        for (head, (given, expected)) in result.gradients.iter().zip(expected).enumerate() {
            let scale = expected.iter().map(|e| e.0.abs()).fold(0.0, f64::max);
            let worst = given.iter().zip(expected).map(|(&x, e)| distance(x, e.0)).fold(0.0, f64::max);
            let relative = if worst > 0.0 { worst / scale } else { 0.0 };
            all.gradient = all.gradient.max(relative);
            if given.len() != expected.len() || worst > case.tolerance.grad * scale {
                phrases.push(format!(
                    "head {head}: gradient: worst difference {worst:.3e}, {relative:.3e} of the largest"
                ));
            }
        }
    }
    (all, phrases)
}

fn loss_differences(case: &Case, result: &HostResult) -> (f64, Vec<String>) {
    let (mut worst, mut differences) = (0.0_f64, Vec::new());
    let report = &result.report;
    let mut compare = |what: String, given: f32, expected: f64| {
        let distance = distance(given, expected);
        worst = worst.max(distance / expected.abs().max(1.0));
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
        if let Some(expected) = &expected.overlap_losses {
            let given = given.overlap_losses.iter().flatten().flatten();
            each(&mut compare, &format!("head {head}: overlap_losses"), given, expected.iter().flatten());
        }
        if let Some(expected) = &expected.voxel_losses {
            let given = result.voxel_losses[head].iter().flatten();
            each(&mut compare, &format!("head {head}: voxel_losses"), given, expected);
        }
    }
    for (head, (given, expected)) in report.heads.iter().zip(case.expected.heads.iter().flatten()).enumerate() {
        let Some(expected) = &expected.hard_counts else { continue };
        let of_class = |c: &ClassCounts| [c.true_positives, c.false_positives, c.false_negatives, c.true_negatives];
        let given: Vec<_> = given.hard_counts.iter().flatten().map(of_class).collect();
        if given != *expected {
            differences.push(format!("head {head}: hard_counts: expected {expected:?}, got {given:?}"));
        }
    }
    (worst, differences)
}

/// Compares numbers one by one; one that is missing, or too many, is a difference.
fn each<'a>(
    compare: &mut impl FnMut(String, f32, f64),
    what: &str,
    given: impl IntoIterator<Item = &'a f32>,
    expected: impl IntoIterator<Item = &'a Number>,
) {
    let mut given = given.into_iter();
    for (index, expected) in expected.into_iter().enumerate() {
        compare(format!("{what}[{index}]"), given.next().copied().unwrap_or(f32::INFINITY), expected.0);
    }
    if given.next().is_some() {
        compare(format!("{what}: one too many"), f32::INFINITY, 0.0);
    }
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
