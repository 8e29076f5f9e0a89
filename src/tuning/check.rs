//! Whether a variant computes what it should.

use crate::host::HostResult;
use crate::reference::Evaluation;
use crate::trial::{CANCELLING, GRADIENT_BOUND, LOSS_BOUND, SOFT_DICE_BOUND};
use crate::{FloatType, LossSpec};

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
