//! A specification on random tensors: how far a device's step is from the f64 reference.
//!
//! For tools, tuners and tests; a trainer has tensors of its own.

pub mod cases;
#[cfg(feature = "proptest")]
pub mod draw;
mod kinds;
pub mod shaders;
mod small;

pub use kinds::{overlap_kinds, pixel_kinds, reductions};
pub use small::small_copy;

use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::host::{self, HostResult, HostTarget, HostTensors};
use crate::layout::variant::Variant;
use crate::plan::Plan;
use crate::reference::{self, Evaluation, HeadData, HeadEvaluation, TargetData};
use crate::report::{ClassCounts, HeadReport};
use crate::spec::{FloatType, Head, LossSpec, Target};

/// The tensors of a head on the host; those that it has not are empty.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    /// `[N, C, *spatial]`; numbers that the head's type holds.
    pub logits: Vec<f32>,
    /// `[N, *spatial]`, where the target is labels.
    pub labels: Vec<i64>,
    /// `[N, C, *spatial]`, where the target is probabilities.
    pub probabilities: Vec<f32>,
    /// `[N, *spatial]`.
    pub mask: Vec<u8>,
    /// `[N, *spatial]`.
    pub weight_map: Vec<f32>,
    /// `[N]`.
    pub sample_mask: Vec<u8>,
}

impl Tensors {
    /// Random logits in ± `spread`, and a random target: classes, and where the head has one, the ignore label; or
    /// probabilities, one in three of them 0 or 1.
    #[must_use]
    pub fn random(head: &Head, spread: f32, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (items, classes, voxels) = (head.items(), head.classes(), head.items() * head.voxels());
        let logits: Vec<f32> = (0..voxels * classes).map(|_| spread * (random.f32() * 2.0 - 1.0)).collect();
        let mut tensors = Self { logits: rounded(&logits, head.logits), ..Self::default() };
        match head.target {
            Target::Labels(_) => {
                let mut label = || match head.ignore_index {
                    Some(ignored) if random.u8(0..4) == 0 => ignored,
                    // one channel has two labels
                    _ => i64::try_from(random.usize(0..classes.max(2))).unwrap_or(0),
                };
                tensors.labels = (0..head.target_elements()).map(|_| label()).collect();
            }
            Target::Probabilities(float) => {
                let mut probability = || match random.u8(0..6) {
                    0 => 0.0,
                    1 => 1.0,
                    _ => random.f32(),
                };
                let probabilities: Vec<f32> = (0..head.target_elements()).map(|_| probability()).collect();
                tensors.probabilities = rounded(&probabilities, float);
            }
        }
        let size = |wanted: bool, size: usize| if wanted { size } else { 0 };
        tensors.mask = (0..size(head.mask, voxels)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
        tensors.weight_map = (0..size(head.weight_map, voxels)).map(|_| random.f32() * 2.0).collect();
        tensors.sample_mask = (0..size(head.sample_mask, items)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
        tensors
    }

    /// As [`host::run`] takes them.
    #[must_use]
    pub fn host(&self) -> HostTensors<'_> {
        let labels = HostTarget::Labels(&self.labels);
        HostTensors {
            logits: &self.logits,
            target: some(&self.probabilities).map_or(labels, HostTarget::Probabilities),
            mask: some(&self.mask),
            weight_map: some(&self.weight_map),
            sample_mask: some(&self.sample_mask),
        }
    }
}

/// The plans of who makes many on a device: those of one variant are siblings ([`Plan::sibling`]), so that a kernel's text is
/// compiled once.
#[derive(Debug)]
pub struct Plans {
    device: wgpu::Device,
    queue: wgpu::Queue,
    firsts: Mutex<Vec<(Variant, Plan)>>,
}

impl Plans {
    /// Of no plan yet.
    #[must_use]
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        Self { device: device.clone(), queue: queue.clone(), firsts: Mutex::default() }
    }

    /// One more, as [`Plan::new`] makes it.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, spec: &LossSpec) -> Result<Plan, Error> {
        self.with_variant(spec, Variant::for_device(&self.device))
    }

    /// One more, of this variant.
    ///
    /// # Errors
    /// As [`Plan::with_variant`].
    pub fn with_variant(&self, spec: &LossSpec, variant: Variant) -> Result<Plan, Error> {
        let mut firsts = self.firsts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, first)) = firsts.iter().find(|(of, _)| *of == variant) {
            return first.sibling(spec);
        }
        let plan = Plan::with_variant(&self.device, &self.queue, spec, variant)?;
        firsts.push((variant, plan.clone()));
        Ok(plan)
    }
}

/// Tensors in f64, as the reference takes them.
#[derive(Clone, Debug)]
pub struct WideTensors<'a> {
    /// `[N, C, *spatial]`.
    pub logits: Vec<f64>,
    probabilities: Vec<f64>,
    weight_map: Vec<f64>,
    tensors: &'a Tensors,
}

impl<'a> WideTensors<'a> {
    /// The same numbers.
    #[must_use]
    pub fn new(tensors: &'a Tensors) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
        Self {
            logits: wide(&tensors.logits),
            probabilities: wide(&tensors.probabilities),
            weight_map: wide(&tensors.weight_map),
            tensors,
        }
    }

    /// As [`reference::evaluate`] takes them.
    #[must_use]
    pub fn data(&self) -> HeadData<'_> {
        let labels = TargetData::Labels(&self.tensors.labels);
        HeadData {
            logits: &self.logits,
            target: some(&self.probabilities).map_or(labels, TargetData::Probabilities),
            mask: some(&self.tensors.mask),
            weight_map: some(&self.weight_map),
            sample_mask: some(&self.tensors.sample_mask),
        }
    }
}

/// What the reference says.
///
/// # Errors
/// Those of [`reference::evaluate`].
pub fn evaluate(spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> Result<Evaluation, Error> {
    let wide: Vec<_> = tensors.iter().map(WideTensors::new).collect();
    let data: Vec<_> = wide.iter().map(WideTensors::data).collect();
    reference::evaluate(spec, &data, f64::from(upstream))
}

/// What a loss may be off.
pub const LOSS_BOUND: f64 = 2e-6;
/// What a gradient may be off, beside the one rounding to its type.
pub const GRADIENT_BOUND: f64 = 4e-6;
/// What a soft Dice may be off, which no constant smooths.
pub(crate) const SOFT_DICE_BOUND: f64 = 4e-6;
/// The part of κ below which a gradient counts as cancelled.
pub(crate) const CANCELLING: f64 = 0.05;

/// How far apart two results are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Differences {
    /// The worst of the total, the terms and the unreduced losses, relative to max(1, |expected|).
    pub loss: f64,
    /// The worst of the gradients, relative to the largest of its head. Where a gradient nearly cancels (one class; a softmax
    /// that meets its smoothed target), it is relative to a part of what cancels: κ of the pixel term.
    pub gradient: f64,
}

impl Differences {
    /// Refuses what is off by more than [`LOSS_BOUND`] and [`GRADIENT_BOUND`].
    ///
    /// # Errors
    /// A phrase.
    pub fn within_bounds(self) -> Result<Self, String> {
        let Self { loss, gradient } = self;
        if loss <= LOSS_BOUND && gradient <= GRADIENT_BOUND {
            return Ok(self);
        }
        Err(format!("the loss is off by {loss:.1e}, the gradient by {gradient:.1e}"))
    }
}

/// How far a device's result is from the reference's, beside the one rounding of gradients to their type; not more than the
/// bounds.
///
/// # Errors
/// A phrase: those of [`differences`] and [`Differences::within_bounds`].
pub fn compare(spec: &LossSpec, given: HostResult, expected: &Evaluation) -> Result<Differences, String> {
    differences(&without_rounding(spec, given, expected), expected)?.within_bounds()
}

/// How far a device's result is from the reference's.
///
/// # Errors
/// A phrase, where something differs that has to be equal (a count, a position), is not finite in one of the two alone, or a
/// soft Dice is off by as much as a gradient may be.
pub fn differences(given: &HostResult, expected: &Evaluation) -> Result<Differences, String> {
    let mut all = Differences { loss: relative("total", given.report.total, expected.total)?, gradient: 0.0 };
    let heads = given.report.heads.iter().zip(&given.gradients).zip(&expected.heads);
    for (index, ((report, dz), expected)) in heads.enumerate() {
        let in_head = |phrase: String| format!("head {index}: {phrase}");
        let voxel_losses = given.voxel_losses.get(index).and_then(Option::as_ref);
        all.loss = all.loss.max(of_report(report, expected).map_err(in_head)?);
        all.loss = all.loss.max(of_outputs(report, voxel_losses, expected).map_err(in_head)?);
        all.gradient = all.gradient.max(of_gradient(dz, expected).map_err(in_head)?);
    }
    Ok(all)
}

fn relative(what: &str, given: f32, expected: f64) -> Result<f64, String> {
    let difference = (f64::from(given) - expected).abs() / expected.abs().max(1.0);
    if difference.is_nan() { Err(format!("{what}: expected {expected}, got {given}")) } else { Ok(difference) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, given: &T, expected: &T) -> Result<(), String> {
    if given == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {given:?}")) }
}

/// Terms, soft Dice and the voxels that counted.
fn of_report(report: &HeadReport, expected: &HeadEvaluation) -> Result<f64, String> {
    let overlap = report.overlap.map_or(Ok(0.0), |term| relative("overlap", term.value, expected.overlap))?;
    let pixel = report.pixel.map_or(Ok(0.0), |term| relative("pixel", term.value, expected.pixel))?;
    equal("counted", &u64::from(report.counted), &expected.counted)?;
    equal("ignored", &u64::from(report.ignored), &expected.ignored)?;
    equal("out_of_range", &u64::from(report.out_of_range), &expected.out_of_range)?;
    let first = report.first_out_of_range.map(|first| (first.item as usize, first.voxel as usize));
    equal("first_out_of_range", &first, &expected.first_out_of_range)?;
    for (class, (given, expected)) in report.soft_dice.iter().zip(&expected.soft_dice).enumerate() {
        let same = given.is_nan() && expected.is_nan() || (f64::from(*given) - expected).abs() < SOFT_DICE_BOUND;
        if !same {
            return Err(format!("soft Dice of class {class}: expected {expected}, got {given}"));
        }
    }
    Ok(overlap.max(pixel))
}

/// What a head asks for: counts are equal; the worst difference of unreduced losses, relative to max(1, |expected|).
fn of_outputs(report: &HeadReport, voxel_losses: Option<&Vec<f32>>, expected: &HeadEvaluation) -> Result<f64, String> {
    let wide = |counts: &[ClassCounts]| -> Vec<[u64; 4]> {
        let of_class = |c: &ClassCounts| [c.true_positives, c.false_positives, c.false_negatives, c.true_negatives];
        counts.iter().map(|c| of_class(c).map(u64::from)).collect()
    };
    if let Some(counts) = &report.hard_counts {
        let over_items = |c: usize| {
            expected
                .hard_counts
                .iter()
                .fold([0; 4], |sum, item| std::array::from_fn(|which| sum[which] + item[c][which]))
        };
        equal("hard_counts", &wide(counts), &(0..counts.len()).map(over_items).collect())?;
    }
    if let Some(items) = &report.item_counts {
        equal("item_counts", &items.iter().map(|item| wide(&item.classes)).collect(), &expected.hard_counts)?;
        equal("counted of items", &items.iter().map(|item| u64::from(item.counted)).sum(), &expected.counted)?;
    }
    if let Some(non_finite) = report.non_finite {
        equal("non_finite.logits", &u64::from(non_finite.logits), &expected.non_finite)?;
    }
    let worst = |given: &[f32], expected: &[f64]| -> Result<f64, String> {
        equal("unreduced losses", &given.len(), &expected.len())?;
        given.iter().zip(expected).try_fold(0.0_f64, |worst, (&x, &e)| match (x.is_nan(), e.is_nan()) {
            (true, true) => Ok(worst),
            _ => Ok(worst.max(relative("an unreduced loss", x, e)?)),
        })
    };
    let mut all = voxel_losses.map_or(Ok(0.0), |losses| worst(losses, &expected.voxel_losses))?;
    if let Some(rows) = &report.overlap_losses {
        equal("rows of overlap_losses", &rows.len(), &expected.overlap_losses.len())?;
        for (given, expected) in rows.iter().zip(&expected.overlap_losses) {
            all = all.max(worst(given, expected)?);
        }
    }
    Ok(all)
}

fn of_gradient(dz: &[f32], expected: &HeadEvaluation) -> Result<f64, String> {
    equal("elements of the gradient", &dz.len(), &expected.gradient.len())?;
    let largest = expected.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
    let mut worst = 0.0_f64;
    for (&x, e) in dz.iter().zip(&expected.gradient) {
        let difference = (f64::from(x) - e).abs();
        if difference.is_nan() {
            return Err(format!("gradient: expected {e}, got {x}"));
        }
        worst = worst.max(difference);
    }
    let scale = largest.max(CANCELLING * expected.kappa.abs());
    Ok(if worst > 0.0 { worst / if scale < 1e-9 { 1.0 } else { scale } } else { 0.0 })
}

/// Takes the one rounding to f16 or bf16 out of the gradients: a value within it of the reference's, beside f32 arithmetic's
/// own error, becomes the reference's. Others stay as they are.
#[must_use]
pub fn without_rounding(spec: &LossSpec, mut given: HostResult, expected: &Evaluation) -> HostResult {
    for ((head, dz), expected) in spec.heads.iter().zip(&mut given.gradients).zip(&expected.heads) {
        // half a step of 11 or 8 significant bits, and of the smallest subnormal
        let (relative, least) = match head.logits {
            FloatType::F32 => continue,
            FloatType::F16 => (2.0_f64.powi(-11), 2.0_f64.powi(-25)),
            FloatType::Bf16 => (2.0_f64.powi(-8), 0.0),
        };
        let largest = expected.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
        for (x, e) in dz.iter_mut().zip(&expected.gradient) {
            if (f64::from(*x) - e).abs() <= (relative * e.abs()).max(least) + 4e-6 * largest.max(1e-3) {
                #[expect(clippy::cast_possible_truncation, reason = "within the bound that is checked")]
                let near = *e as f32;
                *x = near;
            }
        }
    }
    given
}

/// The numbers that a type holds nearest to these.
fn rounded(values: &[f32], float: FloatType) -> Vec<f32> {
    let mut held = host::floats_of_bytes(&host::float_bytes(values, float), float);
    held.truncate(values.len());
    held
}

fn some<T>(values: &[T]) -> Option<&[T]> {
    (!values.is_empty()).then_some(values)
}
