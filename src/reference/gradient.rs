//! dtotal/dz of every logit; see shaders/gradient.wgsl.

use super::finish::Finished;
use super::{HeadData, Voxel, classify, gather, smoothed_target, softmax};
use crate::Head;

/// `[N, C, *spatial]`; exactly 0 where a voxel does not count.
pub(super) fn gradient(head: &Head, data: HeadData<'_>, finished: &Finished, upstream: f64) -> Vec<f64> {
    let (items, classes, voxels) = (head.items(), head.classes(), head.voxels());
    let squared = head.loss.overlap.as_ref().is_some_and(|o| o.squared);
    let mut dz = vec![0.0; data.logits.len()];
    let (mut z, mut p, mut log_p, mut q) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for item in 0..items {
        for voxel in 0..voxels {
            let Voxel::Counts(label) = classify(head, data.labels[item * voxels + voxel]) else { continue };
            gather(head, data.logits, item, voxel, &mut z);
            softmax(&z, &mut p, &mut log_p);
            smoothed_target(head, label, &mut q);
            // ∂total/∂p of the overlap term
            let g = |c: usize| {
                let by_i = if c == label { finished.alpha[item][c] } else { 0.0 };
                let by_p = finished.beta[item][c] * if squared { 2.0 * p[c] } else { 1.0 };
                by_i + by_p
            };
            let mean: f64 = (0..classes).map(|c| p[c] * g(c)).sum();
            let q_sum: f64 = q.iter().sum();
            for c in 0..classes {
                let pixel = q.get(c).map_or(0.0, |q| finished.kappa * (p[c] * q_sum - q));
                dz[(item * classes + c) * voxels + voxel] = upstream * (p[c] * (g(c) - mean) + pixel);
            }
        }
    }
    dz
}
