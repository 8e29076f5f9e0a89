//! From the statistics to the loss and the coefficients of the gradient; see shaders/finish.wgsl.

use super::data::HeadData;
use super::statistics::Statistics;
use super::terms::count;
use crate::spec::{
    Absent, Average, ClassValues, ClassWeighting, Empty, Form, Head, MeanOver, Overlap, OverlapKind, PixelKind,
    Reduction, Target,
};

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
    pixel_term(head, data.sample_mask.is_some(), sums, &mut finished);
    finished
}

/// I, P and T of one row and class, and V = Σ m.
#[derive(Clone, Copy)]
struct Sums {
    i: f64,
    p: f64,
    t: f64,
    v: f64,
}

/// A value f, and its derivatives by I and P.
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
    let part: Vec<usize> = match &overlap.classes {
        Some(listed) => listed.iter().map(|&class| class as usize).collect(),
        None => (usize::from(!overlap.include_background && classes > 1)..classes).collect(),
    };
    finished.overlap_losses = vec![vec![f64::NAN; if one_ratio(overlap) { 1 } else { part.len() }]; rows.len()];
    if data.sample_mask.is_some() && !overlap.batch {
        rows.retain(|row| sums.counted_of_item[row[0]] > 0);
    }
    let outer = f64::from(head.weight) * f64::from(overlap.weight);
    let unweighted = overlap.ignore_single_class_weight && part.len() == 1;
    let weights: Vec<f64> = match &overlap.class_weights {
        Some(weights) if !unweighted => weights.iter().copied().map(f64::from).collect(),
        _ => vec![1.0; part.len()],
    };
    // ∂L/∂I and ∂L/∂P of each item and class
    let mut slopes_of_mean = Vec::new();
    for row in &rows {
        let sum = |of: &[Vec<f64>], c: usize| row.iter().map(|&item| of[item][c]).sum::<f64>();
        let v = row.iter().map(|&item| sums.mass[item]).sum::<f64>();
        let of_class = part.iter().map(|&c| Sums { i: sum(&sums.i, c), p: sum(&sums.p, c), t: sum(&sums.t, c), v });
        let of_class: Vec<Sums> = of_class.collect();
        let losses = if one_ratio(overlap) {
            micro(overlap, &of_class, &weights)
        } else {
            (0..part.len()).map(|k| of_one(overlap, &of_class[k], k, weights[k])).collect()
        };
        // an item's row, or the one of the batch
        let unreduced = &mut finished.overlap_losses[if overlap.batch { 0 } else { row[0] }];
        let divisor: f64 = losses.iter().map(|loss| loss.worth).sum();
        let share = match overlap.reduction {
            Reduction::Mean | Reduction::WeightedMean if divisor == 0.0 => 0.0,
            Reduction::Mean | Reduction::WeightedMean => 1.0 / (count(rows.len()) * divisor),
            Reduction::Sum => 1.0,
            Reduction::SumOfItemMeans => unreachable!("refused"),
        };
        for (k, loss) in losses.iter().enumerate().filter(|(_, loss)| loss.takes_part) {
            // a loss of weight 0 is 0, even if it is NaN
            let weighted = |x: f64| if loss.weight == 0.0 { 0.0 } else { loss.weight * x };
            if let Some(unreduced) = unreduced.get_mut(k) {
                *unreduced = if share == 0.0 { f64::NAN } else { weighted(loss.slopes.f) };
            }
            if share == 0.0 {
                continue;
            }
            finished.overlap += share * weighted(loss.slopes.f);
            let slopes = [share * weighted(loss.slopes.by_i), share * weighted(loss.slopes.by_p)];
            slopes_of_mean.extend(row.iter().map(|&item| (item, part[k], slopes)));
        }
    }
    let mut by_mean = 1.0;
    if let Some(exponent) = overlap.power_of_mean {
        (finished.overlap, by_mean) = power(finished.overlap, exponent.into(), overlap.eps.into());
    }
    finished.overlap_is_on = outer != 0.0;
    for (item, c, [by_i, by_p]) in slopes_of_mean {
        finished.by_i[item][c] = if finished.overlap_is_on { outer * by_mean * by_i } else { 0.0 };
        finished.by_p[item][c] = if finished.overlap_is_on { outer * by_mean * by_p } else { 0.0 };
    }
    if finished.overlap_is_on {
        finished.total += outer * finished.overlap;
    }
}

/// Whether a row has one ratio, and no class axis is left.
fn one_ratio(overlap: &Overlap) -> bool {
    overlap.average == Average::Micro || matches!(overlap.kind, OverlapKind::GeneralizedDice { .. })
}

/// A loss of a row.
struct RowLoss {
    slopes: Slopes,
    /// What it is multiplied by.
    weight: f64,
    /// What it adds to the divisor of a mean.
    worth: f64,
    takes_part: bool,
}

/// The exponent of the class at place `k` among those that take part.
fn exponent(overlap: &Overlap, k: usize) -> f64 {
    match &overlap.gamma {
        None => 1.0,
        Some(ClassValues::Same(gamma)) => f64::from(*gamma),
        Some(ClassValues::Each(gammas)) => f64::from(gammas[k]),
    }
}

/// The loss of the class at place `k` among those that take part.
fn of_one(overlap: &Overlap, sums: &Sums, k: usize, weight: f64) -> RowLoss {
    let gone = sums.t == 0.0 && overlap.absent != Absent::Count;
    let slopes = if gone {
        Slopes { f: 0.0, by_i: 0.0, by_p: 0.0 }
    } else {
        formed(overlap, ratio(overlap, sums), exponent(overlap, k))
    };
    let takes_part = !(gone && overlap.absent == Absent::Skip);
    let worth = if overlap.reduction == Reduction::WeightedMean { weight } else { 1.0 };
    RowLoss { slopes, weight, worth: if takes_part { worth } else { 0.0 }, takes_part }
}

/// The one loss of a row, and its slopes by the sums of each class: all as of several losses, of which the first has the value.
fn micro(overlap: &Overlap, classes: &[Sums], weights: &[f64]) -> Vec<RowLoss> {
    let weighting = match overlap.kind {
        OverlapKind::GeneralizedDice { class_weighting } => class_weighting,
        _ => ClassWeighting::Uniform,
    };
    let of_t = weights_by_t(weighting, classes);
    let v: Vec<f64> = of_t.iter().zip(weights).map(|(a, b)| a * b).collect();
    let weighted = |of: fn(&Sums) -> f64| v.iter().zip(classes).map(|(v, s)| v * of(s)).sum::<f64>();
    let sums = Sums { i: weighted(|s| s.i), p: weighted(|s| s.p), t: weighted(|s| s.t), v: f64::NAN };
    let Slopes { f, by_i, by_p } = formed(overlap, ratio(overlap, &sums), exponent(overlap, 0));
    let of_class = |(k, &v): (usize, &f64)| RowLoss {
        slopes: if v == 0.0 {
            Slopes { f: 0.0, by_i: 0.0, by_p: 0.0 }
        } else {
            Slopes { f: 0.0, by_i: v * by_i, by_p: v * by_p }
        },
        weight: 1.0,
        worth: if k == 0 { 1.0 } else { 0.0 },
        takes_part: true,
    };
    let mut losses: Vec<RowLoss> = v.iter().enumerate().map(of_class).collect();
    losses[0].slopes.f = f;
    losses
}

/// The ratio of these sums, in the place of f.
#[expect(clippy::float_cmp, reason = "sums of the same numbers are equal or not, as in MONAI")]
fn ratio(overlap: &Overlap, sums: &Sums) -> Slopes {
    let (nr, dr) = (f64::from(overlap.smooth_nr), f64::from(overlap.smooth_dr));
    let Sums { i, p, t, v } = *sums;
    match overlap.kind {
        OverlapKind::Jaccard => quotient(overlap, 2.0 * i + nr, 2.0 * (p + t - i) + dr, [2.0, 0.0, -2.0, 2.0]),
        OverlapKind::Tversky { alpha, beta } => {
            let (alpha, beta) = (f64::from(alpha), f64::from(beta));
            let den = i + alpha * (p - i) + beta * (t - i) + dr;
            quotient(overlap, i + nr, den, [1.0, 0.0, 1.0 - alpha - beta, alpha])
        }
        OverlapKind::Dice | OverlapKind::GeneralizedDice { .. } => {
            quotient(overlap, 2.0 * i + nr, p + t + dr, [2.0, 0.0, 0.0, 1.0])
        }
        OverlapKind::Mcc { smooth_counts } => {
            let s = f64::from(smooth_counts);
            if s == 0.0 && p == i && t == i {
                return Slopes { f: 1.0, by_i: 0.0, by_p: 0.0 };
            }
            let (i, p, t, v) = (i + s, p + 2.0 * s, t + 2.0 * s, v + 4.0 * s);
            let den = (p * t * (v - t) * (v - p) + dr).sqrt();
            quotient(overlap, v * i - p * t + nr, den, [v, -t, 0.0, t * (v - t) * (v - 2.0 * p) / (2.0 * den)])
        }
    }
}

/// The weights of generalized Dice.
fn weights_by_t(weighting: ClassWeighting, classes: &[Sums]) -> Vec<f64> {
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

/// num/den, by the quotient rule; `by` are the derivatives of num by I and by P, and of den by I and by P.
fn quotient(overlap: &Overlap, num: f64, den: f64, by: [f64; 4]) -> Slopes {
    let [num_by_i, num_by_p, mut den_by_i, mut den_by_p] = by;
    let mut den = den;
    if let Some(floor) = overlap.denominator_floor.map(f64::from)
        && den < floor
    {
        (den, den_by_i, den_by_p) = (floor, 0.0, 0.0);
    }
    Slopes {
        f: num / den,
        by_i: (num_by_i * den - num * den_by_i) / (den * den),
        by_p: (num_by_p * den - num * den_by_p) / (den * den),
    }
}

/// The form of a ratio, to the power γ.
fn formed(overlap: &Overlap, ratio: Slopes, gamma: f64) -> Slopes {
    let (r, eps) = (ratio.f, f64::from(overlap.eps));
    let (y, by_r) = match overlap.form {
        Form::OneMinus => (1.0 - r, -1.0),
        Form::Negative => (-r, -1.0),
        Form::Identity => (r, 1.0),
        Form::Log if r < eps => (-eps.ln(), 0.0),
        Form::Log => (-r.ln(), -1.0 / r),
        Form::LogCosh => ((1.0 - r).cosh().ln(), -(1.0 - r).tanh()),
    };
    let (f, by_y) = power(y, gamma, eps);
    Slopes { f, by_i: by_y * by_r * ratio.by_i, by_p: by_y * by_r * ratio.by_p }
}

/// y^γ and its derivative; unless γ is 1, y is at least eps, and has no derivative where it was less.
#[expect(clippy::float_cmp, reason = "an exponent of exactly 1 is none")]
fn power(y: f64, gamma: f64, eps: f64) -> (f64, f64) {
    if gamma == 1.0 {
        (y, 1.0)
    } else if y < eps {
        (eps.powf(gamma), 0.0)
    } else {
        (y.powf(gamma), gamma * y.powf(gamma - 1.0))
    }
}

/// Top-k of so many voxels: nnU-Net's `int(voxels * k / 100)`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Python's int of a positive number")]
fn top_count(voxels: usize, k_percent: f64) -> usize {
    (count(voxels) * k_percent / 100.0).trunc() as usize
}

/// Leaves what each voxel is worth, and the sum of the k largest losses; returns k.
fn top_k(k_percent: f64, sums: &Statistics, finished: &mut Finished, pixel_sum: &mut f64) -> f64 {
    let k = top_count(sums.losses.len(), k_percent);
    let mut sorted = sums.losses.clone();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let threshold = sorted[k - 1];
    let above = sorted.iter().filter(|loss| loss.total_cmp(&threshold).is_gt()).count();
    let equal = sorted.iter().filter(|loss| loss.total_cmp(&threshold).is_eq()).count();
    *pixel_sum = sorted[..k].iter().sum();
    let share = |loss: &f64| match loss.total_cmp(&threshold) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => count(k - above) / count(equal),
        std::cmp::Ordering::Less => 0.0,
    };
    finished.shares = sums.losses.iter().map(share).collect();
    count(k)
}

fn pixel_term(head: &Head, masked: bool, sums: &Statistics, finished: &mut Finished) {
    let Some(pixel) = &head.loss.pixel else { return };
    let weight = |c: usize| pixel.class_weights.as_ref().map_or(1.0, |w| f64::from(w[c]));
    let outer = f64::from(head.weight) * f64::from(pixel.weight);
    let voxel_mass: f64 = sums.mass.iter().sum();
    let mut pixel_sum: f64 = sums.pixel.iter().sum();
    let taking_part = match pixel.kind {
        PixelKind::Focal { include_background, .. } => {
            head.classes() - usize::from(!include_background && head.classes() > 1)
        }
        _ => head.classes(),
    };
    // where a voxel has a value per class, it is worth its classes, or their weights
    let classes: f64 = match pixel.reduction {
        Reduction::WeightedMean => (0..taking_part).map(weight).sum(),
        _ => count(taking_part),
    };
    let per_class = matches!(pixel.kind, PixelKind::BinaryCrossEntropy { .. } | PixelKind::Focal { .. });
    let mean = match (pixel.mean_over, &head.target) {
        _ if pixel.k_percent.is_some() => top_k(pixel.k_percent.unwrap_or(0.0), sums, finished, &mut pixel_sum),
        (MeanOver::Valid, _) if per_class => voxel_mass * classes,
        (MeanOver::Valid, Target::Labels(_)) if head.regions.is_none() => {
            sums.t.iter().flat_map(|row| row.iter().enumerate()).map(|(c, t)| weight(c) * t).sum()
        }
        (MeanOver::Valid | MeanOver::Voxels, _) => voxel_mass,
        (MeanOver::All, _) if per_class => {
            // an item that a sample mask leaves out is nowhere
            let items = sums.counted_of_item.iter().filter(|&&counted| !masked || counted > 0).count();
            count(items * head.voxels()) * classes
        }
        (MeanOver::All, _) => count(head.items() * head.voxels()),
    };
    match pixel.reduction {
        Reduction::Mean | Reduction::WeightedMean if mean == 0.0 => {
            finished.pixel = match pixel.empty {
                Empty::Zero => 0.0,
                Empty::Nan => f64::NAN,
            };
        }
        Reduction::Mean | Reduction::WeightedMean => {
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
