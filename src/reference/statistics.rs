//! Sums over voxels; see shaders/statistics.wgsl.

use super::{HeadData, Voxel, classify, gather, smoothed_target, softmax};
use crate::Head;

/// The statistics of a head.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `I = Σ m p t` per item and class, `[N][C]`.
    pub i: Vec<Vec<f64>>,
    /// `P = Σ m p`, or `Σ m p²` with `squared`.
    pub p: Vec<Vec<f64>>,
    /// `T = Σ m t`.
    pub t: Vec<Vec<f64>>,
    /// `Σ m ℓ` of the pixel term.
    pub pixel: f64,
    /// Voxels that counted.
    pub counted: u64,
    /// Voxels with the ignore label.
    pub ignored: u64,
    /// Voxels whose label is neither a class nor the ignore label.
    pub out_of_range: u64,
    /// Item and voxel of the first of them.
    pub first_out_of_range: Option<(usize, usize)>,
}

/// One pass over the voxels.
pub(super) fn statistics(head: &Head, data: HeadData<'_>) -> Statistics {
    let (items, classes, voxels) = (head.items(), head.classes(), head.voxels());
    let squared = head.loss.overlap.as_ref().is_some_and(|o| o.squared);
    let zeros = || vec![vec![0.0; classes]; items];
    let mut sums = Statistics {
        i: zeros(),
        p: zeros(),
        t: zeros(),
        pixel: 0.0,
        counted: 0,
        ignored: 0,
        out_of_range: 0,
        first_out_of_range: None,
    };
    let (mut z, mut p, mut log_p, mut q) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for item in 0..items {
        for voxel in 0..voxels {
            let label = match classify(head, data.labels[item * voxels + voxel]) {
                Voxel::Counts(label) => label,
                Voxel::Ignored => {
                    sums.ignored += 1;
                    continue;
                }
                Voxel::OutOfRange => {
                    sums.out_of_range += 1;
                    sums.first_out_of_range.get_or_insert((item, voxel));
                    continue;
                }
            };
            sums.counted += 1;
            gather(head, data.logits, item, voxel, &mut z);
            softmax(&z, &mut p, &mut log_p);
            smoothed_target(head, label, &mut q);
            sums.i[item][label] += p[label];
            sums.t[item][label] += 1.0;
            for (sum, p) in sums.p[item].iter_mut().zip(&p) {
                *sum += if squared { p * p } else { *p };
            }
            sums.pixel -= q.iter().zip(&log_p).map(|(q, l)| q * l).sum::<f64>();
        }
    }
    sums
}
