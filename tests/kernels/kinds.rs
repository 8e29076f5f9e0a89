//! Every kind of every setting against a number computed by hand, so that no kind is mistaken for another.

use segloss::{
    Activation, Alpha, Average, ClassWeighting, Form, Head, Loss, LossSpec, Overlap, OverlapKind, Pixel, PixelKind,
    Product, Reduction, ScalarAlpha, testing,
};

use crate::common::{self, Gpu, Tensors, all_gpus, run};

/// Two items of three voxels, two classes, p as given: I = (1.1, 0.7) and (0.5, 1.4), P = (1.5, 1.4) and (1.2, 1.6),
/// T = (2, 1) and (1, 2).
const P: [f32; 12] = [0.8, 0.3, 0.4, 0.2, 0.5, 0.7, 0.1, 0.5, 0.6, 0.4, 0.2, 1.0];
const LABELS: [i64; 6] = [0, 0, 1, 1, 0, 1];
/// A target of probabilities, class by class, for which min(p, t) and p · t differ.
const SOFT: [f32; 12] = [1.0, 0.5, 0.0, 0.0, 0.5, 1.0, 0.0, 1.0, 0.25, 1.0, 0.0, 0.75];

fn tensors(soft: bool) -> [Tensors; 1] {
    let labels = if soft { Vec::new() } else { LABELS.to_vec() };
    let probabilities = if soft { SOFT.to_vec() } else { Vec::new() };
    [Tensors { logits: P.to_vec(), labels, probabilities, ..Tensors::default() }]
}

/// Runs a loss of the tensors above, and compares the total.
fn check(gpu: &Gpu, loss: Loss, soft: bool, expected: f64, what: &str) {
    let head = Head::new([2, 2, 3], loss);
    let spec = LossSpec::new().head(if soft { head.probabilities(segloss::FloatType::F32) } else { head });
    let given = run(gpu, &spec, &tensors(soft), 1.0).report.total;
    assert!((f64::from(given) - expected).abs() < 2e-6 * expected.abs().max(1.0), "{what}: {given}, not {expected}");
    let reference = common::evaluate(&spec, &tensors(soft), 1.0).total;
    assert!((reference - expected).abs() < 1e-6 * expected.abs().max(1.0), "{what}: the reference: {reference}");
}

/// An overlap loss without activation: the logits are p.
fn of_p(overlap: Overlap) -> Loss {
    Loss { activation: Activation::None, ..Loss::new().overlap(overlap) }
}

/// I, P and T of each item and class.
const SUMS: [[f64; 3]; 4] = [[1.1, 1.5, 2.0], [0.7, 1.4, 1.0], [0.5, 1.2, 1.0], [1.4, 1.6, 2.0]];

/// The mean over items and classes of 1 − num/den.
fn mean(ratio: impl Fn([f64; 3]) -> f64) -> f64 {
    SUMS.iter().map(|&sums| 1.0 - ratio(sums)).sum::<f64>() / 4.0
}

fn generalized(weight: impl Fn(f64) -> f64) -> f64 {
    let of_item = |classes: &[[f64; 3]]| {
        let sum = |of: fn([f64; 3]) -> f64| classes.iter().map(|&sums| weight(sums[2]) * of(sums)).sum::<f64>();
        1.0 - (2.0 * sum(|[i, ..]| i) + 0.5) / (sum(|[_, p, t]| p + t) + 0.25)
    };
    SUMS.chunks(2).map(of_item).sum::<f64>() / 2.0
}

#[test]
fn every_overlap_kind_is_its_own_formula() {
    for gpu in all_gpus() {
        for kind in testing::overlap_kinds() {
            let expected = match kind {
                OverlapKind::Dice => mean(|[i, p, t]| (2.0 * i + 0.5) / (p + t + 0.25)),
                OverlapKind::Jaccard => mean(|[i, p, t]| (2.0 * i + 0.5) / (2.0 * (p + t - i) + 0.25)),
                OverlapKind::Tversky { alpha, beta } => {
                    let (alpha, beta) = (f64::from(alpha), f64::from(beta));
                    mean(|[i, p, t]| (i + 0.5) / (i + alpha * (p - i) + beta * (t - i) + 0.25))
                }
                OverlapKind::GeneralizedDice { class_weighting: ClassWeighting::Square } => {
                    generalized(|t| 1.0 / (t * t))
                }
                OverlapKind::GeneralizedDice { class_weighting: ClassWeighting::Simple } => generalized(|t| 1.0 / t),
                OverlapKind::GeneralizedDice { class_weighting: ClassWeighting::Uniform } => generalized(|_| 1.0),
                OverlapKind::Mcc { smooth_counts } => {
                    let s = f64::from(smooth_counts);
                    mean(|[i, p, t]| {
                        let [tp, fp, r#fn, tn] = [i, p - i, t - i, 3.0 - p - t + i].map(|count| count + s);
                        let under = (tp + fp) * (tp + r#fn) * (tn + fp) * (tn + r#fn);
                        (tp * tn - fp * r#fn + 0.5) / (under + 0.25).sqrt()
                    })
                }
                other => panic!("no number for {other:?}"),
            };
            let overlap = Overlap { kind, ..Overlap::dice().smooth(0.5, 0.25) };
            check(&gpu, of_p(overlap), false, expected, &format!("{}: {kind:?}", gpu.name));
        }
    }
}

#[test]
fn every_form_product_and_reduction_of_an_overlap_term_is_its_own_number() {
    let gpu = common::gpu();
    let dice = |[i, p, t]: [f64; 3]| 2.0 * i / (p + t);
    let ratios: f64 = SUMS.iter().map(|&sums| dice(sums)).sum();
    for (form, least) in [
        (Form::OneMinus, 1e-7_f32),
        (Form::Negative, 1e-7),
        (Form::Identity, 1e-7),
        (Form::Log, 1e-7),
        (Form::Log, 0.7),
        (Form::LogCosh, 1e-7),
    ] {
        let eps = f64::from(least);
        for gamma in [None, Some(0.75_f32), Some(2.0)] {
            if gamma.is_some() && matches!(form, Form::Negative | Form::Identity) {
                continue;
            }
            let of_class = |sums: &[f64; 3]| {
                let r = dice(*sums);
                let y = match form {
                    Form::OneMinus => 1.0 - r,
                    Form::Negative => -r,
                    Form::Identity => r,
                    Form::Log => -r.max(eps).ln(),
                    Form::LogCosh => (1.0 - r).cosh().ln(),
                };
                gamma.map_or(y, |gamma| y.max(eps).powf(gamma.into()))
            };
            let expected = SUMS.iter().map(of_class).sum::<f64>() / 4.0;
            let overlap = Overlap::dice().smooth(0.0, 0.0).form(form).eps(least);
            let overlap = gamma.map_or(overlap.clone(), |gamma| overlap.gamma(gamma));
            check(&gpu, of_p(overlap), false, expected, &format!("{form:?}, eps {eps}, gamma {gamma:?}"));
        }
    }
    for reduction in testing::reductions().filter(|reduction| *reduction != Reduction::SumOfItemMeans) {
        // weights of 2 and 0.5
        let weighted = (0..4).map(|at| [2.0, 0.5][at % 2] * (1.0 - dice(SUMS[at]))).sum::<f64>();
        let expected = match reduction {
            Reduction::Mean => weighted / 4.0,
            Reduction::WeightedMean => weighted / 5.0,
            Reduction::Sum | Reduction::SumOfItemMeans => weighted,
        };
        let overlap = Overlap::dice().smooth(0.0, 0.0).reduction(reduction).class_weights([2.0, 0.5]);
        check(&gpu, of_p(overlap), false, expected, &format!("{reduction:?}"));
    }
    // one ratio per row, its sums weighted; the second class alone; the classes the other way round
    let micro = |row: &[[f64; 3]]| {
        let sum = |of: usize| 2.0 * row[0][of] + 0.5 * row[1][of];
        1.0 - 2.0 * sum(0) / (sum(1) + sum(2))
    };
    let expected = SUMS.chunks(2).map(micro).sum::<f64>() / 2.0;
    let plain = Overlap::dice().smooth(0.0, 0.0);
    let overlap = plain.clone().average(Average::Micro).class_weights([2.0, 0.5]);
    check(&gpu, of_p(overlap), false, expected, "micro");
    let second = (2.0 - dice(SUMS[1]) - dice(SUMS[3])) / 2.0;
    check(&gpu, of_p(plain.clone().classes([1])), false, second, "classes [1]");
    let turned = (0..4).map(|at| [0.5, 2.0][at % 2] * (1.0 - dice(SUMS[at]))).sum::<f64>() / 4.0;
    let overlap = plain.clone().classes([1, 0]).class_weights([2.0, 0.5]);
    check(&gpu, of_p(overlap), false, turned, "classes [1, 0]");
    let mean = 1.0 - ratios / 4.0;
    check(&gpu, of_p(plain.clone().power_of_mean(0.75)), false, mean.powf(0.75), "the power of the mean");
    for product in [Product::Product, Product::Minimum] {
        let of = |p: f64, t: f64| match product {
            Product::Product => p * t,
            Product::Minimum => p.min(t),
        };
        let row = |row: usize| (3 * row..3 * row + 3).map(|at| (f64::from(P[at]), f64::from(SOFT[at])));
        let ratio = |at: usize| {
            let sums = row(at).fold([0.0; 2], |[i, den], (p, t)| [i + of(p, t), den + p + t]);
            2.0 * sums[0] / sums[1]
        };
        let expected = 1.0 - (0..4).map(ratio).sum::<f64>() / 4.0;
        let overlap = Overlap::dice().smooth(0.0, 0.0).product(product);
        check(&gpu, of_p(overlap), true, expected, &format!("{product:?}"));
    }
}

/// ln Σ exp z − z of the class, and its softmax, at a voxel.
fn logs(item: usize, voxel: usize) -> [f64; 2] {
    let z = [0, 1].map(|class| f64::from(P[(2 * item + class) * 3 + voxel]));
    let ln_sum = (z[0].exp() + z[1].exp()).ln();
    [z[0] - ln_sum, z[1] - ln_sum]
}

#[test]
fn every_pixel_kind_and_reduction_is_its_own_formula() {
    for gpu in all_gpus() {
        let voxels: Vec<(usize, usize, usize)> =
            (0..6).map(|at| (at / 3, at % 3, usize::try_from(LABELS[at]).expect("a class"))).collect();
        let losses_of = |of: &dyn Fn(usize, usize, usize) -> f64| voxels.iter().map(|&(i, v, y)| of(i, v, y)).collect();
        let z = |item: usize, class: usize, voxel: usize| f64::from(P[(2 * item + class) * 3 + voxel]);
        for pixel in testing::pixel_kinds() {
            // ℓ of each voxel, and what a mean divides by
            let top_k = pixel.k_percent.is_some();
            let (losses, mean): (Vec<f64>, f64) = match &pixel.kind {
                PixelKind::CrossEntropy if !top_k => (losses_of(&|i, v, y| -logs(i, v)[y]), 6.0),
                PixelKind::PolyCrossEntropy { .. } => {
                    // ε = 2
                    let of = |i: usize, v: usize, y: usize| -logs(i, v)[y] + 2.0 * (1.0 - logs(i, v)[y].exp());
                    (losses_of(&of), 6.0)
                }
                PixelKind::GeneralizedCrossEntropy { .. } => {
                    // q = 1/2
                    (losses_of(&|i, v, y| (1.0 - logs(i, v)[y].exp().sqrt()) / 0.5), 6.0)
                }
                PixelKind::CrossEntropy => {
                    let mut all: Vec<f64> = losses_of(&|i, v, y| -logs(i, v)[y]);
                    all.sort_by(|a, b| b.total_cmp(a));
                    // half of six voxels
                    (all[..3].to_vec(), 3.0)
                }
                PixelKind::BinaryCrossEntropy { .. } => {
                    let bce = |z: f64, t: bool| if t { (1.0 + (-z).exp()).ln() } else { (1.0 + z.exp()).ln() };
                    (losses_of(&|i, v, y| bce(z(i, 0, v), y == 0) + bce(z(i, 1, v), y == 1)), 12.0)
                }
                PixelKind::Focal { .. } => {
                    // γ = 2
                    let of = |i: usize, v: usize, y: usize| {
                        let log = logs(i, v)[y];
                        -(1.0 - log.exp()).powi(2) * log
                    };
                    (losses_of(&of), 12.0)
                }
                other => panic!("no number for {other:?}"),
            };
            for reduction in testing::reductions() {
                let is_focal = matches!(pixel.kind, PixelKind::Focal { .. });
                let expected = match reduction {
                    Reduction::Sum => losses.iter().sum(),
                    // refused
                    Reduction::SumOfItemMeans if top_k => continue,
                    Reduction::WeightedMean if !is_focal => continue,
                    Reduction::Mean => losses.iter().sum::<f64>() / mean,
                    // two classes of the weights 2 and 0.5: 12 becomes 6 · 2.5
                    Reduction::WeightedMean => {
                        let weighted =
                            losses.iter().zip(&LABELS).map(|(loss, &y)| loss * if y == 0 { 2.0 } else { 0.5 });
                        weighted.sum::<f64>() / 15.0
                    }
                    Reduction::SumOfItemMeans => {
                        losses[..3].iter().sum::<f64>() / 3.0 + losses[3..].iter().sum::<f64>() / 3.0
                    }
                };
                let pixel = pixel.clone().reduction(reduction);
                let pixel = if reduction == Reduction::WeightedMean { pixel.class_weights([2.0, 0.5]) } else { pixel };
                let what = format!("{}: {:?}, {reduction:?}", gpu.name, pixel.kind);
                check(&gpu, Loss::new().pixel(pixel), false, expected, &what);
            }
        }
    }
}

#[test]
fn each_item_has_a_scale_of_its_own_in_a_sum_of_item_means() {
    for gpu in all_gpus() {
        for pixel in testing::pixel_kinds().filter(|pixel| pixel.k_percent.is_none()) {
            let (kind, pixel) = (pixel.kind.clone(), pixel.reduction(Reduction::SumOfItemMeans));
            // few classes and many; items in which 0, 10, 20 and 30 voxels count
            for classes in [3, 40] {
                let head = Head::new([4, classes, 31], Loss::new().pixel(pixel.clone())).mask(true);
                let mut tensors = common::random_tensors(&head, 3.0, &mut fastrand::Rng::with_seed(5));
                tensors.mask = (0..4 * 31).map(|at| u8::from(at % 31 < at / 31 * 10)).collect();
                let spec = LossSpec::new().head(head);
                let tensors = [tensors];
                let expected = common::evaluate(&spec, &tensors, 1.0);
                let worst = common::differences(&run(&gpu, &spec, &tensors, 1.0), &expected);
                let what = format!("{}: {kind:?}, {classes} classes: {worst:?}", gpu.name);
                assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{what}");
            }
        }
    }
}

/// Three classes, a softmax, without class 0: there MONAI ignores a scalar α; otherwise the first class has 1 − α.
#[test]
fn a_scalar_alpha_without_background_is_ignored_or_of_the_first_class() {
    let gpu = common::gpu();
    let logits = vec![0.5, -1.0, 0.25, 0.75, -0.5, 2.0];
    let tensors = [Tensors { logits: logits.clone(), labels: vec![1, 2], ..Tensors::default() }];
    let log = |class: usize, voxel: usize| {
        let z = |class: usize| f64::from(logits[class * 2 + voxel]);
        z(class) - (z(1).exp() + z(2).exp()).ln()
    };
    let focal = |log: f64| -(1.0 - log.exp()).powi(2) * log;
    let [first, second] = [focal(log(1, 0)), focal(log(2, 1))];
    for (scalar_alpha, expected) in [
        (ScalarAlpha::IgnoredWithoutBackground, (first + second) / 4.0),
        (ScalarAlpha::FirstClass, (0.75 * first + 0.25 * second) / 4.0),
    ] {
        let (gamma, alpha) = (2.0.into(), Alpha::Scalar(0.25));
        let kind = PixelKind::Focal { gamma, alpha, scalar_alpha, include_background: false };
        let spec = LossSpec::new().head(Head::new([1, 3, 2], Loss::new().pixel(Pixel { kind, ..Pixel::default() })));
        let given = run(&gpu, &spec, &tensors, 1.0).report.total;
        assert!((f64::from(given) - expected).abs() < 2e-6, "{scalar_alpha:?}: {given}, not {expected}");
    }
}

/// `int(n * k / 100)`, and the same with the f32 nearest to k. The numbers were computed in Python.
#[test]
fn a_top_k_takes_as_many_voxels_as_nnunet() {
    let gpu = common::gpu();
    for (voxels, k_percent, expected) in [
        (125_u16, 11.2, 14_u16),
        (125, 5.6, 7),
        (250, 14.4, 36),
        (250, 75.2, 188),
        (625, 0.16, 1),
        (1000, 9.2, 92),
        (1000, 24.3, 243),
        (1000, 57.8, 578),
        (3, 66.7, 2),
        (7, 100.0, 7),
    ] {
        let spec = LossSpec::new()
            .head(Head::new([1, 2, voxels.into()], Loss::new().pixel(Pixel::top_k_cross_entropy(k_percent))));
        // the first `expected` voxels have a loss of ln(1 + e^2), the others of ln(1 + e): the sum depends on how many
        // are taken
        let z = |voxel: u16| if voxel < expected { 2.0 } else { 1.0 };
        let logits = (0..voxels).map(|_| 0.0).chain((0..voxels).map(z)).collect();
        let tensors = [Tensors { logits, labels: vec![0; voxels.into()], ..Tensors::default() }];
        let summed = Loss::new().pixel(Pixel::top_k_cross_entropy(k_percent).reduction(Reduction::Sum));
        let mut sum = spec.clone();
        sum.heads[0].loss = summed;
        let [loss, sum] = [&spec, &sum].map(|spec| f64::from(run(&gpu, spec, &tensors, 1.0).report.total));
        let each = (1.0 + 2.0_f64.exp()).ln();
        assert!((loss - each).abs() < 2e-6, "{k_percent} % of {voxels}: {loss}, not {each}");
        assert!((sum / each - f64::from(expected)).abs() < 1e-2, "{k_percent} % of {voxels}: {}", sum / each);
        let reference = common::evaluate(&spec, &tensors, 1.0).total;
        assert!((reference - each).abs() < 1e-9, "the reference: {k_percent} % of {voxels}: {reference}");
    }
}
