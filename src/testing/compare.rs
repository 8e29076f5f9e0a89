//! The one comparison of what a step gave with what it should give.

use std::fmt;

use crate::host::HostResult;
use crate::reference::{Evaluation, HeadEvaluation};
use crate::report::{ClassCounts, HeadReport};
use crate::spec::{FloatType, HardCounts, Head, LossSpec};

/// A gradient smaller than this part of κ counts as cancelled.
pub(crate) const CANCELLING: f64 = 0.05;

/// How far off a result may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The total, the terms and the unreduced losses, relative to max(1, |expected|).
    pub loss: f64,
    /// The gradient, in addition to its rounding to the type, relative to [`ExpectedHead::scale`].
    pub gradient: f64,
    /// The soft Dice of a class, absolute. It has no smoothing constants.
    pub soft_dice: f64,
}

impl Tolerance {
    /// The tolerance of a device's arithmetic against the f64 reference.
    pub const DEVICE: Self = Self { loss: 2e-6, gradient: 4e-6, soft_dice: 4e-6 };

    /// The same tolerance for all results.
    #[must_use]
    pub const fn all(most: f64) -> Self {
        Self { loss: most, gradient: most, soft_dice: most }
    }
}

/// What a step should give. A `None` is not compared; a `Some` that the result lacks is a difference.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Whether the total, the terms and the gradients have to be numbers: a NaN is a difference even beside a NaN.
    pub numbers: bool,
    /// The total.
    pub total: f64,
    /// One per head.
    pub heads: Vec<ExpectedHead>,
}

/// What a step should give for a head.
#[derive(Clone, Debug, Default)]
pub struct ExpectedHead {
    /// The overlap term, unweighted.
    pub overlap: Option<f64>,
    /// The pixel term, unweighted.
    pub pixel: Option<f64>,
    /// The soft Dice of each class over the whole batch.
    pub soft_dice: Option<Vec<f64>>,
    /// The numbers of voxels that count, that are ignored, and whose label is out of range.
    pub voxels: Option<[u64; 3]>,
    /// Item and voxel of the first label out of range.
    pub first_out_of_range: Option<Option<(usize, usize)>>,
    /// Voxels with a logit that is not finite.
    pub non_finite: Option<u64>,
    /// TP, FP, FN, TN of each class.
    pub hard_counts: Option<Vec<[u64; 4]>>,
    /// The same per item.
    pub item_counts: Option<Vec<Vec<[u64; 4]>>>,
    /// The overlap term of each row and class before its reduction, row-major.
    pub overlap_losses: Option<Vec<f64>>,
    /// Their rows.
    pub overlap_rows: usize,
    /// The pixel term of each voxel.
    pub voxel_losses: Option<Vec<f64>>,
    /// The gradient of the logits.
    pub gradient: Option<Vec<f64>>,
    /// What a difference of the gradient is relative to.
    pub scale: f64,
    /// The rounding error of the gradient's type: relative to the element, and the least absolute one.
    pub rounding: [f64; 2],
}

impl Expected {
    /// The reference's result.
    #[must_use]
    pub fn of_evaluation(evaluation: &Evaluation) -> Self {
        let heads = evaluation.spec.heads.iter().zip(&evaluation.heads);
        let heads = heads.map(|(head, evaluation)| ExpectedHead::of_evaluation(head, evaluation)).collect();
        Self { numbers: true, total: evaluation.total, heads }
    }

    /// The result of another device or variant. The tolerance then covers the rounding to the type twice, once per
    /// result.
    #[must_use]
    pub fn of_result(spec: &LossSpec, result: &HostResult) -> Self {
        let report = &result.report;
        let heads = spec.heads.iter().enumerate().map(|(index, head)| {
            let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
            let gradient = wide(&result.gradients[index]);
            let (scale, rounding) = (largest(&gradient), rounding(head.logits).map(|part| 2.04 * part));
            let of_gradient = Self::of_gradient(gradient, scale, rounding);
            let Some(report) = report.heads.get(index) else { return of_gradient };
            ExpectedHead {
                overlap: report.overlap.map(|term| term.value.into()),
                pixel: report.pixel.map(|term| term.value.into()),
                soft_dice: Some(wide(&report.soft_dice)),
                voxels: Some(voxels(report)),
                ..of_gradient
            }
        });
        Self { numbers: false, total: report.total.into(), heads: heads.collect() }
    }

    fn of_gradient(gradient: Vec<f64>, scale: f64, rounding: [f64; 2]) -> ExpectedHead {
        ExpectedHead { gradient: Some(gradient), scale, rounding, ..ExpectedHead::default() }
    }
}

impl ExpectedHead {
    fn of_evaluation(head: &Head, evaluation: &HeadEvaluation) -> Self {
        let over_items = |c: usize| {
            let items = evaluation.hard_counts.iter();
            items.fold([0; 4], |sum, item| std::array::from_fn(|which| sum[which] + item[c][which]))
        };
        let counted = head.hard_counts != HardCounts::None;
        let of_items = head.hard_counts == HardCounts::Item;
        let (overlap, pixel) = (head.loss.overlap.is_some(), head.loss.pixel.is_some());
        // where a gradient nearly cancels, its error is relative to what cancels
        let scale = largest(&evaluation.gradient).max(CANCELLING * evaluation.kappa.abs());
        Self {
            overlap: overlap.then_some(evaluation.overlap),
            pixel: pixel.then_some(evaluation.pixel),
            soft_dice: Some(evaluation.soft_dice.clone()),
            voxels: Some([evaluation.counted, evaluation.ignored, evaluation.out_of_range]),
            first_out_of_range: Some(evaluation.first_out_of_range),
            non_finite: head.check_finite.then_some(evaluation.non_finite),
            hard_counts: counted.then(|| (0..head.classes()).map(over_items).collect()),
            item_counts: of_items.then(|| evaluation.hard_counts.clone()),
            overlap_losses: (head.unreduced && overlap).then(|| evaluation.overlap_losses.concat()),
            overlap_rows: evaluation.overlap_losses.len(),
            voxel_losses: head.voxel_losses().then(|| evaluation.voxel_losses.clone()),
            gradient: Some(evaluation.gradient.clone()),
            scale: if scale < 1e-9 { 1.0 } else { scale },
            rounding: rounding(head.logits),
        }
    }
}

/// How far apart two results are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Differences {
    /// The largest difference of the total, the terms and the unreduced losses, relative to max(1, |expected|).
    pub loss: f64,
    /// The largest difference of the gradients, beyond their rounding to the type, relative to the head's largest
    /// gradient. Where a gradient nearly cancels (one class; a softmax that equals its smoothed target), it is relative
    /// to a part of what cancels: κ of the pixel term.
    pub gradient: f64,
    /// The largest difference of the soft Dice, absolute.
    pub soft_dice: f64,
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, gradient, soft_dice } = self;
        let most = Tolerance::DEVICE;
        write!(
            f,
            "expected a loss within {:.0e}, a gradient within {:.0e} and a soft Dice within {:.0e}, got {loss:.1e}, \
             {gradient:.1e} and {soft_dice:.1e}",
            most.loss, most.gradient, most.soft_dice
        )
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// How far apart the results are.
    pub differences: Differences,
    /// What exceeds the tolerance, or should be equal and is not; one phrase each.
    pub phrases: Vec<String>,
}

impl Comparison {
    /// The differences, if all are tolerated.
    ///
    /// # Errors
    /// The phrases, joined.
    pub fn tolerated(self) -> Result<Differences, String> {
        if self.phrases.is_empty() { Ok(self.differences) } else { Err(self.phrases.join("; ")) }
    }
}

/// Compares what a step gave with what it should give.
#[must_use]
pub fn compare(expected: &Expected, given: &HostResult, tolerance: Tolerance) -> Comparison {
    let mut found = Found { tolerance, ..Found::default() };
    if expected.numbers {
        found.numbers(expected);
    }
    found.loss("total", given.report.total, expected.total);
    for (index, expected) in expected.heads.iter().enumerate() {
        found.head = format!("head {index}: ");
        found.report(given.report.heads.get(index), expected);
        found.list(
            "voxel_losses",
            given.voxel_losses.get(index).and_then(Option::as_ref),
            expected.voxel_losses.as_ref(),
        );
        if let Some(gradient) = &expected.gradient {
            found.gradient(given.gradients.get(index).map_or(&[], Vec::as_slice), gradient, expected);
        }
    }
    found.comparison
}

/// A comparison in progress.
#[derive(Default)]
struct Found {
    tolerance: Tolerance,
    head: String,
    comparison: Comparison,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::DEVICE
    }
}

impl Found {
    fn say(&mut self, phrase: fmt::Arguments<'_>) {
        self.comparison.phrases.push(format!("{}{phrase}", self.head));
    }

    fn equal<T: PartialEq + fmt::Debug>(&mut self, what: &str, given: &T, expected: &T) {
        if given != expected {
            self.say(format_args!("{what}: expected {expected:?}, got {given:?}"));
        }
    }

    fn numbers(&mut self, expected: &Expected) {
        let is_nan = |value: Option<f64>| value.is_some_and(f64::is_nan);
        let of_head = |head: &ExpectedHead| {
            is_nan(head.overlap) || is_nan(head.pixel) || head.gradient.iter().flatten().any(|g| g.is_nan())
        };
        if expected.total.is_nan() || expected.heads.iter().any(of_head) {
            self.say(format_args!("expected numbers, but the reference has a NaN in its total, a term or a gradient"));
        }
    }

    fn loss(&mut self, what: &str, given: f32, expected: f64) {
        let off = distance(given, expected) / expected.abs().max(1.0);
        self.comparison.differences.loss = self.comparison.differences.loss.max(off);
        if off > self.tolerance.loss {
            self.say(format_args!("{what}: expected {expected}, got {given}, off by {off:.1e}"));
        }
    }

    fn report(&mut self, given: Option<&HeadReport>, expected: &ExpectedHead) {
        let term = |term: fn(&HeadReport) -> Option<crate::report::Term>| {
            given.and_then(term).map_or(f32::NAN, |term| term.value)
        };
        if let Some(overlap) = expected.overlap {
            self.loss("overlap", term(|report| report.overlap), overlap);
        }
        if let Some(pixel) = expected.pixel {
            self.loss("pixel", term(|report| report.pixel), pixel);
        }
        if let Some(soft_dice) = &expected.soft_dice {
            self.soft_dice(given.map_or(&[], |report| &report.soft_dice), soft_dice);
        }
        if let Some(expected) = expected.voxels {
            let given = given.map(voxels).unwrap_or_default();
            for (which, name) in ["counted", "ignored", "out_of_range"].iter().enumerate() {
                self.equal(name, &given[which], &expected[which]);
            }
        }
        if let Some(expected) = expected.first_out_of_range {
            let first = given.and_then(|report| report.first_out_of_range);
            let first = first.map(|first| (first.item as usize, first.voxel as usize));
            self.equal("first_out_of_range", &first, &expected);
        }
        if let Some(expected) = expected.non_finite {
            let logits = given.and_then(|report| report.non_finite).map(|non_finite| non_finite.logits.into());
            self.equal("non_finite.logits", &logits, &Some(expected));
        }
        if expected.hard_counts.is_some() {
            let counts = given.and_then(|report| report.hard_counts.as_deref()).map(wide_counts);
            self.equal("hard_counts", &counts, &expected.hard_counts);
        }
        if expected.item_counts.is_some() {
            let items = given.and_then(|report| report.item_counts.as_ref());
            let counts = items.map(|items| items.iter().map(|item| wide_counts(&item.classes)).collect::<Vec<_>>());
            self.equal("item_counts", &counts, &expected.item_counts);
            let counted = items.into_iter().flatten().map(|item| u64::from(item.counted)).sum::<u64>();
            self.equal("counted of items", &Some(counted), &expected.voxels.map(|[counted, ..]| counted));
        }
        let rows = given.and_then(|report| report.overlap_losses.as_ref()).map(|rows| rows.concat());
        self.list("overlap_losses", rows.as_ref(), expected.overlap_losses.as_ref());
    }

    fn soft_dice(&mut self, given: &[f32], expected: &[f64]) {
        self.equal("classes of soft_dice", &given.len(), &expected.len());
        for (class, (&given, &expected)) in given.iter().zip(expected).enumerate() {
            let off = distance(given, expected);
            self.comparison.differences.soft_dice = self.comparison.differences.soft_dice.max(off);
            if off > self.tolerance.soft_dice {
                self.say(format_args!("soft Dice of class {class}: expected {expected}, got {given}"));
            }
        }
    }

    /// Compares unreduced losses; only the worst is reported.
    fn list(&mut self, what: &str, given: Option<&Vec<f32>>, expected: Option<&Vec<f64>>) {
        let Some(expected) = expected else { return };
        let given = given.map_or(&[][..], Vec::as_slice);
        self.equal(&format!("numbers of {what}"), &given.len(), &expected.len());
        let off =
            |&(_, (given, expected)): &(usize, (&f32, &f64))| distance(*given, *expected) / expected.abs().max(1.0);
        let worst = given.iter().zip(expected).enumerate().max_by(|one, other| off(one).total_cmp(&off(other)));
        if let Some((index, (&given, &expected))) = worst {
            self.loss(&format!("{what}[{index}]"), given, expected);
        }
    }

    /// Compares a gradient; only the worst element is reported.
    fn gradient(&mut self, given: &[f32], gradient: &[f64], expected: &ExpectedHead) {
        self.equal("elements of the gradient", &given.len(), &gradient.len());
        let [relative, least] = expected.rounding;
        let off = |(&x, &e): (&f32, &f64)| (distance(x, e) - (relative * e.abs()).max(least)).max(0.0);
        let all = given.iter().zip(gradient).map(off).enumerate();
        let worst = all.fold((0, 0.0), |worst, one| if one.1 > worst.1 { one } else { worst });
        let (at, off) = (worst.0, if worst.1 > 0.0 { worst.1 / expected.scale } else { 0.0 });
        self.comparison.differences.gradient = self.comparison.differences.gradient.max(off);
        if off > self.tolerance.gradient {
            let (expected, given) = (gradient[at], given[at]);
            self.say(format_args!("gradient[{at}]: expected {expected}, got {given}, off by {off:.1e} of the largest"));
        }
    }
}

/// |given − expected|; 0 where both are NaN or the same infinity, infinite where only one is.
fn distance(given: f32, expected: f64) -> f64 {
    let given = f64::from(given);
    // equal numbers first: the difference of two infinities is NaN
    if given.to_bits() == expected.to_bits() || given.is_nan() && expected.is_nan() {
        return 0.0;
    }
    let distance = (given - expected).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

fn largest(gradient: &[f64]) -> f64 {
    gradient.iter().fold(0.0_f64, |largest, g| largest.max(g.abs()))
}

/// Half a unit in the last place of a type: relative, and that of its subnormals.
fn rounding(float: FloatType) -> [f64; 2] {
    match float {
        FloatType::F32 => [0.0, 0.0],
        FloatType::F16 => [2.0_f64.powi(-11), 2.0_f64.powi(-25)],
        FloatType::Bf16 => [2.0_f64.powi(-8), 0.0],
    }
}

fn voxels(report: &HeadReport) -> [u64; 3] {
    [report.counted, report.ignored, report.out_of_range].map(u64::from)
}

fn wide_counts(counts: &[ClassCounts]) -> Vec<[u64; 4]> {
    let of_class = |c: &ClassCounts| [c.true_positives, c.false_positives, c.false_negatives, c.true_negatives];
    counts.iter().map(|counts| of_class(counts).map(u64::from)).collect()
}
