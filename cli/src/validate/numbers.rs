//! Checks the kernels on an adapter: published cases, random specifications, shapes at the limits, the same bits in
//! every run.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::Result;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use segloss::host::{HostResult, HostStep};
use segloss::testing::cases::{self, Case, Outcome};
use segloss::testing::shaders::{CoveringStep, covering_steps};
use segloss::testing::{self, Comparison, Differences, Expected, Plans, Tensors, Tolerance, draw};
use segloss::{
    AdapterChoice, Answers, HardCounts, Head, LabelType, Loss, LossSpec, MemoryFormat, Pixel, Plan, Variant,
    open_adapter, wgpu,
};

use super::record::{Adapter, Bin, Counts, Errors, Failure, Size, Spread};

/// Runs of one step that must be equal bit for bit.
const RUNS: usize = 10;
/// Trials per device. SwiftShader keeps the code of every pipeline until its device is dropped, so devices are
/// replaced.
const TRIALS_PER_DEVICE: usize = 512;
/// The most logits of a tensor that is made to reach a limit.
const MOST_LOGITS: u64 = 48 << 20;

/// An adapter's results for the specifications that all adapters compute.
pub type Results = Vec<HostResult>;

/// Validates an adapter, with `trials` random specifications beside the cases. An error that ends it early is a failure
/// in the report.
pub fn on_adapter(
    adapter: &wgpu::Adapter,
    cases: &[Case],
    [seed, trials]: [u64; 2],
    tick: &dyn Fn(&str),
) -> (Adapter, Results) {
    let mut all = Adapter {
        name: crate::adapters::name(&adapter.get_info()),
        states: crate::adapters::states(adapter),
        variant: Vec::new(),
        cases: Counts::default(),
        covering: Counts::default(),
        steps: Counts::default(),
        errors: Vec::new(),
        histogram: Vec::new(),
        sizes: Vec::new(),
        runs_each: RUNS,
        determinism: Counts::default(),
        failures: Vec::new(),
    };
    let mut validate = || {
        published(adapter, cases, &mut all, tick)?;
        let (device, queue) = open_adapter(adapter)?;
        let (here, plans) = (Variant::for_device(&device), Plans::new(&device, &queue));
        let asked = Answers::of(&device, &queue)?;
        answers(asked, &device, &mut all);
        all.variant = here.numbers().map(|(name, number)| (name.to_owned(), number)).collect();
        let mut worst = Worst::default();
        every_pair((here, asked), &plans, &mut worst, &mut all, tick);
        let drawn = random(adapter, [seed, trials], &mut worst, &mut all, tick);
        worst.write(&mut all);
        drawn?;
        sizes(&device.limits(), &plans, &mut all, tick);
        determinism(&plans, &mut all, tick)
    };
    let results: Result<Results> = validate();
    let results = results.unwrap_or_else(|error| {
        all.failures.push(Failure { what: "what ended the validation".to_owned(), message: format!("{error:#}") });
        Vec::new()
    });
    (all, results)
}

/// What the device answered to questions with known answers. One that the driver says it can, and cannot, is a failure.
fn answers(answers: Answers, device: &wgpu::Device, all: &mut Adapter) {
    let states_subgroups = device.features().contains(wgpu::Features::SUBGROUP);
    let stated = [
        ("sums over a workgroup", answers.workgroup_sums, true),
        ("workgroup atomics", answers.workgroup_atomics, true),
        ("sums over subgroups", answers.subgroup_sums, states_subgroups),
        ("lanes in order", answers.one_subgroup, Variant::for_device(device).subgroup_size > 0),
        // WGSL leaves these open
        ("f16 unpacked exactly", answers.decodes_f16, false),
        ("f16 packed exactly", answers.encodes_f16, false),
    ];
    for (what, answer, is_stated) in stated {
        all.states.push((what.to_owned(), if answer { "yes" } else { "no" }.to_owned()));
        if is_stated && !answer {
            let message = "the driver states it, and the device answers wrong".to_owned();
            all.failures.push(Failure { what: what.to_owned(), message });
        }
    }
}

/// Plans on a device of its own.
fn open(adapter: &wgpu::Adapter) -> Result<Plans> {
    let (device, queue) = open_adapter(adapter)?;
    Ok(Plans::new(&device, &queue))
}

fn published(adapter: &wgpu::Adapter, cases: &[Case], all: &mut Adapter, tick: &dyn Fn(&str)) -> Result<()> {
    let plans = open(adapter)?;
    for case in cases {
        tick("published cases");
        match cases::run(&plans, case) {
            Outcome::Passed(_) => all.cases.passed += 1,
            Outcome::Unsupported(_) => all.cases.unsupported += 1,
            Outcome::Failed(phrases) => {
                all.cases.failed += 1;
                all.failures.push(Failure { what: case.id.clone(), message: phrases.join("; ") });
            }
        }
    }
    Ok(())
}

/// The worst errors so far, and the histogram of errors.
#[derive(Default)]
struct Worst {
    table: BTreeMap<(String, String), (usize, Differences)>,
    bins: BTreeMap<i32, usize>,
}

impl Worst {
    fn add(&mut self, spec: &LossSpec, worst: Differences) {
        *self.bins.entry(bin(worst.gradient)).or_default() += 1;
        for kind in spec.heads.iter().flat_map(kinds) {
            let (trials, errors) = self.table.entry(kind).or_default();
            *trials += 1;
            errors.loss = errors.loss.max(worst.loss);
            errors.gradient = errors.gradient.max(worst.gradient);
        }
    }

    fn write(self, all: &mut Adapter) {
        let rows = self.table.into_iter();
        all.errors = rows
            .map(|((kind, dtype), (trials, Differences { loss, gradient, .. }))| Errors {
                kind,
                dtype,
                trials,
                loss,
                gradient,
            })
            .collect();
        all.histogram = self.bins.into_iter().map(|(below, trials)| Bin { below, trials }).collect();
    }
}

/// Compares steps that cover every pair of choices with the f64 reference: ways to hold classes, load and reduce as on
/// hardware, in workgroups that this device takes.
fn every_pair(
    (here, asked): (Variant, Answers),
    plans: &Plans,
    worst: &mut Worst,
    all: &mut Adapter,
    tick: &dyn Fn(&str),
) {
    for CoveringStep { name, spec, variant: wanted, built_in_f16 } in covering_steps() {
        tick("every pair of choices");
        let one_subgroup = wanted.subgroup_size > 0;
        if wanted.subgroups && !here.subgroups || one_subgroup && here.subgroup_size == 0 {
            all.covering.unsupported += 1;
            continue;
        }
        let subgroup_size = if wanted.subgroups { here.subgroup_size } else { 0 };
        let invocations = if one_subgroup { subgroup_size } else { wanted.invocations };
        let variant = Variant {
            invocations,
            subgroup_size,
            heads_per_dispatch: here.heads_per_dispatch,
            // the device's own: SwiftShader's compiler cannot take every chunk
            chunk: here.chunk,
            ..wanted
        };
        let tensors = draw::tensors(&spec, 1);
        // where the device's conversion is not exact, no plan uses it
        let built_in_f16 = built_in_f16 && asked.decodes_f16 && asked.encodes_f16;
        let outcome = plans
            .with(&spec, Some(variant), Some(built_in_f16))
            .map_err(|error| error.to_string())
            .and_then(|plan| compare(&plan, &spec, &tensors))
            .and_then(|comparison| {
                worst.add(&spec, comparison.differences);
                comparison.tolerated()
            });
        match outcome {
            Ok(_) => all.covering.passed += 1,
            Err(message) => {
                all.covering.failed += 1;
                all.failures.push(Failure { what: name, message });
            }
        }
    }
}

/// Compares random specifications with the f64 reference. One that fails is reduced to a minimal one that fails.
fn random(
    adapter: &wgpu::Adapter,
    [seed, trials]: [u64; 2],
    worst: &mut Worst,
    all: &mut Adapter,
    tick: &dyn Fn(&str),
) -> Result<()> {
    let worst = RefCell::new(worst);
    let opened = RefCell::new((0, open(adapter)?));
    let config = Config {
        cases: u32::try_from(trials)?,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&draw::spec(1..4), |(spec, seed)| {
        tick("random specifications");
        let fail = |error: &dyn std::fmt::Display| TestCaseError::fail(error.to_string());
        let mut opened = opened.borrow_mut();
        opened.0 += 1;
        if opened.0 % TRIALS_PER_DEVICE == 0 {
            opened.1 = open(adapter).map_err(|error| fail(&error))?;
        }
        let plan = opened.1.plan(&spec).map_err(|error| fail(&error))?;
        let comparison = compare(&plan, &spec, &draw::tensors(&spec, seed)).map_err(|error| fail(&error))?;
        worst.borrow_mut().add(&spec, comparison.differences);
        comparison.tolerated().map(drop).map_err(|error| fail(&error))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, (spec, seed))) => all.failures.push(Failure {
            what: format!("a random specification, tensors of seed {seed}"),
            message: format!("{reason}: {}", serde_json::to_string(&spec)?),
        }),
        Err(TestError::Abort(reason)) => {
            all.failures.push(Failure { what: "random specifications".to_owned(), message: reason.to_string() });
        }
    }
    Ok(())
}

/// log2 of the next power of two above an error; errors below 2^-32 are in one bin.
fn bin(error: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "a small exponent")]
    let exponent = error.max(2.0_f64.powi(-33)).log2().floor() as i32;
    exponent + 1
}

/// The terms of a head, and the type of its logits.
fn kinds(head: &Head) -> Vec<(String, String)> {
    terms(head).map(|kind| (kind.to_owned(), head.logits.name().to_owned())).collect()
}

/// The names of a head's terms.
pub fn terms(head: &Head) -> impl Iterator<Item = &'static str> {
    let overlap = head.loss.overlap.as_ref().map(|overlap| overlap.kind.name());
    let pixel = head.loss.pixel.as_ref().map(|pixel| pixel.kind.name());
    overlap.into_iter().chain(pixel)
}

/// Compares a step with the reference.
fn compare(plan: &Plan, spec: &LossSpec, tensors: &[Tensors]) -> Result<Comparison, String> {
    let words = |error: segloss::Error| error.to_string();
    let expected = testing::evaluate(spec, tensors, 1.0).map_err(words)?;
    let given = step(plan, tensors).and_then(|step| step.run()).map_err(words)?;
    Ok(testing::compare(&Expected::of_evaluation(&expected), &given, Tolerance::DEVICE))
}

fn step(plan: &Plan, tensors: &[Tensors]) -> Result<HostStep, segloss::Error> {
    HostStep::new(plan, &tensors.iter().map(Tensors::data).collect::<Vec<_>>(), 1.0)
}

/// Shapes that reach these limits, with their names.
pub fn shapes(limits: &wgpu::Limits) -> Vec<(String, Vec<usize>)> {
    let workgroups = limits.max_compute_workgroups_per_dimension as usize;
    let binding = limits.max_storage_buffer_binding_size;
    let mut shapes = vec![
        ("one voxel".to_owned(), vec![1, 2, 1]),
        ("a row of 2^20 + 3 voxels".to_owned(), vec![1, 3, (1 << 20) + 3]),
        (format!("{} workgroups, a dimension has {workgroups}", workgroups + 2), vec![workgroups + 2, 2, 3]),
        ("1000 classes".to_owned(), vec![1, 1000, 515]),
    ];
    let voxels = usize::try_from(binding / 8 + 4096).unwrap_or(usize::MAX);
    if binding / 4 < MOST_LOGITS {
        shapes.push((format!("logits beyond the largest binding, {binding} bytes"), vec![1, 2, voxels]));
    }
    shapes
}

/// Compares shapes that reach the device's limits with the reference.
fn sizes(limits: &wgpu::Limits, plans: &Plans, all: &mut Adapter, tick: &dyn Fn(&str)) {
    for (what, shape) in shapes(limits) {
        tick("shapes at the limits");
        let head = Head::new(shape.clone(), Loss::monai_dice_ce()).labels(LabelType::U16);
        let spec = LossSpec::new().head(head);
        let tensors = [Tensors::random(&spec.heads[0], 4.0, 1)];
        let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
        let outcome = plans
            .plan(&spec)
            .map_err(|error| error.to_string())
            .and_then(|plan| compare(&plan, &spec, &tensors))
            .and_then(Comparison::tolerated)
            .map(|Differences { loss, gradient, .. }| Size { what: what.clone(), shape, loss, gradient });
        match outcome {
            Ok(size) => all.sizes.push(size),
            Err(message) => all.failures.push(Failure { what, message }),
        }
    }
}

/// Steps that cover every kernel, with their names.
pub fn steps() -> Vec<(&'static str, LossSpec)> {
    let top_k = Loss::nnunet_dc_topk();
    let smooth = Loss::monai_dice().pixel(Pixel::cross_entropy().label_smoothing(0.1));
    let five = [[2, 4, 24, 20, 16], [2, 4, 12, 10, 8], [2, 4, 6, 5, 4], [1, 14, 9, 9, 9], [1, 40, 7, 5, 3]];
    let head = |shape: [usize; 5]| {
        let format = if shape[1] > 4 { MemoryFormat::ChannelsLast } else { MemoryFormat::ContiguousFormat };
        Head::new(shape, smooth.clone()).memory_format(format)
    };
    vec![
        ("4 classes", LossSpec::new().head(Head::new([2, 4, 33, 17, 9], Loss::monai_dice_ce()))),
        ("14 classes, smoothing", LossSpec::new().head(Head::new([1, 14, 21, 19, 11], smooth.clone()))),
        ("105 classes", LossSpec::new().head(Head::new([1, 105, 13, 11, 7], Loss::nnunet_dc_ce()))),
        ("top-k", LossSpec::new().head(Head::new([2, 3, 31, 29], top_k).hard_counts(HardCounts::Item))),
        ("five heads, two channels last", LossSpec { heads: five.map(head).to_vec() }),
    ]
}

/// The tensors of a step.
pub fn tensors(spec: &LossSpec) -> Vec<Tensors> {
    spec.heads.iter().zip(1..).map(|(head, seed)| Tensors::random(head, 4.0, seed)).collect()
}

fn determinism(plans: &Plans, all: &mut Adapter, tick: &dyn Fn(&str)) -> Result<Results> {
    let mut results = Vec::new();
    for (what, spec) in steps() {
        let tensors = tensors(&spec);
        let step = step(&plans.plan(&spec)?, &tensors)?;
        let first = step.run()?;
        let expected = Expected::of_evaluation(&testing::evaluate(&spec, &tensors, 1.0)?);
        match testing::compare(&expected, &first, Tolerance::DEVICE).tolerated() {
            Ok(_) => all.steps.passed += 1,
            Err(message) => {
                all.steps.failed += 1;
                all.failures.push(Failure { what: what.to_owned(), message });
            }
        }
        let mut equal = true;
        for _ in 1..RUNS {
            tick("the same bits");
            equal &= same_bits(&step.run()?, &first);
        }
        if equal {
            all.determinism.passed += 1;
        } else {
            all.determinism.failed += 1;
            let message = format!("{RUNS} runs were not equal bit for bit");
            all.failures.push(Failure { what: what.to_owned(), message });
        }
        results.push(first);
    }
    Ok(results)
}

fn bits(result: &HostResult) -> Vec<u32> {
    let gradients = result.gradients.iter().flatten().map(|x| x.to_bits());
    std::iter::once(result.report.total.to_bits()).chain(gradients).collect()
}

fn same_bits(one: &HostResult, other: &HostResult) -> bool {
    bits(one) == bits(other)
}

/// How far the results of two adapters are apart.
pub fn spread(one: (&String, &Results), other: (&String, &Results)) -> Spread {
    let mut spread = Spread {
        one: one.0.clone(),
        other: other.0.clone(),
        steps: one.1.len(),
        equal_bits: 0,
        loss: 0.0,
        gradient: 0.0,
    };
    for ((one, other), (_, spec)) in one.1.iter().zip(other.1).zip(steps()) {
        spread.equal_bits += usize::from(same_bits(one, other));
        let apart = apart(&spec, one, other);
        spread.loss = spread.loss.max(apart.loss);
        spread.gradient = spread.gradient.max(apart.gradient);
    }
    spread
}

/// How far two results are apart, measured as the distance from the reference is.
pub fn apart(spec: &LossSpec, one: &HostResult, other: &HostResult) -> Differences {
    testing::compare(&Expected::of_result(spec, one), other, Tolerance::DEVICE).differences
}

/// The adapters that match: the first, or all.
pub fn adapters(choice: &AdapterChoice, all: bool) -> Vec<wgpu::Adapter> {
    let mut adapters = choice.adapters();
    if !all {
        adapters.truncate(1);
    }
    adapters
}
