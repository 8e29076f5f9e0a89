//! How many dispatches reach the device, counted in wgpu's trace of the calls instead of by the plan.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use segloss::{
    Activation, AdapterChoice, FloatType, Form, HardCounts, Head, LabelType, Loss, LossSpec, Overlap, Pixel, Plan,
    PlanOptions, Reduction, Variant, host, wgpu,
};

use crate::common::{self, Gpu, Tensors, gpu, one_dispatch, random_tensors, run, run_variant};

/// Five heads that differ in size, number of classes, label type, settings and weight.
fn five_unlike_heads() -> LossSpec {
    let nnunet = Overlap::dice().include_background(false).batch(true).form(Form::Negative).denominator_floor(1e-8);
    let weighted = Pixel::cross_entropy().class_weights([0.5, 1.0, 2.0]).label_smoothing(0.2);
    LossSpec::new()
        .head(Head::new([2, 4, 24, 20, 16], Loss::monai_dice_ce()).weight(0.5))
        .head(Head::new([1, 3, 31, 17], Loss::new().overlap(nnunet).pixel(weighted)).labels(LabelType::U16))
        .head(Head::new([3, 2, 13], Loss::torch_cross_entropy()).labels(LabelType::I32).ignore_index(-100).weight(0.25))
        .head(Head::new([2, 14, 8, 8, 8], Loss::new().overlap(Overlap::jaccard().squared(true))).labels(LabelType::U32))
        .head(
            Head::new([2, 40, 9, 7], Loss::new().pixel(Pixel::cross_entropy().reduction(Reduction::Sum).weight(0.01)))
                .ignore_index(255)
                .weight(2.0),
        )
}

fn tensors(spec: &LossSpec) -> Vec<Tensors> {
    let mut random = fastrand::Rng::with_seed(7);
    spec.heads.iter().map(|head| random_tensors(head, 4.0, &mut random)).collect()
}

/// Runs `work` on a device that records its calls, and counts the dispatches of each pipeline by its label.
fn dispatches_by_label(limits: Option<wgpu::Limits>, work: impl FnOnce(&Gpu)) -> Vec<(String, usize)> {
    count(&trace(limits, work))
}

/// wgpu's trace of the calls that `work` makes to its device.
fn trace(limits: Option<wgpu::Limits>, work: impl FnOnce(&Gpu)) -> String {
    let folder = std::env::temp_dir().join(format!("segloss-trace-{}-{}", std::process::id(), fastrand::u64(..)));
    std::fs::create_dir_all(&folder).expect("a folder for the trace");
    let adapter = AdapterChoice::default().adapters().into_iter().next().expect("an adapter");
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: limits.unwrap_or_else(|| adapter.limits()),
        required_features: adapter.features() & wgpu::Features::SUBGROUP,
        trace: wgpu::Trace::Directory(folder.clone()),
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the device opens");
    work(&Gpu::new("traced".to_owned(), device, queue));
    let trace = std::fs::read_to_string(folder.join("trace.ron")).expect("a trace");
    std::fs::remove_dir_all(&folder).expect("the trace is removed");
    trace
}

/// Reads the trace line by line: a pipeline's creation gives its id and label, `SetPipeline` makes it current, and each
/// `DispatchWorkgroups` is one dispatch of it.
fn count(trace: &str) -> Vec<(String, usize)> {
    let between = |line: &str, from: &str, to: &str| -> Option<String> {
        Some(line.split_once(from)?.1.split_once(to)?.0.to_owned())
    };
    let (mut labels, mut counts) = (BTreeMap::new(), BTreeMap::new());
    let (mut created, mut current) = (None, None);
    for line in trace.lines() {
        if line.starts_with("CreateComputePipeline(") {
            created = Some(None);
        } else if let Some(id) = &mut created {
            match (&id, between(line, "label: Some(\"", "\"")) {
                (None, _) => *id = between(line, "id: PointerId(", ")"),
                (Some(id), Some(label)) => {
                    // "segloss: statistics, plan 1, head 0"
                    let stage = label.split(',').next().unwrap_or_default().to_owned();
                    labels.insert(id.clone(), stage);
                    created = None;
                }
                _ => {}
            }
        } else if let Some(id) = between(line, "SetPipeline(PointerId(", ")") {
            current = Some(id);
        } else if line.trim_start().starts_with("DispatchWorkgroups(") {
            let label = &labels[current.as_ref().expect("a pipeline was set")];
            // a plan asks its device once; a step does not
            if label != "segloss: ask" {
                *counts.entry(label.clone()).or_default() += 1;
            }
        }
    }
    counts.into_iter().collect()
}

#[test]
fn five_unlike_heads_are_one_statistics_and_one_gradient_dispatch() {
    let spec = five_unlike_heads();
    let tensors = tensors(&spec);
    let counts = dispatches_by_label(None, |gpu| {
        run_variant(gpu, &spec, &tensors, 1.0, one_dispatch(gpu));
    });
    let expected = [("combine", 1), ("finish", 1), ("gradient", 1), ("statistics", 1)];
    assert_eq!(counts, expected.map(|(stage, n)| (format!("segloss: {stage}"), n)));
}

/// Every kind of pixel term, targets of both kinds, masks, and every optional output.
fn the_whole_family() -> LossSpec {
    let regions = Loss { activation: Activation::Sigmoid, ..Loss::monai_dice().pixel(Pixel::binary_cross_entropy()) };
    LossSpec::new()
        .head(Head::new([2, 4, 24, 20], Loss::nnunet_dc_topk()).hard_counts(HardCounts::Item))
        .head(Head::new([2, 3, 15], regions).probabilities(FloatType::F16).mask(true).weight_map(true))
        .head(Head::new([2, 5, 9], Loss::monai_focal()).sample_mask(true).check_finite(true))
        .head(Head::new([1, 20, 33], Loss::monai_generalized_dice()).logits(FloatType::Bf16))
        .head(Head::new([2, 2, 8, 8], Loss::monai_dice_ce()).resample([16, 16]).unreduced(true))
}

#[test]
fn any_mix_of_kinds_is_one_statistics_and_one_gradient_dispatch() {
    let spec = the_whole_family();
    let tensors = tensors(&spec);
    let counts = dispatches_by_label(None, |gpu| {
        run_variant(gpu, &spec, &tensors, 1.0, one_dispatch(gpu));
    });
    let small = [("begin", 1), ("combine", 1), ("finish", 1)];
    let expected = [("gradient", 1), ("histogram", 4), ("pick", 4), ("statistics", 1), ("sum_top", 1)];
    let expected = small.into_iter().chain(expected);
    assert_eq!(counts, expected.map(|(stage, n)| (format!("segloss: {stage}"), n)).collect::<Vec<_>>());
}

#[test]
fn a_variant_with_a_head_a_dispatch_gives_the_same_bits_in_a_dispatch_a_head() {
    let spec = five_unlike_heads();
    let tensors = tensors(&spec);
    let gpu = gpu();
    let together = run_variant(&gpu, &spec, &tensors, 1.0, one_dispatch(&gpu));
    let counts = dispatches_by_label(None, |gpu| {
        let one_a_head = Variant { heads_per_dispatch: 1, ..one_dispatch(gpu) };
        let apart = run_variant(gpu, &spec, &tensors, 1.0, one_a_head);
        assert_eq!(apart.report, together.report);
        assert_eq!(apart.gradients, together.gradients);
    });
    let expected = [("combine", 1), ("finish", 1), ("gradient", 5), ("statistics", 5)];
    assert_eq!(counts, expected.map(|(stage, n)| (format!("segloss: {stage}"), n)));
}

#[test]
fn siblings_that_compose_to_the_same_text_compile_it_once() {
    // shapes are in the table, not in the text: the second plan compiles nothing
    let specs = [24, 32].map(|side| LossSpec::new().head(Head::new([2, 4, side, side], Loss::monai_dice_ce())));
    let trace = trace(None, |gpu| {
        let first = segloss::Plan::new(&gpu.device, &gpu.queue, &specs[0]).expect("the plan is made");
        let second = first.sibling(&specs[1]).expect("the plan is made");
        let plans = [first, second];
        for (spec, plan) in specs.iter().zip(&plans) {
            let tensors = tensors(spec);
            let buffers = common::Buffers::upload(gpu, spec, &tensors);
            let result = buffers.step(gpu, &plan.bind(&buffers.bindings()).expect("the tensors are bound"));
            let worst = common::differences(&result, &common::evaluate(spec, &tensors, 1.0));
            assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{worst:?}");
        }
    });
    let created = trace.lines().filter(|line| line.starts_with("CreateComputePipeline(")).count();
    assert_eq!(created, 5, "the questions to the device, and statistics, combine, finish and gradient");
}

#[test]
fn one_plan_of_five_heads_equals_five_plans() {
    let gpu = gpu();
    let spec = five_unlike_heads();
    let tensors = tensors(&spec);
    let together = run(&gpu, &spec, &tensors, 0.5);
    let mut total = 0.0;
    for (index, head) in spec.heads.iter().enumerate() {
        let alone = run(&gpu, &LossSpec::new().head(head.clone()), &tensors[index..=index], 0.5);
        assert_eq!(alone.report.heads[0], together.report.heads[index], "head {index}");
        assert_eq!(alone.gradients[0], together.gradients[index], "head {index}");
        total += f64::from(alone.report.total);
    }
    assert!((total - f64::from(together.report.total)).abs() < 1e-6, "{total} {}", together.report.total);
}

#[test]
fn a_device_with_webgpus_default_limits_takes_as_few_dispatches_as_fit() {
    let spec = five_unlike_heads();
    let tensors = tensors(&spec);
    let expected = common::evaluate(&spec, &tensors, 1.0);
    // 8 storage buffers: 6 are left for tensors, so 3 heads of 2 in statistics, and 2 heads of 3 in gradient
    let counts = dispatches_by_label(Some(wgpu::Limits::default()), |gpu| {
        let worst = common::differences(&run_variant(gpu, &spec, &tensors, 1.0, one_dispatch(gpu)), &expected);
        assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{worst:?}");
    });
    let expected = [("combine", 1), ("finish", 1), ("gradient", 3), ("statistics", 2)];
    assert_eq!(counts, expected.map(|(stage, n)| (format!("segloss: {stage}"), n)));
}

#[test]
fn heads_that_share_a_target_share_its_binding() {
    let gpu = gpu();
    let spec = LossSpec::new()
        .head(Head::new([1, 3, 8, 8], Loss::monai_dice_ce()))
        .head(Head::new([1, 4, 8, 8], Loss::nnunet_dc_ce()));
    let tensors = tensors(&spec);
    // both heads have the labels of head 0 as target
    let shared = [tensors[0].clone(), Tensors { labels: tensors[0].labels.clone(), ..tensors[1].clone() }];
    let expected = common::evaluate(&spec, &shared, 1.0);
    let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 7, ..wgpu::Limits::default() };
    let small = common::gpu_with_limits(limits);
    // 5 buffers are left in the gradient stage: two heads of logits and gradient, and the one target
    for gpu in [&gpu, &small] {
        let buffers = common::Buffers::upload(gpu, &spec, &shared);
        let mut bindings = buffers.bindings();
        bindings[1].target = bindings[0].target.clone();
        let plan = segloss::Plan::with_variant(&gpu.device, &gpu.queue, &spec, one_dispatch(gpu));
        let plan = plan.expect("the plan is made");
        let step = plan.bind(&bindings).expect("the tensors are bound");
        assert_eq!(step.dispatches(), (1, 1));
        let result = buffers.step(gpu, &step);
        let worst = common::differences(&result, &expected);
        assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{worst:?}");
    }
}

#[test]
fn a_bound_on_the_work_of_a_dispatch_spreads_heads_and_items_and_changes_no_bit() {
    // 7 items of 1200 logits, 2 of 4000, and one of 90
    let loss = || Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1));
    let spec = LossSpec::new()
        .head(Head::new([7, 3, 20, 20], loss()).hard_counts(HardCounts::Item))
        .head(Head::new([2, 4, 1000], loss()).logits(FloatType::F16))
        .head(Head::new([1, 2, 45], loss()).labels(LabelType::U16));
    let tensors = tensors(&spec);
    let gpu = gpu();
    let host: Vec<_> = tensors.iter().map(Tensors::data).collect();
    let run = |gpu: &Gpu, logits: u64| {
        let variant = Some(one_dispatch(gpu));
        let options = PlanOptions { variant, logits_per_dispatch: NonZeroU64::new(logits), ..PlanOptions::default() };
        let plan = Plan::with_options(&gpu.device, &gpu.queue, &spec, options).expect("the plan is made");
        host::run(&plan, &host, 1.5).expect("the step runs")
    };
    let together = run(&gpu, 0);
    // all in one; 4 + 3 items, then both of 4000 apart, with the small head where it fits; one item each, even if it is
    // larger
    for (logits, dispatches) in [(u64::MAX, 1), (16_490, 1), (16_489, 2), (5000, 4), (1, 10)] {
        let counts = dispatches_by_label(None, |gpu| {
            let apart = run(gpu, logits);
            assert_eq!(apart.report, together.report, "{logits} logits");
            assert_eq!(apart.gradients, together.gradients, "{logits} logits");
        });
        let expected = [("combine", 1), ("finish", 1), ("gradient", dispatches), ("statistics", dispatches)];
        assert_eq!(counts, expected.map(|(stage, n)| (format!("segloss: {stage}"), n)), "{logits} logits");
    }
}

/// wgpu limits storage and uniform buffers of a stage together: 28 by default, 29 on Metal.
#[test]
fn heads_are_split_over_dispatches_where_all_buffers_of_a_stage_are_bounded_together() {
    let adapter = AdapterChoice::default().adapters().into_iter().next().expect("an adapter");
    let storage_buffers = adapter.limits().max_storage_buffers_per_shader_stage;
    let spec = LossSpec { heads: vec![Head::new([1, 3, 50], Loss::monai_dice_ce()); 10] };
    let tensors = tensors(&spec);
    let mut expected = None;
    // the last limit is the device's own: all ten heads in one dispatch, if that is enough
    for (sum, dispatches) in [(28, (1, 2)), (29, (1, 2)), (19, (2, 2)), (64, (1, 1))] {
        let limits = wgpu::Limits {
            max_storage_buffers_per_shader_stage: storage_buffers,
            max_buffers_and_acceleration_structures_per_shader_stage: sum,
            ..wgpu::Limits::default()
        };
        let gpu = common::gpu_with_limits(limits);
        let buffers = common::Buffers::upload(&gpu, &spec, &tensors);
        let plan = Plan::with_variant(&gpu.device, &gpu.queue, &spec, one_dispatch(&gpu)).expect("the plan is made");
        let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
        if storage_buffers >= 32 {
            assert_eq!(step.dispatches(), dispatches, "{sum} buffers");
        }
        let given = buffers.step(&gpu, &step);
        let given = (given.report.total.to_bits(), given.gradients);
        assert!(*expected.get_or_insert(given.clone()) == given, "{sum} buffers");
    }
}
