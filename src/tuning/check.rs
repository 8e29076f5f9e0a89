//! Whether a variant computes what it should.

use super::Inexactness;
use crate::host::HostResult;
use crate::reference::Evaluation;
use crate::spec::{FloatType, LossSpec};
use crate::testing::{self, CANCELLING, Differences, GRADIENT_BOUND, LOSS_BOUND, SOFT_DICE_BOUND};

/// What a device may be off and still be called inexact, not wrong.
const MOST_INEXACT: f64 = 1e-4;

/// What a variant computes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Right,
    /// Further off than a right one, by at most [`MOST_INEXACT`]. That is the device's arithmetic, if it is the default.
    Inexact(Inexactness),
    /// Something else: what differs.
    Wrong(String),
}

impl Outcome {
    /// Of a step on the small copy, against the reference.
    pub(super) fn new(spec: &LossSpec, given: HostResult, expected: &Evaluation) -> Self {
        match testing::compare(spec, given.clone(), expected) {
            Ok(_) => Self::Right,
            Err(difference) => inexactness(spec, given, expected).map_or(Self::Wrong(difference), Self::Inexact),
        }
    }
}

/// How far a result is off the reference's; `None` where that is more than [`MOST_INEXACT`], or where something differs that
/// has to be equal. [`testing::differences`] refuses what is off further than its own bounds in the soft Dice, and
/// [`testing::without_rounding`] leaves the rounding in what is off further than its own: both are taken out here first.
fn inexactness(spec: &LossSpec, mut given: HostResult, expected: &Evaluation) -> Option<Inexactness> {
    let mut worst_dice = 0.0_f64;
    let heads = spec.heads.iter().zip(&mut given.report.heads).zip(&mut given.gradients).zip(&expected.heads);
    for (((head, report), gradient), expected) in heads {
        for (dice, &expected) in report.soft_dice.iter_mut().zip(&expected.soft_dice) {
            let difference = (f64::from(*dice) - expected).abs();
            // not where either is NaN
            if difference <= MOST_INEXACT {
                worst_dice = worst_dice.max(difference);
                *dice = narrow(expected);
            }
        }
        let (relative, least) = rounding(head.logits);
        for (x, &e) in gradient.iter_mut().zip(&expected.gradient) {
            *x = nearer(*x, e, (relative * e.abs()).max(least));
        }
    }
    let Differences { loss, gradient } = testing::differences(&given, expected).ok()?;
    (loss.max(gradient) <= MOST_INEXACT).then_some(Inexactness { loss, gradient, soft_dice: worst_dice })
}

/// `x`, nearer to `expected` by `step`, and not past it.
fn nearer(x: f32, expected: f64, step: f64) -> f32 {
    let difference = f64::from(x) - expected;
    // what is NaN stays NaN
    narrow(if difference.abs() <= step { expected } else { f64::from(x) - step * difference.signum() })
}

fn narrow(value: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "the nearest f32 is meant")]
    let value = value as f32;
    value
}

/// What a step on the whole tensors should give: what another variant gave.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    total: f64,
    heads: Vec<ExpectedHead>,
}

#[derive(Clone, Debug)]
struct ExpectedHead {
    terms: [Option<f64>; 2],
    soft_dice: Vec<f64>,
    counted: u64,
    gradient: Vec<f32>,
    /// How far a gradient may be off, as a part of its largest element; infinite where it is not compared.
    tolerance: f64,
    /// And besides, however small that is: a gradient of f16 may lie among the type's smallest numbers.
    least: f64,
}

impl Expected {
    /// `small` is what the reference gives on a small copy: of a gradient that cancels it says how much. Gradients that may
    /// differ as much as they are large are not compared: those that cancel to nothing, and those of a top-k, where another
    /// order of the same sum may pick another voxel.
    pub(super) fn new(spec: &LossSpec, result: HostResult, small: &Evaluation) -> Self {
        let HostResult { report, gradients, .. } = result;
        let heads = spec.heads.iter().zip(report.heads).zip(gradients).zip(&small.heads);
        let heads = heads.map(|(((head, report), gradient), small)| {
            let top_k = head.loss.pixel.as_ref().is_some_and(|p| p.top_k(head.items() * head.voxels()).is_some());
            let (relative, least) = rounding(head.logits);
            let largest = small.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
            // what cancels has an error of its own, however small the rest
            let scale = largest.max(CANCELLING * small.kappa.abs());
            let compared = !top_k && largest > 0.0;
            ExpectedHead {
                terms: [report.overlap, report.pixel].map(|term| term.map(|term| f64::from(term.value))),
                soft_dice: report.soft_dice.iter().map(|&dice| f64::from(dice)).collect(),
                counted: report.counted.into(),
                gradient,
                // both are rounded
                tolerance: if compared { GRADIENT_BOUND * scale / largest + 2.04 * relative } else { f64::INFINITY },
                least: 2.0 * least,
            }
        });
        Self { total: report.total.into(), heads: heads.collect() }
    }

    /// The first difference that is too large.
    pub(super) fn difference(&self, given: &HostResult) -> Option<String> {
        let off = |given: f32, expected: f64, tolerance: f64| {
            let given = f64::from(given);
            let same = given.is_nan() && expected.is_nan() || given.to_bits() == expected.to_bits();
            // a difference that is NaN is too large
            let near = (given - expected).abs() <= tolerance * expected.abs().max(1.0);
            (!same && !near).then(|| format!("expected {expected}, got {given}"))
        };
        if let Some(difference) = off(given.report.total, self.total, LOSS_BOUND) {
            return Some(format!("the total: {difference}"));
        }
        for (index, (expected, report)) in self.heads.iter().zip(&given.report.heads).enumerate() {
            let terms = [("overlap", report.overlap), ("pixel", report.pixel)].into_iter().zip(expected.terms);
            for ((name, given), expected) in terms {
                let Some(expected) = expected else { continue };
                if let Some(difference) = off(given.map_or(f32::NAN, |term| term.value), expected, LOSS_BOUND) {
                    return Some(format!("head {index}: {name}: {difference}"));
                }
            }
            let mut classes = report.soft_dice.iter().zip(&expected.soft_dice).enumerate();
            let dice =
                classes.find_map(|(class, (&given, &expected))| Some(class).zip(off(given, expected, SOFT_DICE_BOUND)));
            if let Some((class, difference)) = dice {
                return Some(format!("head {index}: soft Dice of class {class}: {difference}"));
            }
            if u64::from(report.counted) != expected.counted {
                let (expected, given) = (expected.counted, report.counted);
                return Some(format!("head {index}: voxels that count: expected {expected}, got {given}"));
            }
            if let Some(difference) = expected.gradient_difference(&given.gradients[index]) {
                return Some(format!("head {index}: {difference}"));
            }
        }
        None
    }
}

impl ExpectedHead {
    fn gradient_difference(&self, given: &[f32]) -> Option<String> {
        if self.tolerance.is_infinite() {
            return None;
        }
        let largest = self.gradient.iter().fold(0.0_f32, |a, g| a.max(g.abs()));
        let bound = self.tolerance * f64::from(largest) + self.least;
        let far = |(x, e): (&f32, &f32)| {
            // also where the difference is NaN
            let near = f64::from(x - e).abs() <= bound;
            !(near || x.is_nan() && e.is_nan())
        };
        let at = given.iter().zip(&self.gradient).position(far)?;
        Some(format!("gradient: element {at}: expected {}, got {}", self.gradient[at], given[at]))
    }
}

/// Half a step of the type's significant bits, and of its smallest numbers.
fn rounding(float: FloatType) -> (f64, f64) {
    match float {
        FloatType::F32 => (0.0, 0.0),
        FloatType::F16 => (2.0_f64.powi(-11), 2.0_f64.powi(-25)),
        FloatType::Bf16 => (2.0_f64.powi(-8), 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::HeadEvaluation;
    use crate::report::{HeadReport, Report, Term};
    use crate::spec::{Head, Loss};
    use crate::testing::{Tensors, evaluate};

    /// What the reference gives, as a device gives it that rounds nothing but the gradients to their type.
    fn exact(spec: &LossSpec, expected: &Evaluation) -> HostResult {
        let term = |value: f64| Some(Term { value: narrow(value), weighted: narrow(value) });
        let report = |head: &HeadEvaluation| HeadReport {
            overlap: term(head.overlap),
            pixel: term(head.pixel),
            soft_dice: head.soft_dice.iter().map(|&dice| narrow(dice)).collect(),
            hard_counts: None,
            item_counts: None,
            overlap_losses: None,
            non_finite: None,
            counted: u32::try_from(head.counted).expect("few"),
            ignored: u32::try_from(head.ignored).expect("few"),
            out_of_range: 0,
            first_out_of_range: None,
            by_weight: 0.0,
            by_overlap_weight: 0.0,
            by_pixel_weight: 0.0,
        };
        let rounded = |(head, expected): (&Head, &HeadEvaluation)| {
            let gradient = expected.gradient.iter().map(|&g| narrow(g));
            match head.logits {
                FloatType::F16 => gradient.map(|g| half::f16::from_f32(g).to_f32()).collect(),
                _ => gradient.collect(),
            }
        };
        HostResult {
            report: Report { total: narrow(expected.total), heads: expected.heads.iter().map(report).collect() },
            gradients: spec.heads.iter().zip(&expected.heads).map(rounded).collect(),
            voxel_losses: vec![None; spec.heads.len()],
        }
    }

    fn trial(float: FloatType) -> (LossSpec, Evaluation) {
        let spec = LossSpec::new().head(Head::new([1, 3, 8, 8], Loss::monai_dice_ce()).logits(float));
        let tensors: Vec<_> = spec.heads.iter().map(|head| Tensors::random(head, 4.0, 1)).collect();
        let expected = evaluate(&spec, &tensors, 1.0).expect("evaluated");
        (spec, expected)
    }

    /// The outcome where every loss, gradient and soft Dice is off by parts of 1.
    fn off(float: FloatType, loss: f64, gradient: f64, soft_dice: f64) -> Outcome {
        let (spec, mut perturbed) = trial(float);
        let expected = perturbed.clone();
        let head = &mut perturbed.heads[0];
        let largest = head.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
        head.gradient.iter_mut().for_each(|g| *g += gradient * largest);
        head.soft_dice.iter_mut().for_each(|dice| *dice += soft_dice);
        perturbed.total += loss * perturbed.total.max(1.0);
        Outcome::new(&spec, exact(&spec, &perturbed), &expected)
    }

    #[test]
    fn a_device_that_is_off_by_less_than_the_bounds_is_right() {
        for float in [FloatType::F32, FloatType::F16] {
            assert_eq!(off(float, 0.0, 0.0, 0.0), Outcome::Right);
            assert_eq!(off(float, 1e-6, 2e-6, 2e-6), Outcome::Right);
        }
    }

    #[test]
    fn a_device_that_is_off_by_up_to_a_part_in_ten_thousand_is_inexact_and_by_how_much_is_said() {
        for float in [FloatType::F32, FloatType::F16] {
            for given in [[5e-5, 0.0, 0.0], [0.0, 5e-5, 0.0], [0.0, 0.0, 5e-5], [9e-5, 8e-5, 7e-5]] {
                let [loss, gradient, soft_dice] = given;
                let Outcome::Inexact(found) = off(float, loss, gradient, soft_dice) else { panic!("{given:?}") };
                for (found, given) in [found.loss, found.gradient, found.soft_dice].into_iter().zip(given) {
                    // the rounding of f16 hides a part of what is off
                    assert!((found - given).abs() <= 1e-6, "{float:?}: {found:?} of {given:?}");
                }
            }
        }
    }

    #[test]
    fn a_device_that_is_off_further_in_anything_or_counts_other_voxels_is_wrong() {
        for float in [FloatType::F32, FloatType::F16] {
            for [loss, gradient, soft_dice] in [[2e-4, 0.0, 0.0], [0.0, 2e-4, 0.0], [0.0, 0.0, 2e-4]] {
                let outcome = off(float, loss, gradient, soft_dice);
                assert!(matches!(outcome, Outcome::Wrong(_)), "{float:?}: {outcome:?}");
            }
            let (spec, expected) = trial(float);
            let mut given = exact(&spec, &expected);
            given.report.heads[0].counted += 1;
            assert_eq!(
                Outcome::new(&spec, given, &expected),
                Outcome::Wrong("head 0: counted: expected 64, got 65".to_owned())
            );
            let mut given = exact(&spec, &expected);
            given.gradients[0][5] = f32::NAN;
            assert!(matches!(Outcome::new(&spec, given, &expected), Outcome::Wrong(_)));
        }
    }
}
