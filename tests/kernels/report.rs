//! The report: its contents, and that reading it never blocks a step.

use segloss::{Error, Head, Loss, LossSpec, Overlap, Pixel, Plan, Step, wgpu};

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
