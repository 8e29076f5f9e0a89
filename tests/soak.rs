//! A long run: the memory of host and device stays constant, and the last step has the bits of the first.
//!
//! `SEGLOSS_SOAK_STEPS=20000` (`make soak`) makes it long.
#![allow(missing_docs, reason = "a test's name is its claim")]

mod common;

use common::{Buffers, Gpu, all_gpus, random_tensors};
use segloss::{Head, Loss, LossSpec, PendingReport, Plan, Report, wgpu};

/// How many bytes allocators and drivers may still grow by after a tenth of the steps. Over 20,000 steps that is about
/// 60 bytes per step on the device, and 230 on the host.
const DEVICE_GROWTH: u64 = 1 << 20;
const HOST_GROWTH: u64 = 4 << 20;

/// Resident bytes of this process, where the system reports them.
fn host_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Bytes that the device has allocated, where the back end reports them.
fn device_bytes(gpu: &Gpu) -> Option<u64> {
    gpu.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
}

#[test]
fn memory_stays_flat_with_reports_read_a_step_late() {
    let steps: usize = std::env::var("SEGLOSS_SOAK_STEPS").map_or(2000, |steps| steps.parse().expect("a number"));
    for gpu in all_gpus() {
        let spec = LossSpec::new()
            .head(Head::new([2, 4, 12, 10], Loss::monai_dice_ce()).weight(0.5))
            .head(Head::new([1, 3, 33], Loss::nnunet_dc_topk()).ignore_index(2));
        let mut random = fastrand::Rng::with_seed(71);
        let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, &mut random)).collect();
        let buffers = Buffers::upload(&gpu, &spec, &tensors);
        let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
        let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
        let submit = || {
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            step.forward(&mut encoder);
            step.backward(&mut encoder);
            let pending = step.report(&mut encoder).expect("a staging buffer is free");
            gpu.queue.submit([encoder.finish()]);
            pending
        };
        let (mut first, mut late): (Option<Report>, Option<PendingReport>) = (None, None);
        let mut early = (None, None);
        for number in 0..steps {
            let pending = submit();
            if let Some(late) = late.replace(pending) {
                let report = late.read_blocking().expect("it arrives");
                assert_eq!(*first.get_or_insert_with(|| report.clone()), report, "{}: step {number}", gpu.name);
            }
            if number == steps / 10 {
                early = (host_bytes(), device_bytes(&gpu));
            }
        }
        drop(late);
        let now = (host_bytes(), device_bytes(&gpu));
        println!("{}: {steps} steps: host and device bytes {early:?} after a tenth, {now:?} at the end", gpu.name);
        for (early, now, growth) in [(early.0, now.0, HOST_GROWTH), (early.1, now.1, DEVICE_GROWTH)] {
            if let (Some(early), Some(now)) = (early, now) {
                assert!(now <= early + growth, "{}: {early} bytes, then {now}", gpu.name);
            }
        }
    }
}
