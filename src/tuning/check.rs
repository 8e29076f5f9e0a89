//! Whether a variant's results are right.

use crate::host::HostResult;
use crate::reference::Evaluation;
use crate::spec::LossSpec;
use crate::testing::compare::CANCELLING;
use crate::testing::{Differences, Expected, Tolerance, compare};

/// The largest error of a device that is inexact; beyond it, the device is wrong.
const MOST_INEXACT: f64 = 1e-4;

/// How right a variant's results are.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Right,
    /// Beyond the tolerance, but off by at most [`MOST_INEXACT`]. For the default variant that is the device's
    /// arithmetic.
    Inexact(Differences),
    /// Off by more; what differs.
    Wrong(String),
}

impl Outcome {
    /// The outcome of a step on the small copy, against the reference.
    pub(super) fn new(given: &HostResult, expected: &Evaluation) -> Self {
        let expected = Expected::of_evaluation(expected);
        if compare(&expected, given, Tolerance::DEVICE).phrases.is_empty() {
            return Self::Right;
        }
        match compare(&expected, given, Tolerance::all(MOST_INEXACT)).tolerated() {
            Ok(differences) => Self::Inexact(differences),
            Err(phrases) => Self::Wrong(phrases),
        }
    }

    /// The outcome of a step on the whole tensors, against the default variant's results.
    pub(super) fn of_whole(given: &HostResult, expected: &Expected) -> Self {
        compare(expected, given, Tolerance::DEVICE).tolerated().map_or_else(Self::Wrong, |_| Self::Right)
    }
}

/// What a step on the whole tensors should give: `result`, of the default variant.
///
/// `small` is the reference's result on a small copy, from which follows how far a gradient cancels. A gradient whose
/// error may be as large as itself is not compared: one that cancels to 0, and one of a top-k, where another order of
/// the same sum may pick another voxel.
pub(super) fn whole(spec: &LossSpec, result: &HostResult, small: &Evaluation) -> Expected {
    let mut all = Expected::of_result(spec, result);
    for ((head, expected), small) in spec.heads.iter().zip(&mut all.heads).zip(&small.heads) {
        let top_k = head.loss.pixel.as_ref().is_some_and(|p| p.top_k(head.items() * head.voxels()).is_some());
        let largest = small.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
        if top_k || largest == 0.0 {
            expected.gradient = None;
        } else {
            // the error is relative to what cancels, however small the remainder
            expected.scale *= (CANCELLING * small.kappa.abs() / largest).max(1.0);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::HeadEvaluation;
    use crate::report::{HeadReport, Report, Term};
    use crate::spec::{FloatType, Head, Loss};
    use crate::testing::{Tensors, evaluate};

    fn narrow(value: f64) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "the nearest f32 is meant")]
        let value = value as f32;
        value
    }

    /// The reference's result as that of a device that rounds only the gradients, to their type.
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
            d_weight: 0.0,
            d_overlap_weight: 0.0,
            d_pixel_weight: 0.0,
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
        Outcome::new(&exact(&spec, &perturbed), &expected)
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
                    // the tolerated rounding of f16 hides a part of the error
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
                Outcome::new(&given, &expected),
                Outcome::Wrong("head 0: counted: expected 64, got 65".to_owned())
            );
            let mut given = exact(&spec, &expected);
            given.gradients[0][5] = f32::NAN;
            assert!(matches!(Outcome::new(&given, &expected), Outcome::Wrong(_)));
        }
    }
}
