//! Runs a case on a device, and compares the results with the expected ones.

use super::heads::CaseHead;
use super::numbers::Number;
use super::schema::{self, Case, Results};
use crate::error::Error;
use crate::host;
use crate::spec::{HardCounts, Head, LossSpec, MemoryFormat, Target};
use crate::testing::{Comparison, Differences, Expected, ExpectedHead, Plans, Tensors, Tolerance, compare};

/// The outcome of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Loss, terms and gradient are within the tolerance. Holds how far they are from the expected ones.
    Passed(Differences),
    /// Some are not, or there was an error; one phrase each.
    Failed(Vec<String>),
    /// The case needs something that this crate lacks; one phrase each.
    Unsupported(Vec<String>),
}

/// The specification and the tensors of a case.
///
/// # Errors
/// What the case needs and this crate lacks, one phrase each.
pub fn trial(case: &Case) -> Result<(LossSpec, Vec<Tensors>), Vec<String>> {
    let heads: Result<Vec<_>, _> = case.heads.iter().map(CaseHead::to_head).collect();
    let spec = LossSpec { heads: asking(heads?, case)? };
    let tensors = case.heads.iter().zip(&spec.heads).map(|(given, head)| {
        let is_labels = matches!(head.target, Target::Labels(_));
        Tensors {
            logits: to_f32(&given.logits),
            labels: if is_labels { given.labels() } else { Vec::new() },
            probabilities: if is_labels { Vec::new() } else { to_f32(&given.targets[0].values) },
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
    run_in(plans, case, MemoryFormat::ContiguousFormat)
}

/// The same with logits, probabilities and gradients in this format. Cases are contiguous: what goes to the device is permuted, and
/// what comes back.
#[must_use]
pub fn run_in(plans: &Plans, case: &Case, format: MemoryFormat) -> Outcome {
    let (mut spec, mut tensors) = match trial(case) {
        Ok(trial) => trial,
        Err(lacks) => return Outcome::Unsupported(lacks),
    };
    let results = match &case.expected {
        schema::Expected::Refused(expected) => return refusal(plans, &spec, &expected.refused),
        schema::Expected::Results(results) => results,
    };
    for (head, tensors) in spec.heads.iter_mut().zip(&mut tensors) {
        head.memory_format = format;
        if head.channels_last() {
            for values in [&mut tensors.logits, &mut tensors.probabilities] {
                *values = transposed(values, head.classes(), head.voxels());
            }
        }
    }
    let result = plans
        .plan(&spec)
        .and_then(|plan| host::run(&plan, &tensors.iter().map(Tensors::data).collect::<Vec<_>>(), 1.0));
    let mut result = match result {
        Ok(result) => result,
        Err(error) => return Outcome::Failed(vec![error.to_string()]),
    };
    for (head, gradient) in spec.heads.iter().zip(&mut result.gradients).filter(|(head, _)| head.channels_last()) {
        *gradient = transposed(gradient, head.voxels(), head.classes());
    }
    // cases have no soft Dice
    let tolerance = Tolerance { loss: case.tolerance.loss, gradient: case.tolerance.grad, ..Tolerance::DEVICE };
    let Comparison { differences, phrases } = compare(&of_results(case, results), &result, tolerance);
    if phrases.is_empty() { Outcome::Passed(differences) } else { Outcome::Failed(phrases) }
}

/// Passes where no plan is made, and the error names this setting.
fn refusal(plans: &Plans, spec: &LossSpec, setting: &str) -> Outcome {
    let names = |given: &str| given == setting || given.ends_with(&format!(".{setting}"));
    match plans.plan(spec).map(drop) {
        Err(Error::Spec { setting: given, .. }) if names(given) => Outcome::Passed(Differences::default()),
        Err(error) => Outcome::Failed(vec![format!("refused: expected an error of {setting}, got {error}")]),
        Ok(()) => Outcome::Failed(vec![format!("refused: expected an error of {setting}, got a plan")]),
    }
}

/// `[N, rows, columns]` as `[N, columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let items = values.chunks(rows * columns);
    items.flat_map(|item| (0..rows * columns).map(|at| item[at % rows * columns + at / rows])).collect()
}

/// Switches on the outputs of the heads that the case expects.
///
/// # Errors
/// Outputs that this crate lacks.
fn asking(mut heads: Vec<Head>, case: &Case) -> Result<Vec<Head>, Vec<String>> {
    let schema::Expected::Results(results) = &case.expected else { return Ok(heads) };
    for (head, expected) in heads.iter_mut().zip(results.heads.iter().flatten()) {
        head.unreduced = expected.overlap_losses.is_some() || expected.voxel_losses.is_some();
        let Some(metrics) = &expected.metrics else { continue };
        let lacks = [("confusion_matrix", &metrics.confusion_matrix), ("calibration", &metrics.calibration)];
        let lacks = lacks.iter().filter(|(_, given)| given.is_some()).map(|(name, _)| (*name).to_owned());
        let lacks: Vec<_> = lacks.collect();
        if !lacks.is_empty() {
            return Err(lacks);
        }
        if metrics.hard_counts.is_some() {
            head.hard_counts = HardCounts::Batch;
        }
    }
    Ok(heads)
}

/// The results that a case expects; `None` where it expects a refusal.
#[must_use]
pub fn expected(case: &Case) -> Option<Expected> {
    match &case.expected {
        schema::Expected::Refused(_) => None,
        schema::Expected::Results(results) => Some(of_results(case, results)),
    }
}

fn of_results(case: &Case, results: &Results) -> Expected {
    let wide = |numbers: &[Number]| numbers.iter().map(|number| number.0).collect::<Vec<_>>();
    let mut heads = vec![ExpectedHead::default(); case.heads.len()];
    for ((head, expected), given) in heads.iter_mut().zip(results.heads.iter().flatten()).zip(&case.heads) {
        for (is_overlap, term) in given.are_overlaps().into_iter().zip(expected.terms.iter().flatten()) {
            let value = if is_overlap { &mut head.overlap } else { &mut head.pixel };
            *value = term.map(|term| term.0);
        }
        head.overlap_losses = expected.overlap_losses.as_ref().map(|rows| wide(&rows.concat()));
        head.overlap_rows = expected.overlap_losses.as_ref().map_or(0, Vec::len);
        head.voxel_losses = expected.voxel_losses.as_deref().map(wide);
        let counts = expected.metrics.as_ref().and_then(|metrics| metrics.hard_counts.as_ref());
        head.hard_counts = counts.map(|counts| counts.iter().map(|c| c.map(u64::from)).collect());
    }
    for (head, expected) in heads.iter_mut().zip(results.grads.iter().flatten()) {
        head.scale = expected.iter().map(|e| e.0.abs()).fold(0.0, f64::max);
        head.gradient = Some(wide(expected));
    }
    Expected { numbers: false, total: results.loss.0, heads }
}

#[expect(clippy::cast_possible_truncation, reason = "the logits of a case are f32 numbers")]
fn to_f32(numbers: &[Number]) -> Vec<f32> {
    numbers.iter().map(|number| number.0 as f32).collect()
}
