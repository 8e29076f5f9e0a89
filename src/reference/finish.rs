//! From the statistics to the loss and the coefficients of the gradient; see shaders/finish.wgsl.

use super::count;
use super::statistics::Statistics;
use crate::spec::{Empty, Form, OverlapKind};
use crate::{Head, Overlap, Reduction};

/// What the finish stage knows of a head.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The overlap term, unweighted.
    pub overlap: f64,
    /// The pixel term, unweighted.
    pub pixel: f64,
    /// What the head adds to the total.
    pub total: f64,
    /// `2I / (P + T)` of each class over the whole batch.
    pub soft_dice: Vec<f64>,
    /// `α = ∂total/∂I`, `[N][C]`.
    pub alpha: Vec<Vec<f64>>,
    /// `β = ∂total/∂P`, `[N][C]`.
    pub beta: Vec<Vec<f64>>,
    /// `κ`: what a voxel's `∂ℓ/∂z` is multiplied by.
    pub kappa: f64,
}

pub(super) fn finish(head: &Head, sums: &Statistics) -> Finished {
    let zeros = vec![vec![0.0; head.classes()]; head.items()];
    let all = |rows: &[Vec<f64>], c: usize| rows.iter().map(|row| row[c]).sum::<f64>();
    let mut finished = Finished {
        overlap: 0.0,
        pixel: 0.0,
        total: 0.0,
        soft_dice: (0..head.classes()).map(|c| 2.0 * all(&sums.i, c) / (all(&sums.p, c) + all(&sums.t, c))).collect(),
        alpha: zeros.clone(),
        beta: zeros,
        kappa: 0.0,
    };
    overlap_term(head, sums, &mut finished);
    pixel_term(head, sums, &mut finished);
    finished
}

fn overlap_term(head: &Head, sums: &Statistics, finished: &mut Finished) {
    let Some(overlap) = &head.loss.overlap else { return };
    let (items, classes) = (head.items(), head.classes());
    // with `batch`, one row that all items share
    let rows: Vec<Vec<usize>> =
        if overlap.batch { vec![(0..items).collect()] } else { (0..items).map(|item| vec![item]).collect() };
    let first_class = usize::from(!overlap.include_background && classes > 1);
    let share = match overlap.reduction {
        Reduction::Mean => 1.0 / count(rows.len() * (classes - first_class)),
        Reduction::Sum => 1.0,
    };
    let outer = f64::from(head.weight) * f64::from(overlap.weight);
    for row in &rows {
        for c in first_class..classes {
            let sum = |of: &[Vec<f64>]| row.iter().map(|&item| of[item][c]).sum::<f64>();
            let class_weight = overlap.class_weights.as_ref().map_or(1.0, |w| f64::from(w[c - first_class]));
            let (f, by_i, by_p) = ratio(overlap, sum(&sums.i), sum(&sums.p), sum(&sums.t));
            finished.overlap += share * class_weight * f;
            for &item in row {
                finished.alpha[item][c] = outer * share * class_weight * by_i;
                finished.beta[item][c] = outer * share * class_weight * by_p;
            }
        }
    }
    finished.total += outer * finished.overlap;
}

/// f and its derivatives by I and P.
fn ratio(overlap: &Overlap, i: f64, p: f64, t: f64) -> (f64, f64, f64) {
    let (nr, dr) = (f64::from(overlap.smooth_nr), f64::from(overlap.smooth_dr));
    let (num, num_by_i) = (2.0 * i + nr, 2.0);
    let (mut den, mut den_by_i, mut den_by_p) = match overlap.kind {
        OverlapKind::Dice => (p + t + dr, 0.0, 1.0),
        OverlapKind::Jaccard => (2.0 * (p + t - i) + dr, -2.0, 2.0),
    };
    if let Some(floor) = overlap.denominator_floor.map(f64::from)
        && den < floor
    {
        (den, den_by_i, den_by_p) = (floor, 0.0, 0.0);
    }
    let form = match overlap.form {
        Form::OneMinus => 1.0,
        Form::Negative => 0.0,
    };
    // quotient rule
    let by_i = -(num_by_i * den - num * den_by_i) / (den * den);
    let by_p = num * den_by_p / (den * den);
    (form - num / den, by_i, by_p)
}

fn pixel_term(head: &Head, sums: &Statistics, finished: &mut Finished) {
    let Some(pixel) = &head.loss.pixel else { return };
    let weight = |c: usize| pixel.class_weights.as_ref().map_or(1.0, |w| f64::from(w[c]));
    let outer = f64::from(head.weight) * f64::from(pixel.weight);
    let denominator = match pixel.reduction {
        Reduction::Sum => 1.0,
        Reduction::Mean => sums.t.iter().flat_map(|row| row.iter().enumerate()).map(|(c, t)| weight(c) * t).sum(),
    };
    if denominator == 0.0 {
        finished.pixel = match pixel.empty {
            Empty::Zero => 0.0,
            Empty::Nan => f64::NAN,
        };
    } else {
        finished.pixel = sums.pixel / denominator;
        finished.kappa = outer / denominator;
    }
    finished.total += outer * finished.pixel;
}
