//! Sums over voxels; see shaders/statistics.wgsl.

use super::data::{HeadData, TargetData};
use super::terms::{activate, pixel, predicted, product};
use super::voxels::{Voxel, gather, voxel};
use crate::spec::Head;

/// The statistics of a head.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `I = Σ m p t` per item and class, `[N][C]`; with the minimum as product `Σ m min(p, t)`.
    pub i: Vec<Vec<f64>>,
    /// `P = Σ m p`, or `Σ m p²` with `squared`.
    pub p: Vec<Vec<f64>>,
    /// `T = Σ m t`, or `Σ m t²` with `squared`.
    pub t: Vec<Vec<f64>>,
    /// `Σ m ℓ` of the pixel term, per item.
    pub pixel: Vec<f64>,
    /// `m ℓ` of every voxel, `[N, *spatial]`; 0 where it does not count.
    pub losses: Vec<f64>,
    /// `Σ m`, per item.
    pub mass: Vec<f64>,
    /// TP, FP, FN and TN per item and class, `[N][C]`.
    pub hard_counts: Vec<Vec<[u64; 4]>>,
    /// Voxels with a logit that is not finite.
    pub non_finite: u64,
    /// Voxels that counted.
    pub counted: u64,
    /// Voxels with the ignore label, or masked out.
    pub ignored: u64,
    /// Voxels out of range.
    pub out_of_range: u64,
    /// Item and voxel of the first of them.
    pub first_out_of_range: Option<(usize, usize)>,
    /// Voxels that counted, of each item.
    pub counted_of_item: Vec<u64>,
}

/// One pass over the voxels.
pub(super) fn statistics(head: &Head, data: &HeadData<'_>) -> Statistics {
    let (items, classes, voxels) = (head.items(), head.classes(), head.voxels());
    let overlap = head.loss.overlap.as_ref();
    let squared = overlap.is_some_and(|o| o.squared);
    let measure = |x: f64| if squared { x * x } else { x };
    let zeros = || vec![vec![0.0; classes]; items];
    let mut sums = Statistics {
        i: zeros(),
        p: zeros(),
        t: zeros(),
        pixel: vec![0.0; items],
        losses: vec![0.0; items * voxels],
        mass: vec![0.0; items],
        hard_counts: vec![vec![[0; 4]; classes]; items],
        non_finite: 0,
        counted: 0,
        ignored: 0,
        out_of_range: 0,
        first_out_of_range: None,
        counted_of_item: vec![0; items],
    };
    let (mut z, mut t) = (Vec::new(), Vec::new());
    for item in 0..items {
        for v in 0..voxels {
            gather(head, data.logits, item, v, &mut z);
            sums.non_finite += u64::from(z.iter().any(|z| !z.is_finite()));
            let m = match voxel(head, data, item, v, &mut t) {
                Voxel::Counts(m) => m,
                Voxel::Ignored => {
                    sums.ignored += 1;
                    continue;
                }
                Voxel::OutOfRange => {
                    sums.out_of_range += 1;
                    sums.first_out_of_range.get_or_insert((item, v));
                    continue;
                }
            };
            // a probability out of range counts all the same
            if matches!(data.target, TargetData::Probabilities(_)) && t.iter().any(|t| !(0.0..=1.0).contains(t)) {
                sums.out_of_range += 1;
                sums.first_out_of_range.get_or_insert((item, v));
            }
            sums.counted += 1;
            sums.counted_of_item[item] += 1;
            for (c, says) in predicted(head.loss.activation, &z).into_iter().enumerate() {
                // TP, FP, FN, TN
                let which = if t[c] > 0.5 { 2 - 2 * usize::from(says) } else { 3 - 2 * usize::from(says) };
                sums.hard_counts[item][c][which] += 1;
            }
            // a voxel of weight 0 adds nothing, whatever it holds
            if m == 0.0 {
                continue;
            }
            sums.mass[item] += m;
            let p = activate(head.loss.activation, &z);
            for c in 0..classes {
                sums.i[item][c] += m * product(overlap, p[c], t[c]).0;
                sums.p[item][c] += m * measure(p[c]);
                sums.t[item][c] += m * measure(t[c]);
            }
            let loss = m * pixel(head, &z, &t).0;
            sums.losses[item * voxels + v] = loss;
            sums.pixel[item] += loss;
        }
    }
    sums
}
