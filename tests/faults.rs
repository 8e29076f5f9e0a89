//! Lost devices, destroyed buffers, missing memory: each is a typed error, without a panic or a hang, and the caller's
//! other work continues.
#![allow(missing_docs, reason = "a test's name is its claim")]

mod common;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use common::{Buffers, Gpu, Tensors, all_gpus, differences, download, random_tensors, storage};
use segloss::reference::Evaluation;
use segloss::{
    AdapterChoice, Error, Head, HeadTensors, Loss, LossSpec, PendingReport, Plan, Report, Step, host, open_adapter,
    wgpu,
};

/// The most time for a call; longer counts as a hang.
const LIMIT: Duration = Duration::from_mins(2);

/// The result of `work`; fails if it panics or hangs.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    let worker = std::thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(LIMIT) {
        Ok(value) => {
            worker.join().expect("the thread ends");
            value
        }
        Err(RecvTimeoutError::Disconnected) => panic!("it panics"),
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
    }
}

struct Bound {
    gpu: Gpu,
    spec: LossSpec,
    tensors: Vec<Tensors>,
    buffers: Buffers,
    plan: Plan,
    step: Step,
    expected: Evaluation,
    /// Errors that reached the caller's error handler.
    uncaptured: Arc<AtomicUsize>,
}

fn bound(gpu: Gpu) -> Bound {
    bound_with_classes(gpu, 3)
}

fn bound_with_classes(gpu: Gpu, classes: usize) -> Bound {
    let spec = LossSpec::new()
        .head(Head::new([2, classes, 9, 5], Loss::monai_dice_ce()).ignore_index(255))
        .head(Head::new([1, 2, 17], Loss::nnunet_dc_ce()));
    let mut random = fastrand::Rng::with_seed(61);
    let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let buffers = Buffers::upload(&gpu, &spec, &tensors);
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
    let expected = common::evaluate(&spec, &tensors, 1.0);
    let uncaptured = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&uncaptured);
    gpu.device.on_uncaptured_error(Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    Bound { gpu, spec, tensors, buffers, plan, step, expected, uncaptured }
}

impl Bound {
    /// Submits a step, in an error scope of the caller's.
    fn submit(&self) -> (Result<PendingReport, Error>, Option<wgpu::Error>) {
        let scope = self.gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.step.forward(&mut encoder);
        self.step.backward(&mut encoder);
        let pending = self.step.report(&mut encoder);
        self.gpu.queue.submit([encoder.finish()]);
        (pending, pollster::block_on(scope.pop()))
    }

    /// Runs work of the caller's without this crate, and a step of the same plan on other buffers.
    fn everything_else_goes_on(&self) {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(download(&self.gpu, &storage(&self.gpu, &bytes)), bytes, "{}", self.gpu.name);
        let buffers = Buffers::upload(&self.gpu, &self.spec, &self.tensors);
        let step = self.plan.bind(&buffers.bindings()).expect("the tensors are bound");
        let worst = differences(&buffers.step(&self.gpu, &step), &self.expected);
        assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{}: {worst:?}", self.gpu.name);
        assert_eq!(self.uncaptured.load(Ordering::Relaxed), 0, "{}: an error nobody caught", self.gpu.name);
    }
}

/// Waits for a report while another thread polls.
fn awaited_report(gpu: &Gpu, pending: PendingReport) -> Result<Report, Error> {
    std::thread::scope(|scope| {
        scope.spawn(|| gpu.device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ()));
        pollster::block_on(pending.read())
    })
}

fn is_lost<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::DeviceLost { .. }))
}

#[test]
fn a_lost_device_is_a_typed_error_in_every_call() {
    for gpu in all_gpus() {
        in_time(move || {
            let bound = bound(gpu);
            let Bound { gpu, spec, plan, step, .. } = &bound;
            gpu.device.destroy();
            assert!(is_lost(&Plan::new(&gpu.device, &gpu.queue, spec)), "{}: a plan", gpu.name);
            assert!(is_lost(&plan.sibling(spec)), "{}: a sibling", gpu.name);
            assert!(is_lost(&plan.bind(&bound.buffers.bindings())), "{}: binding", gpu.name);
            assert!(is_lost(&step.warm_up()), "{}: a warm-up", gpu.name);
            let host: Vec<_> = bound.tensors.iter().map(Tensors::data).collect();
            assert!(is_lost(&host::run(plan, &host, 1.0)), "{}: host tensors", gpu.name);
            let (pending, _) = bound.submit();
            let report = pending.and_then(PendingReport::read_blocking);
            assert!(matches!(report, Err(Error::ReportLost { .. })), "{}: {report:?}", gpu.name);
            assert_eq!(bound.uncaptured.load(Ordering::Relaxed), 0, "{}: an error nobody caught", gpu.name);
        });
    }
}

#[test]
fn a_device_lost_with_work_in_flight_ends_every_wait() {
    for gpu in all_gpus() {
        in_time(move || {
            let bound = bound(gpu);
            let pending: Vec<_> = (0..3).map(|_| bound.submit().0.expect("a staging buffer is free")).collect();
            bound.gpu.device.destroy();
            for (index, pending) in pending.into_iter().enumerate() {
                let read = match index {
                    0 => pending.read_blocking(),
                    1 => pollster::block_on(pending.read()),
                    _ => return drop(pending),
                };
                // the submitted work may be done by now; otherwise the report is lost
                match read {
                    Ok(report) => assert!((f64::from(report.total) - bound.expected.total).abs() < 2e-6),
                    Err(error) => assert!(matches!(error, Error::ReportLost { .. }), "{error:?}"),
                }
            }
        });
    }
}

#[test]
fn a_report_outlives_the_callers_device_plan_step_and_tensors() {
    for gpu in all_gpus() {
        in_time(move || {
            let bound = bound(gpu);
            let pending = bound.submit().0.expect("a staging buffer is free");
            let total = bound.expected.total;
            drop(bound);
            let report = pending.read_blocking().expect("it arrives");
            assert!((f64::from(report.total) - total).abs() < 2e-6);
        });
    }
}

#[test]
fn work_in_flight_outlives_its_plan_and_its_report() {
    for gpu in all_gpus() {
        in_time(move || {
            let Bound { gpu, buffers, plan, step, expected, .. } = bound(gpu);
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            step.forward(&mut encoder);
            step.backward(&mut encoder);
            let pending = step.report(&mut encoder).expect("a staging buffer is free");
            drop((plan, step));
            gpu.queue.submit([encoder.finish()]);
            drop(pending);
            let worst = buffers.gradients(&gpu).iter().zip(&expected.heads).fold(0.0_f64, |worst, (dz, expected)| {
                let differences = dz.iter().zip(&expected.gradient).map(|(x, e)| (f64::from(*x) - e).abs());
                differences.fold(worst, f64::max)
            });
            assert!(worst < 1e-6, "{}: {worst}", gpu.name);
        });
    }
}

#[test]
fn a_destroyed_tensor_fails_in_the_callers_submit_and_the_report_is_lost() {
    // reports of an even and of an odd number of words
    for (gpu, classes) in [3, 4].into_iter().flat_map(|classes| all_gpus().into_iter().map(move |gpu| (gpu, classes))) {
        in_time(move || {
            let bound = bound_with_classes(gpu, classes);
            let good = bound.submit().0.and_then(PendingReport::read_blocking).expect("nothing is wrong yet");
            assert!((f64::from(good.total) - bound.expected.total).abs() < 2e-6);
            bound.buffers.bindings()[0].logits.buffer.destroy();
            // every staging buffer, with an earlier report in it and without; every fourth report is dropped unread
            for round in 0..9 {
                let awaited = round % 2 == 1;
                if round % 4 == 3 {
                    drop(bound.submit());
                    continue;
                }
                let (pending, error) = bound.submit();
                let words = error.expect("the caller's scope has it").to_string();
                assert!(words.contains("destroyed"), "{words}");
                let pending = pending.expect("a staging buffer is free");
                let report = if awaited { awaited_report(&bound.gpu, pending) } else { pending.read_blocking() };
                assert!(matches!(report, Err(Error::ReportLost { .. })), "{}: {report:?}", bound.gpu.name);
            }
            bound.everything_else_goes_on();
        });
    }
}

#[test]
fn a_report_in_a_later_encoder_than_a_forward_that_failed_is_lost() {
    for gpu in all_gpus() {
        in_time(move || {
            let bound = bound(gpu);
            let encoder = || bound.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let forward = || {
                let scope = bound.gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
                let mut encoder = encoder();
                bound.step.forward(&mut encoder);
                bound.gpu.queue.submit([encoder.finish()]);
                pollster::block_on(scope.pop())
            };
            let report = || {
                let mut encoder = encoder();
                let pending = bound.step.report(&mut encoder).expect("a staging buffer is free");
                bound.gpu.queue.submit([encoder.finish()]);
                pending.read_blocking()
            };
            assert!(matches!(report(), Err(Error::ReportLost { .. })), "no forward yet");
            assert!(forward().is_none());
            assert!((f64::from(report().expect("it arrives").total) - bound.expected.total).abs() < 2e-6);
            assert!(matches!(report(), Err(Error::ReportLost { .. })), "it was taken");
            bound.buffers.bindings()[0].logits.buffer.destroy();
            assert!(forward().is_some());
            assert!(matches!(report(), Err(Error::ReportLost { .. })), "{}", bound.gpu.name);
            bound.everything_else_goes_on();
        });
    }
}

#[test]
fn a_tensor_destroyed_in_flight_is_no_panic() {
    for gpu in all_gpus() {
        in_time(move || {
            let bound = bound(gpu);
            let (pending, error) = bound.submit();
            assert!(error.is_none(), "{error:?}");
            bound.buffers.bindings()[1].target.buffer.destroy();
            // the device keeps a buffer until the submitted work is done
            let report = pending.and_then(PendingReport::read_blocking).expect("it arrives");
            assert!((f64::from(report.total) - bound.expected.total).abs() < 2e-6);
            bound.everything_else_goes_on();
        });
    }
}

#[test]
fn a_tensor_of_another_device_is_a_typed_error() {
    for adapter in AdapterChoice::default().adapters() {
        in_time(move || {
            let open = || open_adapter(&adapter).expect("the adapter opens");
            let ((device, queue), (other, _queue)) = (open(), open());
            let bound = bound(Gpu::new(format!("{:?}", adapter.get_info()), device, queue));
            let foreign = other.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 4096,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            });
            let mut bindings: Vec<HeadTensors<'_>> = bound.buffers.bindings();
            bindings[1].target = wgpu::BufferBinding { buffer: &foreign, offset: 0, size: NonZeroU64::new(17) };
            let refused = bound.plan.bind(&bindings).map(|_| ());
            assert!(matches!(refused, Err(Error::Device { during: "binding tensors", .. })), "{refused:?}");
            bound.everything_else_goes_on();
        });
    }
}

/// Whether this process has a memory limit. If not, runs the test of this name in a process that has one, and waits for
/// it.
#[cfg(target_os = "linux")]
fn is_bounded(name: &str) -> bool {
    const CHILD: &str = "SEGLOSS_BOUNDED_PROCESS";
    if std::env::var(CHILD).is_ok() {
        return true;
    }
    let this = std::env::current_exe().expect("a test is a program");
    // in KiB: enough for a software driver and a few dozen allocations
    let command = format!("ulimit -v 6000000; exec {} --exact {name} --nocapture", this.display());
    let output = std::process::Command::new("sh").args(["-c", &command]).env(CHILD, "1").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    false
}

/// Makes as many as there is memory for; returns them, and the error of the next.
#[cfg(target_os = "linux")]
fn until_memory_ends<T>(mut make: impl FnMut() -> Result<T, Error>) -> (Vec<T>, Error) {
    let mut all = Vec::new();
    loop {
        assert!(all.len() < 200, "there is more memory than the process may have");
        match make() {
            Ok(one) => all.push(one),
            Err(error) => return (all, error),
        }
    }
}

/// Plans of dozens of MB until memory runs out; they have a row of partial sums per item.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_not_there_is_a_typed_error() {
    if !is_bounded("memory_that_is_not_there_is_a_typed_error") {
        return;
    }
    let Gpu { device, queue, .. } = common::gpu();
    let spec = LossSpec::new().head(Head::new([1 << 19, 8, 1], Loss::monai_dice_ce()));
    let (plans, error) = until_memory_ends(|| Plan::new(&device, &queue, &spec));
    println!("{} plans of {} bytes, then: {error}", plans.len(), plans[0].memory());
    assert!(matches!(error, Error::OutOfMemory { during: "making a plan", .. }), "{error:?}");
    // the device is not lost, and freed memory can be used again
    drop(plans);
    device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
    Plan::new(&device, &queue, &spec).expect("the plan is made");
}

/// Steps of dozens of MB until memory runs out; a top-k keeps a loss per voxel.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_not_there_for_a_step_is_a_typed_error() {
    if !is_bounded("memory_that_is_not_there_for_a_step_is_a_typed_error") {
        return;
    }
    let Gpu { device, queue, .. } = common::gpu();
    let spec = LossSpec::new().head(Head::new([1, 2, 1 << 24], Loss::nnunet_dc_topk()));
    let [logits, labels] = [1 << 27, 1 << 24].map(|size| {
        let usage = wgpu::BufferUsages::STORAGE;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    });
    let tensors = [HeadTensors::new(logits.as_entire_buffer_binding(), labels.as_entire_buffer_binding())];
    let plan = Plan::new(&device, &queue, &spec).expect("the plan is made");
    let (steps, error) = until_memory_ends(|| plan.bind(&tensors));
    println!("{} steps of {} bytes, then: {error}", steps.len(), steps[0].memory());
    assert!(matches!(error, Error::OutOfMemory { during: "binding tensors", .. }), "{error:?}");
    drop(steps);
    device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
    plan.bind(&tensors).expect("the tensors are bound");
}
