//! A batch over several ranks: total, report and gradients are those of one plan on the whole batch.

use proptest::prelude::*;
use segloss::{
    Absent, Activation, Alpha, Average, Bound, ClassWeighting, Empty, Error, FloatType, Form, GlobalSums, HardCounts,
    Head, Loss, LossSpec, Overlap, Pixel, Plan, PlanOptions, Reduction, wgpu,
};

use crate::common::{self, Gpu, Tensors, all_gpus, differences, evaluate, gpu, random_tensors, run};
use crate::ranks::{Rank, rank_spec, run_ranks, together};
use crate::specs;

/// Five items in uneven parts.
const PARTS: [usize; 3] = [1, 3, 1];

fn tensors(spec: &LossSpec) -> Vec<Tensors> {
    let mut random = fastrand::Rng::with_seed(17);
    spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect()
}

/// Compares the ranks together with the reference and with one plan on the whole batch.
fn check(gpu: &Gpu, name: &str, spec: &LossSpec, tensors: &[Tensors], parts: &[usize]) {
    let given = together(spec, parts, &run_ranks(gpu, spec, tensors, parts, 1.5));
    let expected = evaluate(spec, tensors, 1.5);
    let worst = differences(&given, &expected);
    assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{}: {name}: {worst:?}", gpu.name);
    let one = run(gpu, spec, tensors, 1.5);
    let (a, b) = (given.report.total, one.report.total);
    assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "{}: {name}: {a} {b}", gpu.name);
    for ((given, one), expected) in given.gradients.iter().zip(&one.gradients).zip(&expected.heads) {
        let largest = expected.gradient.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
        let near = |(x, y): (&f32, &f32)| f64::from((x - y).abs()) <= 2e-6 * largest;
        assert!(given.iter().zip(one).all(near), "{}: {name}: the gradients differ", gpu.name);
    }
}

fn with_overlap(overlap: Overlap) -> Loss {
    Loss::new().overlap(overlap)
}

fn with_pixel(pixel: Pixel) -> Loss {
    Loss::new().pixel(pixel)
}

/// Heads of every kind of term, five items each.
fn heads() -> Vec<(&'static str, Head)> {
    let shape = [5, 4, 9, 11];
    let weights = [0.5, 1.0, 2.0, 0.25];
    let smoothed = Pixel::cross_entropy().class_weights(weights).label_smoothing(0.2);
    let sigmoid = |loss| Loss { activation: Activation::Sigmoid, ..loss };
    let head = |loss| Head::new(shape, loss);
    vec![
        ("batch Dice", head(Loss::nnunet_dc_ce()).ignore_index(255)),
        ("per-sample Dice", head(Loss::monai_dice_ce())),
        (
            "per-sample Dice, added up",
            head(with_overlap(Overlap::dice().reduction(Reduction::Sum).form(Form::Negative))),
        ),
        ("per-sample Dice of present classes", head(with_overlap(Overlap::dice().absent(Absent::Skip)))),
        ("weighted per-sample Dice", head(with_overlap(Overlap::dice().class_weights(weights)))),
        (
            "Dice and weighted cross-entropy",
            head(with_overlap(Overlap::dice()).pixel(smoothed.clone())).ignore_index(2),
        ),
        ("weighted cross-entropy", head(with_pixel(smoothed)).ignore_index(255)),
        ("cross-entropy, added up", head(with_pixel(Pixel::cross_entropy().reduction(Reduction::Sum).weight(0.01)))),
        ("batch jaccard", head(with_overlap(Overlap::jaccard().batch(true).squared(true)))),
        ("per-sample jaccard", head(with_overlap(Overlap::jaccard().include_background(false)))),
        ("Tversky", head(with_overlap(Overlap::tversky(0.3, 0.7)))),
        ("per-sample MCC", head(with_overlap(Overlap::mcc()))),
        ("batch MCC", head(with_overlap(Overlap::mcc().batch(true)))),
        (
            "micro Jaccard, to a power",
            head(with_overlap(Overlap::jaccard().average(Average::Micro).power_of_mean(0.75))),
        ),
        (
            "focal Tversky, weighted mean",
            head(with_overlap(
                Overlap::tversky(0.7, 0.3).gamma(0.75).class_weights(weights).reduction(Reduction::WeightedMean),
            )),
        ),
        ("generalized Dice", head(with_overlap(Overlap::generalized_dice(ClassWeighting::Square)))),
        ("generalized batch Dice", head(with_overlap(Overlap::generalized_dice(ClassWeighting::Simple).batch(true)))),
        ("binary cross-entropy", head(sigmoid(with_pixel(Pixel::binary_cross_entropy().label_smoothing(0.1))))),
        ("focal", head(with_pixel(Pixel::focal(2.0, Alpha::None)))),
        ("focal and Dice on probabilities", head(sigmoid(Loss::monai_dice_focal())).probabilities(FloatType::F32)),
        ("weight map", head(Loss::monai_dice_ce()).weight_map(true)),
        ("masks", head(Loss::monai_dice_ce()).mask(true).sample_mask(true)),
        ("hits and misses", head(Loss::nnunet_dc_ce()).hard_counts(HardCounts::Item).unreduced(false)),
    ]
}

#[test]
fn ranks_with_uneven_parts_equal_one_plan_on_the_whole_batch() {
    let gpu = gpu();
    for (name, head) in heads() {
        let spec = LossSpec::new().head(head);
        let tensors = tensors(&spec);
        for parts in [&PARTS[..], &[2, 3]] {
            check(&gpu, name, &spec, &tensors, parts);
        }
    }
}

#[test]
fn ranks_of_many_heads_equal_one_plan_on_every_adapter() {
    for gpu in all_gpus() {
        let spec = heads().into_iter().step_by(3).fold(LossSpec::new(), |spec, (_, head)| spec.head(head.weight(0.3)));
        check(&gpu, "many heads", &spec, &tensors(&spec), &PARTS);
    }
}

#[test]
fn one_rank_of_all_items_equals_one_plan() {
    let spec = LossSpec::new().head(Head::new([5, 4, 9, 11], Loss::monai_dice_ce()));
    check(&gpu(), "one rank", &spec, &tensors(&spec), &[5]);
}

#[test]
fn random_losses_over_ranks_equal_the_reference() {
    let gpu = gpu();
    let top_k = |pixel: &Pixel| pixel.k_percent.is_some();
    specs::runner(24)
        .run(&specs::spec(1..4), |(mut spec, seed)| {
            spec.heads.retain(|head| !head.loss.pixel.as_ref().is_some_and(top_k));
            prop_assume!(!spec.heads.is_empty());
            let mut random = fastrand::Rng::with_seed(seed);
            let parts: Vec<usize> = (0..random.usize(1..5)).map(|_| random.usize(1..4)).collect();
            let upstream = specs::upstream(seed);
            let spec = rank_spec(&spec, parts.iter().sum());
            let tensors = specs::tensors(&spec, seed);
            let expected = evaluate(&spec, &tensors, upstream);
            let given = together(&spec, &parts, &run_ranks(&gpu, &spec, &tensors, &parts, upstream));
            let worst = differences(&given, &expected);
            prop_assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{:?}", worst);
            Ok(())
        })
        .expect("holds");
}

#[test]
fn a_rank_without_a_valid_voxel_adds_nothing_and_its_gradient_is_zero() {
    let gpu = gpu();
    for loss in
        [Loss::nnunet_dc_ce(), Loss::monai_dice_ce(), with_pixel(Pixel::cross_entropy().class_weights([2.0; 4]))]
    {
        let spec = LossSpec::new().head(Head::new([5, 4, 9, 11], loss).ignore_index(255));
        let mut tensors = tensors(&spec);
        // only the middle rank's items
        tensors[0].labels[99..4 * 99].fill(255);
        check(&gpu, "a rank of ignored voxels", &spec, &tensors, &PARTS);
        let ranks = run_ranks(&gpu, &spec, &tensors, &PARTS, 1.0);
        assert!(ranks[1].gradients[0].iter().all(|&dz| dz == 0.0));
        assert!(ranks[0].gradients[0].iter().any(|&dz| dz != 0.0));
    }
}

#[test]
fn a_rank_whose_samples_are_masked_leaves_the_mean() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([5, 4, 9, 11], Loss::monai_dice_ce()).sample_mask(true));
    let mut tensors = tensors(&spec);
    tensors[0].sample_mask = vec![1, 0, 0, 0, 1];
    check(&gpu, "a rank of masked samples", &spec, &tensors, &PARTS);
    tensors[0].sample_mask.fill(0);
    check(&gpu, "ranks of masked samples", &spec, &tensors, &PARTS);
}

#[test]
fn a_mean_over_no_voxel_of_any_rank_is_what_empty_says() {
    let gpu = gpu();
    for (empty, is_nan) in [(Empty::Zero, false), (Empty::Nan, true)] {
        let spec = LossSpec::new()
            .head(Head::new([5, 4, 99], with_pixel(Pixel::cross_entropy().empty(empty))).ignore_index(255));
        let mut tensors = tensors(&spec);
        tensors[0].labels.fill(255);
        for rank in run_ranks(&gpu, &spec, &tensors, &PARTS, 1.0) {
            assert_eq!(rank.report.total.is_nan(), is_nan, "{:?}", rank.report);
            assert!(rank.gradients[0].iter().all(|&dz| dz == 0.0));
        }
    }
}

#[test]
fn a_label_out_of_range_is_counted_on_every_rank_and_named_on_its_own() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([5, 4, 99], Loss::monai_dice_ce()));
    let mut tensors = tensors(&spec);
    tensors[0].labels[2 * 99 + 7] = 9;
    check(&gpu, "a label out of range", &spec, &tensors, &PARTS);
    let ranks = run_ranks(&gpu, &spec, &tensors, &PARTS, 1.0);
    assert!(ranks.iter().all(|rank| rank.report.heads[0].out_of_range == 1));
    let named: Vec<_> =
        ranks.iter().map(|rank| rank.report.heads[0].first_out_of_range.map(|at| (at.item, at.voxel))).collect();
    assert_eq!(named, [None, Some((1, 7)), None]);
}

/// A bias that is added to the logits of every item: a parameter that the ranks share.
fn bias_gradient(head: &Head, gradient: &[f32]) -> Vec<f64> {
    let of_class = |c: usize| {
        let rows = gradient.chunks(head.voxels()).skip(c).step_by(head.classes());
        rows.flatten().map(|&dz| f64::from(dz)).sum()
    };
    (0..head.classes()).map(of_class).collect()
}

#[test]
fn gradients_averaged_over_ranks_need_an_upstream_of_the_number_of_ranks() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([5, 4, 9, 11], Loss::monai_dice_ce()).ignore_index(1));
    let tensors = tensors(&spec);
    let head = &spec.heads[0];
    let whole = bias_gradient(head, &run(&gpu, &spec, &tensors, 1.0).gradients[0]);
    let over_ranks = |upstream: f32| {
        let ranks = run_ranks(&gpu, &spec, &tensors, &PARTS, upstream);
        let biases = ranks.iter().map(|rank| bias_gradient(head, &rank.gradients[0]));
        biases.fold(vec![0.0; 4], |sum, bias| sum.iter().zip(bias).map(|(a, b)| a + b).collect::<Vec<f64>>())
    };
    let scale = whole.iter().fold(0.0_f64, |a, g| a.max(g.abs()));
    for (c, (added, averaged)) in over_ranks(1.0).into_iter().zip(over_ranks(3.0)).enumerate() {
        assert!((added - whole[c]).abs() <= 2e-6 * scale, "added up: {added} {}", whole[c]);
        assert!((averaged / 3.0 - whole[c]).abs() <= 2e-6 * scale, "averaged: {averaged} {}", whole[c]);
    }
}

#[test]
fn without_an_exchange_a_rank_is_a_batch_of_its_own() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([2, 4, 99], Loss::monai_dice_ce()));
    let tensors = tensors(&spec);
    let rank = Rank::new(&gpu, &spec, &tensors, 1.0);
    let own = rank.sums(&gpu);
    let twice = GlobalSums {
        sums: own.sums.iter().map(|x| 2.0 * x).collect(),
        counts: own.counts.iter().map(|x| 2 * x).collect(),
    };
    rank.finish(&gpu, &twice);
    // the next step's combine overwrites what was set
    assert_eq!(rank.sums(&gpu), own);
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    rank.step().forward(&mut encoder);
    let pending = rank.step().report(&mut encoder).expect("a staging buffer is free");
    gpu.queue.submit([encoder.finish()]);
    let total = pending.read_blocking().expect("it arrives").total;
    let expected = evaluate(&spec, &tensors, 1.0).total;
    assert!((f64::from(total) - expected).abs() <= 2e-6, "{total} {expected}");
}

#[test]
fn the_lists_are_laid_out_as_documented() {
    let gpu = gpu();
    let counted = Head::new([1, 2, 4], Loss::monai_dice_ce()).hard_counts(HardCounts::Batch).ignore_index(255);
    let weighted = Head::new([2, 1, 3], Loss { activation: Activation::Sigmoid, ..with_overlap(Overlap::dice()) });
    let spec = LossSpec::new().head(counted).head(weighted.weight_map(true).sample_mask(true));
    let tensors = [
        // the softmax of (0, 0) is a half, and the predicted class is the first with the largest logit, 0
        Tensors { logits: vec![0.0; 8], labels: vec![0, 1, 1, 255], ..Tensors::default() },
        Tensors {
            logits: vec![0.0; 6],
            // of one channel the class
            labels: vec![1; 6],
            weight_map: vec![0.5, 1.0, 1.5, 9.0, 9.0, 9.0],
            sample_mask: vec![1, 0],
            ..Tensors::default()
        },
    ];
    let sums = Rank::new(&gpu, &spec, &tensors, 1.0).sums(&gpu);
    // I, P; Σ m ℓ = 3 ln 2, Σ m; the mean of 1 − 1/2.5 and 1 − 2/3.5, smoothed by 1e-5
    let overlap = 1.0 - f32::midpoint(1.000_01 / 2.500_01, 2.000_01 / 3.500_01);
    let first = [0.5, 1.0, 1.5, 1.5, 3.0 * 2.0_f32.ln(), 3.0, overlap];
    // I, P, T; Σ m ℓ, Σ m; 1 − 3/4.5
    let second = [1.5, 1.5, 3.0, 0.0, 3.0, 1.0 - 3.000_01 / 4.500_01];
    assert_eq!(sums.sums.len(), first.len() + second.len());
    for (given, expected) in sums.sums.iter().zip(first.iter().chain(&second)) {
        assert!((given - expected).abs() < 1e-6, "{given} {expected}: {:?}", sums.sums);
    }
    // T; TP, FP, FN; counted, out of range, not finite, items, items that take part; and the last five again
    assert_eq!(sums.counts, [1, 2, 1, 0, 2, 0, 0, 2, 3, 0, 0, 1, 1, 3, 0, 0, 2, 1]);
}

#[test]
fn a_top_k_over_ranks_is_refused() {
    let gpu = gpu();
    let spec = LossSpec::new()
        .head(Head::new([2, 4, 99], Loss::monai_dice_ce()))
        .head(Head::new([2, 4, 99], with_pixel(Pixel::top_k_cross_entropy(10.0))));
    let options = PlanOptions { distributed: true, ..PlanOptions::default() };
    let error = Plan::with_options(&gpu.device, &gpu.queue, &spec, options).expect_err("refused");
    assert!(matches!(error, Error::Spec { head: 1, setting: "pixel.k_percent", .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "head 1: pixel.k_percent: expected none, since the batch is distributed, got a top-k"
    );
}

#[test]
fn sums_that_are_not_the_plans_are_refused() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([2, 4, 99], Loss::monai_dice_ce()));
    let rank = Rank::new(&gpu, &spec, &tensors(&spec), 1.0);
    let good = rank.sums(&gpu);
    let (sums, counts) = (good.sums.len(), good.counts.len());
    let refusal = |change: fn(&mut GlobalSums)| {
        let mut changed = good.clone();
        change(&mut changed);
        rank.step().set_global_sums(&changed).expect_err("refused")
    };
    let short = refusal(|all| all.sums.truncate(1));
    assert_eq!(short, Error::GlobalSums { list: "sums", expected: sums, given: 1 });
    assert_eq!(short.to_string(), format!("global sums: sums: expected {sums} numbers, got 1"));
    let long = refusal(|all| all.counts.push(0));
    assert_eq!(long, Error::GlobalSums { list: "counts", expected: counts, given: counts + 1 });
    let many = |needed| Error::Limit {
        head: Some(0),
        what: "the number of voxels of all ranks".to_owned(),
        bound: Bound::Count,
        needed,
        available: u32::MAX.into(),
    };
    assert_eq!(refusal(|all| all.counts[0] = 1 << 32), many(1 << 32));
    // the items' voxels, with ignored ones
    assert_eq!(
        refusal(|all| {
            let items = all.counts.len() - 2;
            all.counts[items] = 1 << 26;
        }),
        many(99 << 26)
    );
    rank.step().set_global_sums(&good).expect("its own are taken");
}

#[test]
fn a_plan_for_one_machine_has_no_sums_to_exchange() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([2, 4, 99], Loss::monai_dice_ce()));
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let buffers = common::Buffers::upload(&gpu, &spec, &tensors(&spec));
    let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    assert_eq!(step.global_sums(&mut encoder).map(|_| ()), Err(Error::NotDistributed));
    assert_eq!(step.set_global_sums(&GlobalSums::default()), Err(Error::NotDistributed));
}

#[test]
fn sums_are_awaited_lost_and_unread_as_reports_are() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([2, 4, 99], Loss::monai_dice_ce()));
    let rank = Rank::new(&gpu, &spec, &tensors(&spec), 1.0);
    let encoder = || gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut dropped = encoder();
    let early = rank.step().global_sums(&mut dropped).expect("a staging buffer is free");
    drop(dropped);
    assert!(matches!(early.read_blocking(), Err(Error::GlobalSumsLost { .. })));
    let own = rank.sums(&gpu);
    let mut submitted = encoder();
    let mut pending: Vec<_> =
        (0..4).map(|_| rank.step().global_sums(&mut submitted).expect("a staging buffer is free")).collect();
    assert_eq!(rank.step().global_sums(&mut submitted).map(|_| ()), Err(Error::GlobalSumsUnread { ring: 4 }));
    gpu.queue.submit([submitted.finish()]);
    let device = gpu.device.clone();
    let poller = std::thread::spawn(move || device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ()));
    let last = pollster::block_on(pending.pop().expect("there are four").read()).expect("they arrive");
    poller.join().expect("no panic").expect("the device works");
    assert_eq!(last, own);
    drop(pending);
    assert_eq!(rank.sums(&gpu), own);
}
