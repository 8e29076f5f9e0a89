//! The same loss on the CPU in f64: what the kernels are checked against.
//!
//! It reads a [`LossSpec`] and nothing of the plan, and shares no code with the kernels; the names are theirs. Plain loops,
//! to be read beside `shaders/`: [`statistics`](mod@statistics) → [`finish`](mod@finish) → [`gradient`](mod@gradient).

pub mod finish;
pub mod gradient;
pub mod statistics;

use crate::{Error, LossSpec};

/// The tensors of a head, on the host.
#[derive(Clone, Copy, Debug)]
pub struct HeadData<'a> {
    /// `[N, C, *spatial]`.
    pub logits: &'a [f64],
    /// `[N, *spatial]`; signed, as an `i32` tensor reads.
    pub labels: &'a [i64],
}

/// What was computed of a head.
#[derive(Clone, Debug)]
pub struct HeadEvaluation {
    /// The overlap term, unweighted; 0 where the head has none.
    pub overlap: f64,
    /// The pixel term, unweighted; 0 where the head has none.
    pub pixel: f64,
    /// `2I / (P + T)` of each class over the whole batch.
    pub soft_dice: Vec<f64>,
    /// Voxels that counted.
    pub counted: u64,
    /// Voxels with the ignore label.
    pub ignored: u64,
    /// Voxels whose label is neither a class nor the ignore label.
    pub out_of_range: u64,
    /// Item and voxel of the first of them.
    pub first_out_of_range: Option<(usize, usize)>,
    /// d(total)/d(logits) times the upstream gradient, `[N, C, *spatial]`.
    pub gradient: Vec<f64>,
}

/// The loss, and all that it is made of.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Σ over heads of the weighted terms.
    pub total: f64,
    /// One a head.
    pub heads: Vec<HeadEvaluation>,
}

/// Evaluates a specification: forward, and backward with this upstream gradient.
///
/// # Errors
/// [`Error::Spec`] for a specification that is wrong, or where a tensor has not the head's size.
pub fn evaluate(spec: &LossSpec, data: &[HeadData<'_>], upstream: f64) -> Result<Evaluation, Error> {
    spec.validate()?;
    if data.len() != spec.heads.len() {
        return Err(Error::WrongHeadCount { expected: spec.heads.len(), given: data.len() });
    }
    let mut total = 0.0;
    let mut heads = Vec::new();
    for (index, (head, data)) in spec.heads.iter().zip(data).enumerate() {
        let (items, classes, voxels) = (head.items(), head.classes(), head.voxels());
        for (setting, expected, given) in
            [("logits", items * classes * voxels, data.logits.len()), ("target", items * voxels, data.labels.len())]
        {
            if expected != given {
                let (expected, given) = (format!("{expected} elements"), given.to_string());
                return Err(Error::Spec { head: index, setting, expected, given });
            }
        }
        let statistics = statistics::statistics(head, *data);
        let finished = finish::finish(head, &statistics);
        total += finished.total;
        heads.push(HeadEvaluation {
            overlap: finished.overlap,
            pixel: finished.pixel,
            soft_dice: finished.soft_dice.clone(),
            counted: statistics.counted,
            ignored: statistics.ignored,
            out_of_range: statistics.out_of_range,
            first_out_of_range: statistics.first_out_of_range,
            gradient: gradient::gradient(head, *data, &finished, upstream),
        });
    }
    Ok(Evaluation { total, heads })
}

/// softmax of one voxel, and log softmax.
fn softmax(z: &[f64], p: &mut Vec<f64>, log_p: &mut Vec<f64>) {
    let peak = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_sum = z.iter().map(|z| (z - peak).exp()).sum::<f64>().ln();
    log_p.clear();
    log_p.extend(z.iter().map(|z| z - peak - ln_sum));
    p.clear();
    p.extend(log_p.iter().map(|l| l.exp()));
}

/// `q_k = (1 − ε) w_y [k = y] + (ε / C) w_k`
fn smoothed_target(head: &crate::Head, label: usize, q: &mut Vec<f64>) {
    q.clear();
    let Some(pixel) = &head.loss.pixel else { return };
    let classes = head.classes();
    let epsilon = f64::from(pixel.label_smoothing);
    let weight = |k: usize| pixel.class_weights.as_ref().map_or(1.0, |w| f64::from(w[k]));
    q.extend((0..classes).map(|k| {
        let on_label = if k == label { (1.0 - epsilon) * weight(label) } else { 0.0 };
        on_label + epsilon / count(classes) * weight(k)
    }));
}

/// What a label means to a head.
enum Voxel {
    Counts(usize),
    Ignored,
    OutOfRange,
}

fn classify(head: &crate::Head, label: i64) -> Voxel {
    if head.ignore_index == Some(label) {
        return Voxel::Ignored;
    }
    match usize::try_from(label) {
        Ok(class) if class < head.classes() => Voxel::Counts(class),
        _ => Voxel::OutOfRange,
    }
}

/// The logits of one voxel, class by class.
fn gather(head: &crate::Head, logits: &[f64], item: usize, voxel: usize, z: &mut Vec<f64>) {
    let (classes, voxels) = (head.classes(), head.voxels());
    z.clear();
    z.extend((0..classes).map(|c| logits[(item * classes + c) * voxels + voxel]));
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn count(n: usize) -> f64 {
    n as f64
}
