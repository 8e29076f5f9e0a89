//! The report: its contents, and that reading it never blocks a step.

use segloss::host::HostStep;
use segloss::testing::{self, Expected, ExpectedWord};
use segloss::{Error, HardCounts, Head, Loss, LossSpec, Overlap, Pixel, Plan, Stage, Step, Tensor, wgpu};

use crate::common::{self, Buffers, Tensors, gpu, random_tensors};

struct Fixture {
    gpu: common::Gpu,
    buffers: Buffers,
    step: Step,
    expected: segloss::reference::Evaluation,
}

fn fixture() -> Fixture {
    let gpu = gpu();
    let spec = LossSpec::new()
        .head(
            Head::new(
                [2, 3, 7, 5],
                Loss::new().overlap(Overlap::dice().weight(0.3)).pixel(Pixel::cross_entropy().weight(2.0)),
            )
            .weight(0.5),
        )
        .head(Head::new([1, 4, 9], Loss::torch_cross_entropy()).weight(0.25));
    let mut random = fastrand::Rng::with_seed(47);
    let tensors: Vec<Tensors> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let buffers = Buffers::upload(&gpu, &spec, &tensors);
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
    let expected = common::evaluate(&spec, &tensors, 1.0);
    Fixture { gpu, buffers, step, expected }
}

impl Fixture {
    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }
}

#[test]
fn terms_come_unweighted_and_weighted_and_add_up() {
    let fixture = fixture();
    let report = fixture.buffers.step(&fixture.gpu, &fixture.step).report;
    let overlap = report.heads[0].overlap.expect("it has one");
    let pixel = report.heads[0].pixel.expect("it has one");
    let alone = report.heads[1].pixel.expect("it has one");
    assert_eq!(report.heads[1].overlap, None);
    assert!((overlap.weighted - 0.5 * 0.3 * overlap.value).abs() < 1e-7);
    assert!((pixel.weighted - 0.5 * 2.0 * pixel.value).abs() < 1e-6);
    assert!((report.total - overlap.weighted - pixel.weighted - alone.weighted).abs() < 1e-6);
    assert_eq!(report.heads[1].soft_dice.len(), 4);
    for (given, expected) in report.heads[1].soft_dice.iter().zip(&fixture.expected.heads[1].soft_dice) {
        assert!((f64::from(*given) - expected).abs() < 1e-6);
    }
}

#[test]
fn the_stages_alone_equal_forward_and_backward() {
    let fixture = fixture();
    let whole = fixture.buffers.step(&fixture.gpu, &fixture.step);
    let mut encoder = fixture.encoder();
    fixture.step.statistics(&mut encoder);
    fixture.step.combine(&mut encoder);
    fixture.step.finish(&mut encoder);
    fixture.step.gradient(&mut encoder);
    let pending = fixture.step.report(&mut encoder).expect("a staging buffer is free");
    fixture.gpu.queue.submit([encoder.finish()]);
    assert_eq!(pending.read_blocking().expect("it arrives"), whole.report);
    assert_eq!(fixture.buffers.gradients(&fixture.gpu), whole.gradients);
}

#[test]
fn a_warm_up_changes_nothing() {
    let fixture = fixture();
    let before = fixture.buffers.gradients(&fixture.gpu);
    fixture.step.warm_up().expect("it warms up");
    let bits = |heads: &[Vec<f32>]| heads.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&fixture.buffers.gradients(&fixture.gpu)), bits(&before));
    let first = fixture.buffers.step(&fixture.gpu, &fixture.step).report;
    let mut encoder = fixture.encoder();
    fixture.step.forward(&mut encoder);
    fixture.gpu.queue.submit([encoder.finish()]);
    fixture.step.warm_up().expect("it warms up again");
    // the report on the device is still that of the step
    let mut encoder = fixture.encoder();
    let pending = fixture.step.report(&mut encoder).expect("a staging buffer is free");
    fixture.gpu.queue.submit([encoder.finish()]);
    assert_eq!(pending.read_blocking().expect("it arrives"), first);
}

#[test]
fn reports_are_read_late_out_of_order_and_dropped() {
    let fixture = fixture();
    let submit = || {
        let mut encoder = fixture.encoder();
        fixture.step.forward(&mut encoder);
        let pending = fixture.step.report(&mut encoder);
        fixture.gpu.queue.submit([encoder.finish()]);
        pending
    };
    for round in 0..20 {
        let mut pending: Vec<_> = (0..4).map(|_| submit().expect("a staging buffer is free")).collect();
        assert_eq!(submit().map(|_| ()), Err(Error::ReportsUnread { ring: 4 }));
        let dropped = pending.remove(round % 4);
        if round % 3 == 0 {
            fixture.gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
        }
        drop(dropped);
        let last = pending.pop().expect("three are left").read_blocking().expect("it arrives");
        let first = pending.remove(0).read_blocking().expect("it arrives");
        assert_eq!(first, last);
        drop(pending);
        fixture.gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
    }
}

#[test]
fn a_report_can_be_awaited_while_another_thread_polls() {
    let fixture = fixture();
    let mut encoder = fixture.encoder();
    fixture.step.forward(&mut encoder);
    let pending = fixture.step.report(&mut encoder).expect("a staging buffer is free");
    fixture.gpu.queue.submit([encoder.finish()]);
    let device = fixture.gpu.device.clone();
    let poller = std::thread::spawn(move || device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ()));
    let report = pollster::block_on(pending.read()).expect("it arrives");
    poller.join().expect("no panic").expect("the device works");
    assert!((f64::from(report.total) - fixture.expected.total).abs() < 2e-6);
}

#[test]
fn a_report_that_was_never_submitted_is_an_error_not_a_hang() {
    let fixture = fixture();
    let mut encoder = fixture.encoder();
    let early = fixture.step.report(&mut encoder).expect("a staging buffer is free");
    assert!(matches!(early.read_blocking(), Err(Error::ReportLost { .. })));
    let late = fixture.step.report(&mut encoder).expect("a staging buffer is free");
    drop(encoder);
    assert!(matches!(late.read_blocking(), Err(Error::ReportLost { .. })));
    // both staging buffers are free again
    let mut encoder = fixture.encoder();
    let all: Result<Vec<_>, _> = (0..4).map(|_| fixture.step.report(&mut encoder)).collect();
    assert_eq!(all.expect("four are free").len(), 4);
}

#[test]
fn the_words_of_a_report_have_the_names_and_the_values_of_its_fields() {
    let gpu = gpu();
    let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy());
    let full = Head::new([2, 3, 7, 5], loss.clone()).hard_counts(HardCounts::Item).unreduced(true).check_finite(true);
    let spec = LossSpec::new().head(full).head(Head::new([1, 4, 9], loss).weight(0.25));
    let tensors: Vec<Tensors> = spec.heads.iter().zip(1..).map(|(head, seed)| Tensors::hashed(head, seed)).collect();
    let plan = gpu.plans.plan(&spec).expect("the plan is made");
    let data: Vec<_> = tensors.iter().map(Tensors::data).collect();
    let step = HostStep::new(&plan, &data, 1.0).expect("the tensors are bound");
    let report = step.run().expect("it runs").report;
    let words = step.step().report_words();
    let held: Vec<u32> = bytemuck::pod_collect_to_vec(&common::download(&gpu, &words.buffer));
    let word = |name: &str| {
        let found = words.words.iter().find(|word| word.name == name).unwrap_or_else(|| panic!("no word {name}"));
        (held[found.index as usize], found.is_float)
    };
    let float = |value: f32| (value.to_bits(), true);
    assert_eq!(word("total"), float(report.total));
    for (index, head) in report.heads.iter().enumerate() {
        let of = |name: &str| word(&format!("heads[{index}].{name}"));
        let (overlap, pixel) = (head.overlap.expect("it has one"), head.pixel.expect("it has one"));
        assert_eq!(of("overlap"), float(overlap.value));
        assert_eq!(of("overlap.weighted"), float(overlap.weighted));
        assert_eq!(of("pixel"), float(pixel.value));
        assert_eq!(of("pixel.weighted"), float(pixel.weighted));
        assert_eq!(of("soft_dice[2]"), float(head.soft_dice[2]));
        assert_eq!(of("counted"), (head.counted, false));
        assert_eq!(of("first_out_of_range.item"), (u32::MAX, false));
        assert_eq!(of("d_pixel_weight"), float(head.d_pixel_weight));
    }
    let first = &report.heads[0];
    let counts = first.hard_counts.as_ref().expect("it has them");
    assert_eq!(word("heads[0].hard_counts[1].true_positives"), (counts[1].true_positives, false));
    assert_eq!(word("heads[0].hard_counts[2].false_negatives"), (counts[2].false_negatives, false));
    let items = first.item_counts.as_ref().expect("it has them");
    assert_eq!(word("heads[0].item_counts[1][0].false_positives"), (items[1].classes[0].false_positives, false));
    assert_eq!(word("heads[0].item_counts[1].counted"), (items[1].counted, false));
    let losses = first.overlap_losses.as_ref().expect("it has them");
    let (rows, classes) = (losses.len(), losses[0].len());
    let last = format!("heads[0].overlap_losses[{}][{}]", rows - 1, classes - 1);
    assert_eq!(word(&last), float(losses[rows - 1][classes - 1]));
    assert_eq!(word("heads[0].non_finite.logits"), (0, false));
    assert!(!words.words.iter().any(|word| word.name == "heads[1].non_finite.logits"));
    // everything that is compared with the reference has a word
    let expected = testing::evaluate(&spec, &tensors, 1.0).expect("it is evaluated");
    for (name, expected) in Expected::of_evaluation(&expected).words() {
        let (bits, is_float) = word(&name);
        match expected {
            ExpectedWord::Loss(value) | ExpectedWord::SoftDice(value) => {
                assert!(is_float && (f64::from(f32::from_bits(bits)) - value).abs() < 4e-6, "{name}");
            }
            ExpectedWord::Count(count) => assert_eq!((bits.into(), is_float), (count, false), "{name}"),
        }
    }
}

#[test]
fn a_recipe_says_which_half_of_the_step_it_is_and_which_tensors_a_binding_holds() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([2, 3, 7, 5], Loss::monai_dice_ce()).mask(true));
    let tensors = Tensors::hashed(&spec.heads[0], 1);
    let plan = gpu.plans.plan(&spec).expect("the plan is made");
    let step = HostStep::new(&plan, &[tensors.data()], 1.0).expect("the tensors are bound");
    let recipes = step.step().recipes();
    let of_stage = |stage: Stage| recipes.iter().filter(move |recipe| recipe.stage == stage);
    assert!(of_stage(Stage::Forward).any(|recipe| recipe.entry_point == "finish"));
    assert!(of_stage(Stage::Backward).all(|recipe| recipe.entry_point == "gradient"));
    let held = |stage| {
        let mut held: Vec<_> =
            of_stage(stage).flat_map(|recipe| &recipe.bindings).flat_map(|b| b.tensors.clone()).collect();
        held.sort_by_key(|(head, tensor)| (*head, tensor.to_string()));
        held
    };
    let tensors = [Tensor::Logits, Tensor::Mask, Tensor::Target].map(|tensor| (0, tensor));
    assert_eq!(held(Stage::Forward), tensors);
    assert_eq!(held(Stage::Backward), [&[(0, Tensor::Gradient)], &tensors[..]].concat());
}
