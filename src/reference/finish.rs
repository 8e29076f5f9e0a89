//! From the statistics to the loss and the coefficients of the gradient; see shaders/finish.wgsl.

use super::data::HeadData;
use super::statistics::Statistics;
use super::terms::count;
use crate::spec::{ClassWeighting, Empty, Form, Head, Overlap, OverlapKind, PixelKind, Reduction, Target};

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
    /// The overlap term of each row and class, its class weight included; NaN where it takes no part in the mean.
    pub overlap_losses: Vec<Vec<f64>>,
    /// `∂total/∂I`, `[N][C]`.
    pub by_i: Vec<Vec<f64>>,
    /// `∂total/∂P`, `[N][C]`.
    pub by_p: Vec<Vec<f64>>,
    /// `κ`: what a voxel's `∂ℓ/∂z` is multiplied by, per item.
    pub kappa: Vec<f64>,
    /// Whether the overlap term counts: neither its weight nor the head's is 0.
    pub overlap_is_on: bool,
    /// Whether the pixel term counts.
    pub pixel_is_on: bool,
    /// What each voxel is worth in the pixel term, `[N, *spatial]`: 1, or with a top-k 1 above its threshold, a share at it,
    /// 0 below.
    pub shares: Vec<f64>,
}

pub(super) fn finish(head: &Head, data: &HeadData<'_>, sums: &Statistics) -> Finished {
    let zeros = vec![vec![0.0; head.classes()]; head.items()];
    let all = |rows: &[Vec<f64>], c: usize| rows.iter().map(|row| row[c]).sum::<f64>();
    let mut finished = Finished {
        overlap: 0.0,
        pixel: 0.0,
        total: 0.0,
        soft_dice: (0..head.classes()).map(|c| 2.0 * all(&sums.i, c) / (all(&sums.p, c) + all(&sums.t, c))).collect(),
        overlap_losses: Vec::new(),
        by_i: zeros.clone(),
        by_p: zeros,
        kappa: vec![0.0; head.items()],
        overlap_is_on: false,
        pixel_is_on: false,
        shares: vec![1.0; sums.losses.len()],
    };
    overlap_term(head, data, sums, &mut finished);
    pixel_term(head, sums, &mut finished);
    finished
}

/// I, P and T of one row and class.
#[derive(Clone, Copy)]
struct Sums {
    i: f64,
    p: f64,
    t: f64,
}

/// f, and its derivatives by I and P.
#[derive(Clone, Copy)]
struct Slopes {
    f: f64,
    by_i: f64,
    by_p: f64,
}

fn overlap_term(head: &Head, data: &HeadData<'_>, sums: &Statistics, finished: &mut Finished) {
    let Some(overlap) = &head.loss.overlap else { return };
    let (items, classes) = (head.items(), head.classes());
    // with `batch`, one row that all items share; an item that a sample mask leaves out is no row
    let mut rows: Vec<Vec<usize>> =
        if overlap.batch { vec![(0..items).collect()] } else { (0..items).map(|item| vec![item]).collect() };
    let first_class = usize::from(!overlap.include_background && classes > 1);
    let of_row = if matches!(overlap.kind, OverlapKind::GeneralizedDice { .. }) { 1 } else { classes - first_class };
    finished.overlap_losses = vec![vec![f64::NAN; of_row]; rows.len()];
    if data.sample_mask.is_some() && !overlap.batch {
        rows.retain(|row| sums.counted_of_item[row[0]] > 0);
    }
    let outer = f64::from(head.weight) * f64::from(overlap.weight);
    let unweighted = overlap.ignore_single_class_weight && classes - first_class == 1;
    for row in &rows {
        let sum = |of: &[Vec<f64>], c: usize| row.iter().map(|&item| of[item][c]).sum::<f64>();
        let of_class: Vec<Sums> = (first_class..classes)
            .map(|c| Sums { i: sum(&sums.i, c), p: sum(&sums.p, c), t: sum(&sums.t, c) })
            .collect();
        let (slopes, terms) = row_slopes(overlap, &of_class);
        // an item's row, or the one of the batch
        let unreduced = &mut finished.overlap_losses[if overlap.batch { 0 } else { row[0] }];
        let class_weight =
            |k: usize| overlap.class_weights.as_ref().filter(|_| !unweighted).map_or(1.0, |w| f64::from(w[k]));
        for (k, f) in unreduced.iter_mut().enumerate().filter(|(k, _)| !absent(overlap, &of_class[*k])) {
            *f = if class_weight(k) == 0.0 { 0.0 } else { class_weight(k) * slopes[k].f };
        }
        let share = match overlap.reduction {
            Reduction::Mean => 1.0 / (count(rows.len()) * count(terms.max(1))),
            Reduction::Sum => 1.0,
            Reduction::SumOfItemMeans => unreachable!("refused"),
        };
        for (k, slopes) in slopes.iter().enumerate() {
            let class_weight = class_weight(k);
            if class_weight == 0.0 {
                continue;
            }
            finished.overlap += share * class_weight * slopes.f;
            for &item in row {
                finished.by_i[item][first_class + k] = outer * share * class_weight * slopes.by_i;
                finished.by_p[item][first_class + k] = outer * share * class_weight * slopes.by_p;
            }
        }
    }
    finished.overlap_is_on = outer != 0.0;
    if finished.overlap_is_on {
        finished.total += outer * finished.overlap;
    }
}

/// The losses of a row's classes, and how many there are in its mean.
fn row_slopes(overlap: &Overlap, classes: &[Sums]) -> (Vec<Slopes>, usize) {
    let (nr, dr) = (f64::from(overlap.smooth_nr), f64::from(overlap.smooth_dr));
    if let OverlapKind::GeneralizedDice { class_weighting } = overlap.kind {
        let weights = class_weights(class_weighting, classes);
        let weighted = |of: fn(&Sums) -> f64| weights.iter().zip(classes).map(|(w, s)| w * of(s)).sum::<f64>();
        let (num, den) = (2.0 * weighted(|s| s.i) + nr, weighted(|s| s.p + s.t) + dr);
        let slopes = weights.iter().enumerate().map(|(k, &w)| {
            let slopes = quotient(overlap, num, den, [2.0 * w, 0.0, w]);
            // one loss per row, counted at its first class
            Slopes { f: if k == 0 { slopes.f } else { 0.0 }, ..slopes }
        });
        return (slopes.collect(), 1);
    }
    let slopes = classes.iter().map(|sums| {
        if absent(overlap, sums) {
            return Slopes { f: 0.0, by_i: 0.0, by_p: 0.0 };
        }
        let Sums { i, p, t } = *sums;
        match overlap.kind {
            OverlapKind::Jaccard => quotient(overlap, 2.0 * i + nr, 2.0 * (p + t - i) + dr, [2.0, -2.0, 2.0]),
            OverlapKind::Tversky { alpha, beta } => {
                let (alpha, beta) = (f64::from(alpha), f64::from(beta));
                let den = i + alpha * (p - i) + beta * (t - i) + dr;
                quotient(overlap, i + nr, den, [1.0, 1.0 - alpha - beta, alpha])
            }
            OverlapKind::Dice => quotient(overlap, 2.0 * i + nr, p + t + dr, [2.0, 0.0, 1.0]),
            OverlapKind::GeneralizedDice { .. } => unreachable!("one ratio per row: above"),
        }
    });
    (slopes.collect(), classes.iter().filter(|sums| !absent(overlap, sums)).count())
}

/// Whether a class takes no part in its row's mean.
fn absent(overlap: &Overlap, sums: &Sums) -> bool {
    overlap.present_classes_only && sums.t == 0.0
}

/// The weights of generalized Dice.
fn class_weights(weighting: ClassWeighting, classes: &[Sums]) -> Vec<f64> {
    let weights: Vec<f64> = classes
        .iter()
        .map(|sums| match weighting {
            ClassWeighting::Square => 1.0 / (sums.t * sums.t),
            ClassWeighting::Simple => 1.0 / sums.t,
            ClassWeighting::Uniform => 1.0,
        })
        .collect();
    let largest = weights.iter().copied().filter(|w| w.is_finite()).fold(0.0, f64::max);
    weights.into_iter().map(|w| if w.is_finite() { w } else { largest }).collect()
}

/// The form of num/den, by the quotient rule; `by` are the derivatives of num by I, of den by I, of den by P.
fn quotient(overlap: &Overlap, num: f64, den: f64, by: [f64; 3]) -> Slopes {
    let [num_by_i, mut den_by_i, mut den_by_p] = by;
    let mut den = den;
    if let Some(floor) = overlap.denominator_floor.map(f64::from)
        && den < floor
    {
        (den, den_by_i, den_by_p) = (floor, 0.0, 0.0);
    }
    let ratio = num / den;
    // the loss, and its derivative by the ratio
    let (f, by_ratio) = match overlap.form {
        Form::OneMinus => (1.0 - ratio, -1.0),
        Form::Negative => (-ratio, -1.0),
        Form::Log { eps } if ratio < f64::from(eps) => (-f64::from(eps).ln(), 0.0),
        Form::Log { .. } => (-ratio.ln(), -1.0 / ratio),
    };
    Slopes {
        f,
        by_i: by_ratio * (num_by_i * den - num * den_by_i) / (den * den),
        by_p: -by_ratio * num * den_by_p / (den * den),
    }
}

/// Top-k of so many voxels: nnU-Net's `int(voxels * k / 100)`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Python's int of a positive number")]
fn top_count(voxels: usize, k_percent: f64) -> usize {
    (count(voxels) * k_percent / 100.0).trunc() as usize
}

fn pixel_term(head: &Head, sums: &Statistics, finished: &mut Finished) {
    let Some(pixel) = &head.loss.pixel else { return };
    let weight = |c: usize| pixel.class_weights.as_ref().map_or(1.0, |w| f64::from(w[c]));
    let outer = f64::from(head.weight) * f64::from(pixel.weight);
    let voxel_mass: f64 = sums.mass.iter().sum();
    let mut pixel_sum: f64 = sums.pixel.iter().sum();
    // where a voxel has a value per class
    let of_classes = |classes: usize| voxel_mass * if pixel.mean_over_voxels { 1.0 } else { count(classes) };
    let mean = match &pixel.kind {
        PixelKind::TopKCrossEntropy { k_percent } => {
            let k = top_count(sums.losses.len(), *k_percent);
            let mut sorted = sums.losses.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let threshold = sorted[k - 1];
            let above = sorted.iter().filter(|loss| loss.total_cmp(&threshold).is_gt()).count();
            let equal = sorted.iter().filter(|loss| loss.total_cmp(&threshold).is_eq()).count();
            pixel_sum = sorted[..k].iter().sum();
            let share = |loss: &f64| match loss.total_cmp(&threshold) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => count(k - above) / count(equal),
                std::cmp::Ordering::Less => 0.0,
            };
            finished.shares = sums.losses.iter().map(share).collect();
            count(k)
        }
        PixelKind::CrossEntropy => match head.target {
            Target::Labels(_) => sums.t.iter().flat_map(|row| row.iter().enumerate()).map(|(c, t)| weight(c) * t).sum(),
            Target::Probabilities(_) => voxel_mass,
        },
        PixelKind::BinaryCrossEntropy { .. } => of_classes(head.classes()),
        PixelKind::Focal { include_background, .. } => {
            of_classes(head.classes() - usize::from(!include_background && head.classes() > 1))
        }
    };
    match pixel.reduction {
        Reduction::Mean if mean == 0.0 => {
            finished.pixel = match pixel.empty {
                Empty::Zero => 0.0,
                Empty::Nan => f64::NAN,
            };
        }
        Reduction::Mean => {
            finished.pixel = pixel_sum / mean;
            finished.kappa.fill(outer / mean);
        }
        Reduction::Sum => {
            finished.pixel = pixel_sum;
            finished.kappa.fill(outer);
        }
        Reduction::SumOfItemMeans => {
            for ((sum, mass), kappa) in sums.pixel.iter().zip(&sums.mass).zip(&mut finished.kappa) {
                if *mass != 0.0 {
                    finished.pixel += sum / mass;
                    *kappa = outer / mass;
                }
            }
        }
    }
    finished.pixel_is_on = outer != 0.0;
    if finished.pixel_is_on {
        finished.total += outer * finished.pixel;
    }
}
