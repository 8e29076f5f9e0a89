//! The same loss on the CPU in f64: what the kernels are checked against.
//!
//! It reads a [`LossSpec`] and nothing of the plan, and shares no code with the kernels, only their names. Plain loops,
//! to be read beside `shaders/`: [`mod@statistics`] → [`mod@finish`] → [`mod@gradient`], with the terms of one voxel in
//! [`mod@terms`].

mod data;
pub mod finish;
pub mod gradient;
pub mod statistics;
pub mod terms;
mod voxels;

pub use data::{HeadData, TargetData};

use crate::error::Error;
use crate::spec::{LossSpec, Target};

/// What was computed of a head.
#[derive(Clone, Debug)]
pub struct HeadEvaluation {
    /// The overlap term, unweighted; 0 where the head has none.
    pub overlap: f64,
    /// The pixel term, unweighted; 0 where the head has none.
    pub pixel: f64,
    /// `2I / (P + T)` of each class over the whole batch.
    pub soft_dice: Vec<f64>,
    /// TP, FP, FN and TN of each item and class, `[N][C]`.
    pub hard_counts: Vec<Vec<[u64; 4]>>,
    /// The overlap term of each row and class before the reduction; NaN where it takes no part. Empty without the term.
    pub overlap_losses: Vec<Vec<f64>>,
    /// The pixel term of each voxel times its weight, `[N, *spatial]`; 0 where it does not count.
    pub voxel_losses: Vec<f64>,
    /// Voxels with a logit that is not finite.
    pub non_finite: u64,
    /// Voxels that counted.
    pub counted: u64,
    /// Voxels with the ignore label, or masked out.
    pub ignored: u64,
    /// Voxels whose label is neither a class nor the ignore label, or with a probability outside [0, 1].
    pub out_of_range: u64,
    /// Item and voxel of the first of them.
    pub first_out_of_range: Option<(usize, usize)>,
    /// κ: what `∂ℓ/∂z` of the pixel term is multiplied by, the upstream gradient included; the largest of all items.
    pub kappa: f64,
    /// d(total)/d(logits) times the upstream gradient, `[N, C, *spatial]`.
    pub gradient: Vec<f64>,
}

/// The loss, and all that it is made of.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// What was evaluated.
    pub spec: LossSpec,
    /// Σ over heads of the weighted terms.
    pub total: f64,
    /// One per head.
    pub heads: Vec<HeadEvaluation>,
}

/// Evaluates a specification: forward, and backward with this upstream gradient.
///
/// # Errors
/// [`Error::Spec`] for a specification that is wrong, or where a tensor is not of the head's size.
pub fn evaluate(spec: &LossSpec, data: &[HeadData<'_>], upstream: f64) -> Result<Evaluation, Error> {
    spec.validate()?;
    if data.len() != spec.heads.len() {
        return Err(Error::WrongHeadCount { expected: spec.heads.len(), given: data.len() });
    }
    let mut total = 0.0;
    let mut heads = Vec::new();
    for (index, (head, data)) in spec.heads.iter().zip(data).enumerate() {
        check_sizes(index, head, data)?;
        let statistics = statistics::statistics(head, data);
        let finished = finish::finish(head, data, &statistics);
        total += finished.total;
        heads.push(HeadEvaluation {
            overlap: finished.overlap,
            pixel: finished.pixel,
            soft_dice: finished.soft_dice.clone(),
            hard_counts: statistics.hard_counts,
            overlap_losses: finished.overlap_losses.clone(),
            voxel_losses: statistics.losses,
            non_finite: statistics.non_finite,
            counted: statistics.counted,
            ignored: statistics.ignored,
            out_of_range: statistics.out_of_range,
            first_out_of_range: statistics.first_out_of_range,
            kappa: finished.kappa.iter().fold(0.0, |most, kappa| kappa.abs().max(most)) * upstream,
            gradient: gradient::gradient(head, data, &finished, upstream),
        });
    }
    Ok(Evaluation { spec: spec.clone(), total, heads })
}

fn check_sizes(index: usize, head: &crate::spec::Head, data: &HeadData<'_>) -> Result<(), Error> {
    let all = head.items() * head.voxels();
    let target = match (data.target, head.target) {
        (TargetData::Labels(labels), Target::Labels(_)) => Some(labels.len()),
        (TargetData::Probabilities(probabilities), Target::Probabilities(_)) => Some(probabilities.len()),
        _ => None,
    };
    let wanted = |wanted: bool, size: usize| wanted.then_some(size);
    for (setting, expected, given) in [
        ("logits", Some(all * head.classes()), Some(data.logits.len())),
        ("target", Some(head.target_elements()), target),
        ("mask", wanted(head.mask, all), data.mask.map(<[u8]>::len)),
        ("weight_map", wanted(head.weight_map, all), data.weight_map.map(<[f64]>::len)),
        ("sample_mask", wanted(head.sample_mask, head.items()), data.sample_mask.map(<[u8]>::len)),
    ] {
        if expected != given {
            let words = |size: Option<usize>| size.map_or("none".to_owned(), |size| format!("{size} elements"));
            return Err(Error::Spec { head: index, setting, expected: words(expected), given: words(given) });
        }
    }
    Ok(())
}
