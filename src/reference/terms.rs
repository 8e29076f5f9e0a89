//! The terms at one voxel; see shaders/terms.wgsl.

use crate::spec::{Activation, Alpha, ClassValues, Head, Overlap, PixelKind, Product, ScalarAlpha};

/// softmax of one voxel, and log softmax.
#[must_use]
pub fn softmax(z: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let peak = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ln_sum = z.iter().map(|z| (z - peak).exp()).sum::<f64>().ln();
    let log: Vec<f64> = z.iter().map(|z| z - peak - ln_sum).collect();
    (log.iter().map(|l| l.exp()).collect(), log)
}

/// 1 / (1 + e^−x)
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

/// ln(1 + e^x)
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// p of the overlap term.
#[must_use]
pub fn activate(activation: Activation, z: &[f64]) -> Vec<f64> {
    match activation {
        Activation::Softmax => softmax(z).0,
        Activation::Sigmoid => z.iter().map(|&z| sigmoid(z)).collect(),
        Activation::None => z.to_vec(),
    }
}

/// dz from ∂total/∂p.
#[must_use]
pub fn activation_slope(activation: Activation, p: &[f64], g: &[f64]) -> Vec<f64> {
    let mean: f64 = p.iter().zip(g).map(|(p, g)| p * g).sum();
    let slope = |(p, g): (&f64, &f64)| match activation {
        Activation::Softmax => p * (g - mean),
        Activation::Sigmoid => p * (1.0 - p) * g,
        Activation::None => *g,
    };
    p.iter().zip(g).map(slope).collect()
}

/// Which classes are predicted: the first with the largest logit of a softmax, else those with p > 0.5.
#[must_use]
pub fn predicted(activation: Activation, z: &[f64]) -> Vec<bool> {
    match activation {
        Activation::Softmax => {
            let largest =
                (0..z.len()).rev().max_by(|&a, &b| z[a].partial_cmp(&z[b]).unwrap_or(std::cmp::Ordering::Equal));
            (0..z.len()).map(|c| Some(c) == largest).collect()
        }
        Activation::Sigmoid => z.iter().map(|&z| z > 0.0).collect(),
        Activation::None => z.iter().map(|&z| z > 0.5).collect(),
    }
}

/// What I sums, and its derivative by p.
#[must_use]
pub fn product(overlap: Option<&Overlap>, p: f64, t: f64) -> (f64, f64) {
    // without an overlap term the soft Dice is of the product
    match overlap.map_or(Product::Product, |overlap| overlap.product) {
        Product::Product => (p * t, t),
        Product::Minimum if p < t => (p, 1.0),
        Product::Minimum => (t, 0.0),
    }
}

/// ℓ of the pixel term at one voxel, and its derivative by each logit. Without a pixel term both are 0.
#[must_use]
pub fn pixel(head: &Head, z: &[f64], t: &[f64]) -> (f64, Vec<f64>) {
    let Some(pixel) = &head.loss.pixel else { return (0.0, vec![0.0; z.len()]) };
    let epsilon = f64::from(pixel.label_smoothing);
    let classes = z.len();
    match &pixel.kind {
        PixelKind::CrossEntropy | PixelKind::PolyCrossEntropy { .. } | PixelKind::GeneralizedCrossEntropy { .. } => {
            let weight = |c: usize| pixel.class_weights.as_ref().map_or(1.0, |w| f64::from(w[c]));
            let q: Vec<f64> = t
                .iter()
                .enumerate()
                .map(|(c, t)| weight(c) * ((1.0 - epsilon) * t + epsilon / count(classes)))
                .collect();
            let (s, log_s) = softmax(z);
            // φ(s) in the place of −ln s, and −s φ'(s)
            let of_log = |l: f64| match pixel.kind {
                PixelKind::PolyCrossEntropy { epsilon } => {
                    let epsilon = f64::from(epsilon);
                    (-l - epsilon * l.exp_m1(), 1.0 + epsilon * l.exp())
                }
                PixelKind::GeneralizedCrossEntropy { q } => {
                    let q = f64::from(q);
                    (-(q * l).exp_m1() / q, (q * l).exp())
                }
                _ => (-l, 1.0),
            };
            let loss = q.iter().zip(&log_s).map(|(q, &l)| if *q == 0.0 { 0.0 } else { q * of_log(l).0 }).sum();
            let u: Vec<f64> = q.iter().zip(&log_s).map(|(q, &l)| q * of_log(l).1).collect();
            let all: f64 = u.iter().sum();
            (loss, s.iter().zip(&u).map(|(s, u)| s * all - u).collect())
        }
        PixelKind::BinaryCrossEntropy { pos_weight } => {
            let of_class = |c: usize| {
                let weight = pos_weight.as_ref().map_or(1.0, |w| f64::from(w[c]));
                let t = (1.0 - epsilon) * t[c] + epsilon / 2.0;
                let loss = weight * t * softplus(-z[c]) + (1.0 - t) * softplus(z[c]);
                let slope = -weight * t * sigmoid(-z[c]) + (1.0 - t) * sigmoid(z[c]);
                (loss, slope)
            };
            sum_over((0..classes).map(of_class))
        }
        PixelKind::Focal { gamma, alpha, scalar_alpha, include_background } => {
            let first = usize::from(!include_background && classes > 1);
            // MONAI leaves a scalar out where the softmax is without the background
            let alpha = match (alpha, scalar_alpha) {
                (Alpha::Scalar(_), ScalarAlpha::IgnoredWithoutBackground)
                    if first == 1 && head.loss.activation == Activation::Softmax =>
                {
                    &Alpha::None
                }
                (Alpha::None | Alpha::Scalar(_) | Alpha::PerClass(_), _) => alpha,
            };
            let weight = |c: usize| pixel.class_weights.as_ref().map_or(1.0, |w| f64::from(w[c - first]));
            let gamma = |c: usize| match gamma {
                ClassValues::Same(gamma) => f64::from(*gamma),
                ClassValues::Each(gammas) => f64::from(gammas[c]),
            };
            let (loss, mut dz) = if head.loss.activation == Activation::Softmax {
                let factor = |c: usize| weight(c) * softmax_alpha(alpha, c - first);
                focal_softmax(&z[first..], &t[first..], gamma, |c| factor(c + first))
            } else {
                sum_over((first..classes).map(|c| {
                    let (loss, slope) = focal_sigmoid(z[c], t[c], gamma(c - first));
                    let factor = weight(c) * sigmoid_alpha(alpha, c - first, t[c]);
                    (factor * loss, factor * slope)
                }))
            };
            dz.splice(0..0, vec![0.0; first]);
            (loss, dz)
        }
    }
}

fn sum_over(classes: impl Iterator<Item = (f64, f64)>) -> (f64, Vec<f64>) {
    let (losses, slopes): (Vec<f64>, Vec<f64>) = classes.unzip();
    (losses.iter().sum(), slopes)
}

/// The balance of class `c`, counted from the first that takes part.
fn softmax_alpha(alpha: &Alpha, c: usize) -> f64 {
    match alpha {
        Alpha::None => 1.0,
        Alpha::Scalar(alpha) if c == 0 => 1.0 - f64::from(*alpha),
        Alpha::Scalar(alpha) => f64::from(*alpha),
        Alpha::PerClass(alpha) => f64::from(alpha[c]),
    }
}

#[expect(clippy::float_cmp, reason = "a positive is a target of exactly 1, as in MONAI")]
fn sigmoid_alpha(alpha: &Alpha, c: usize, t: f64) -> f64 {
    match alpha {
        Alpha::Scalar(alpha) => f64::from(*alpha) * t + (1.0 - f64::from(*alpha)) * (1.0 - t),
        Alpha::PerClass(alpha) if t == 1.0 => f64::from(alpha[c]),
        Alpha::None | Alpha::PerClass(_) => 1.0,
    }
}

/// `−Σ_c A_c (1 − s_c)^γ ln s_c t_c`
fn focal_softmax(z: &[f64], t: &[f64], gamma: impl Fn(usize) -> f64, factor: impl Fn(usize) -> f64) -> (f64, Vec<f64>) {
    let (s, log_s) = softmax(z);
    // 1 − s, exact also where s rounds to 1
    let rest: Vec<f64> = log_s.iter().map(|l| -l.exp_m1()).collect();
    let loss = (0..z.len()).map(|c| -factor(c) * rest[c].powf(gamma(c)) * log_s[c] * t[c]).sum();
    // s ∂ℓ/∂s of each class
    let inner: Vec<f64> = (0..z.len())
        .map(|c| {
            let gamma = gamma(c);
            let bend = if rest[c] > 0.0 { gamma * s[c] * rest[c].powf(gamma - 1.0) * log_s[c] } else { 0.0 };
            factor(c) * t[c] * (bend - rest[c].powf(gamma))
        })
        .collect();
    let all: f64 = inner.iter().sum();
    (loss, s.iter().zip(&inner).map(|(s, inner)| inner - s * all).collect())
}

/// σ(−z(2t−1))^γ · BCE(z, t), and its derivative by z.
fn focal_sigmoid(z: f64, t: f64, gamma: f64) -> (f64, f64) {
    let sign = 2.0 * t - 1.0;
    let bce = t * softplus(-z) + (1.0 - t) * softplus(z);
    let modulation = (-gamma * softplus(z * sign)).exp();
    // d ln σ(−z sign) / dz = −sign σ(z sign)
    let slope = modulation * (sigmoid(z) - t) - gamma * sign * sigmoid(z * sign) * modulation * bce;
    (modulation * bce, slope)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn count(n: usize) -> f64 {
    n as f64
}
