//! Several plans on one device: in threads, many at once, encoded many times, with reports read in any order.

use segloss::{Head, Loss, LossSpec, PendingReport, Plan, Report, Step, wgpu};

use crate::common::{Buffers, Gpu, all_gpus, gpu, random_tensors};

/// A plan's tensors, and the step on them.
struct Work {
    buffers: Buffers,
    step: Step,
}

fn work(gpu: &Gpu, plan: &Plan, seed: u64) -> Work {
    let mut random = fastrand::Rng::with_seed(seed);
    let heads = plan.spec().heads.iter();
    let tensors: Vec<_> = heads.map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let buffers = Buffers::upload(gpu, plan.spec(), &tensors);
    let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
    Work { buffers, step }
}

fn plan(gpu: &Gpu, spec: &LossSpec) -> Plan {
    Plan::new(&gpu.device, &gpu.queue, spec).expect("the plan is made")
}

fn encoder(gpu: &Gpu) -> wgpu::CommandEncoder {
    gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
}

/// The results of a step as bits, so that NaN is equal to itself.
fn bits(report: &Report, gradients: &[Vec<f32>]) -> (String, Vec<u32>) {
    (format!("{report:?}"), gradients.iter().flatten().map(|x| x.to_bits()).collect())
}

impl Work {
    fn alone(&self, gpu: &Gpu) -> (String, Vec<u32>) {
        let result = self.buffers.step(gpu, &self.step);
        bits(&result.report, &result.gradients)
    }

    fn encode(&self, encoder: &mut wgpu::CommandEncoder) -> PendingReport {
        self.step.forward(encoder);
        self.step.backward(encoder);
        self.step.report(encoder).expect("a staging buffer is free")
    }
}

#[test]
fn two_threads_with_a_plan_each_give_what_each_gives_alone() {
    for gpu in all_gpus() {
        let specs = [
            LossSpec::new().head(Head::new([2, 4, 31, 17], Loss::monai_dice_ce())),
            LossSpec::new().head(Head::new([1, 3, 999], Loss::nnunet_dc_topk()).ignore_index(2)),
        ];
        std::thread::scope(|scope| {
            for (spec, seed) in specs.iter().zip(1..) {
                let gpu = &gpu;
                scope.spawn(move || {
                    let work = work(gpu, &plan(gpu, spec), seed);
                    let first = work.alone(gpu);
                    for step in 0..50 {
                        assert!(work.alone(gpu) == first, "{}: thread {seed}, step {step}", gpu.name);
                    }
                });
            }
        });
    }
}

#[test]
fn two_threads_share_one_plan_by_turns() {
    let gpu = gpu();
    let plan = plan(&gpu, &LossSpec::new().head(Head::new([2, 4, 31, 17], Loss::monai_dice_ce())));
    let both = [work(&gpu, &plan, 3), work(&gpu, &plan, 4)];
    let expected = both.each_ref().map(|work| work.alone(&gpu));
    std::thread::scope(|scope| {
        for (work, expected) in both.iter().zip(&expected) {
            let gpu = &gpu;
            // each step is whole in one command buffer, so two threads may submit theirs in any order
            scope.spawn(move || {
                for _ in 0..30 {
                    assert!(work.alone(gpu) == *expected);
                }
            });
        }
    });
}

#[test]
fn a_plan_encoded_several_times_gives_each_time_what_it_gives_alone() {
    for gpu in all_gpus() {
        let plan = plan(&gpu, &LossSpec::new().head(Head::new([2, 5, 7, 9], Loss::nnunet_dc_ce())));
        let (a, b) = (work(&gpu, &plan, 5), work(&gpu, &plan, 6));
        let (alone_a, alone_b) = (a.alone(&gpu), b.alone(&gpu));
        // several times before a submit, in two encoders of one submit
        let (mut first, mut second) = (encoder(&gpu), encoder(&gpu));
        let mut pending =
            vec![a.encode(&mut first), b.encode(&mut first), b.encode(&mut second), a.encode(&mut second)];
        gpu.queue.submit([first.finish(), second.finish()]);
        let last = pending.pop().expect("four").read_blocking().expect("it arrives");
        assert!(bits(&last, &a.buffers.gradients(&gpu)) == alone_a, "{}", gpu.name);
        // and after it, while three reports are unread
        let mut third = encoder(&gpu);
        let after = b.encode(&mut third);
        gpu.queue.submit([third.finish()]);
        let after = after.read_blocking().expect("it arrives");
        assert!(bits(&after, &b.buffers.gradients(&gpu)) == alone_b, "{}", gpu.name);
        let expected = [&alone_a.0, &alone_b.0, &alone_b.0];
        for (pending, expected) in pending.into_iter().zip(expected).rev() {
            assert_eq!(&format!("{:?}", pending.read_blocking().expect("it arrives")), expected, "{}", gpu.name);
        }
    }
}

#[test]
fn a_hundred_plans_alive_at_once_and_their_reports_in_reverse() {
    for gpu in all_gpus() {
        // ten families of ten siblings: kernels are compiled once per family
        let all: Vec<Work> = (0..10)
            .flat_map(|family| {
                let spec = |voxels: usize| {
                    let loss = if family % 2 == 0 { Loss::monai_dice_ce() } else { Loss::nnunet_dc_ce() };
                    LossSpec::new().head(Head::new([1 + family % 3, 2, voxels], loss))
                };
                let first = plan(&gpu, &spec(10));
                let siblings = (11..20).map(|voxels| first.sibling(&spec(voxels)).expect("the plan is made"));
                let plans: Vec<_> = std::iter::once(first.clone()).chain(siblings).collect();
                plans.iter().zip(10 * family as u64..).map(|(plan, seed)| work(&gpu, plan, seed)).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(all.len(), 100);
        let alone: Vec<_> = all.iter().map(|work| work.alone(&gpu)).collect();
        let mut encoder = encoder(&gpu);
        let pending: Vec<_> = all.iter().map(|work| work.encode(&mut encoder)).collect();
        gpu.queue.submit([encoder.finish()]);
        for ((work, pending), expected) in all.iter().zip(pending).zip(&alone).rev() {
            let report = pending.read_blocking().expect("it arrives");
            assert!(bits(&report, &work.buffers.gradients(&gpu)) == *expected, "{}", gpu.name);
        }
    }
}
