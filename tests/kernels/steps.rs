//! Several steps of one plan: forwards, backwards, reports and submissions in any order, from any thread.

use segloss::host::HostStep;
use segloss::{
    Alpha, GlobalSums, HardCounts, Head, Loss, LossSpec, Overlap, Pixel, Plan, PlanOptions, Report, Step, wgpu,
};

use crate::common::{self, Gpu, all_gpus, gpu, random_tensors};

/// Terms per item and over the batch, a top-k, hard counts, a gradient that is checked for finite numbers.
fn spec() -> LossSpec {
    let batch = Loss::new().overlap(Overlap::dice().batch(true)).pixel(Pixel::cross_entropy().label_smoothing(0.1));
    LossSpec::new()
        .head(Head::new([2, 4, 31, 17], Loss::monai_dice_ce()).hard_counts(HardCounts::Item).check_finite(true))
        .head(Head::new([3, 3, 211], batch).unreduced(true))
        .head(Head::new([2, 3, 321], Loss::nnunet_dc_topk()).ignore_index(2))
}

/// The same without the top-k, which is refused with a distributed batch.
fn sums_spec() -> LossSpec {
    let mut spec = spec();
    spec.heads.truncate(2);
    spec.head(Head::new([2, 5, 40], Loss::new().pixel(Pixel::focal(2.0, Alpha::None))))
}

/// A step, and its own tensors.
fn step(plan: &Plan, seed: u64) -> HostStep {
    let mut random = fastrand::Rng::with_seed(seed);
    let heads = plan.spec().heads.iter();
    let tensors: Vec<_> = heads.map(|head| random_tensors(head, 3.0, &mut random)).collect();
    let host: Vec<_> = tensors.iter().map(common::Tensors::data).collect();
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    HostStep::new(plan, &host, 1.0 + seed as f32).expect("the tensors are bound")
}

/// The results of a step as bits, so that NaN is equal to itself.
type Bits = (String, Vec<u32>);

fn bits(report: &Report, gradients: &[Vec<f32>]) -> Bits {
    (format!("{report:?}"), gradients.iter().flatten().map(|x| x.to_bits()).collect())
}

fn alone(step: &HostStep) -> Bits {
    let result = step.run().expect("the step runs");
    bits(&result.report, &result.gradients)
}

fn commands(gpu: &Gpu, encode: impl FnOnce(&mut wgpu::CommandEncoder)) -> wgpu::CommandBuffer {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encode(&mut encoder);
    encoder.finish()
}

#[test]
fn steps_in_any_order_give_what_each_gives_alone() {
    for gpu in all_gpus() {
        let plan = gpu.plans.plan(&spec()).expect("the plan is made");
        let steps: Vec<_> = (1..4).map(|seed| step(&plan, seed)).collect();
        let expected: Vec<_> = steps.iter().map(alone).collect();
        let mut random = fastrand::Rng::with_seed(41);
        for _ in 0..20 {
            // recorded in any order as well; only the order of submissions matters
            let mut order: Vec<usize> = (0..3 * steps.len()).collect();
            random.shuffle(&mut order);
            let mut recorded: Vec<_> = (0..3 * steps.len()).map(|_| None).collect();
            let mut reports: Vec<_> = steps.iter().map(|_| None).collect();
            for work in order {
                let (index, step) = (work / 3, steps[work / 3].step());
                recorded[work] = Some(commands(&gpu, |encoder| match work % 3 {
                    0 => step.forward(encoder),
                    1 => step.backward(encoder),
                    _ => reports[index] = Some(step.report(encoder).expect("a staging buffer is free")),
                }));
            }
            // a step's forward comes before its backward, and that before its report, which says whether the gradient
            // is finite
            let mut next = vec![0; steps.len()];
            while next.iter().any(|&next| next < 3) {
                let index = random.usize(0..steps.len());
                let together = random.usize(1..3).min(3 - next[index]);
                let some = recorded[3 * index + next[index]..][..together].iter_mut().filter_map(Option::take);
                gpu.queue.submit(some);
                next[index] += together;
            }
            for ((step, report), expected) in steps.iter().zip(reports).zip(&expected) {
                let report = report.expect("recorded").read_blocking().expect("the report arrives");
                let gradients = step.read_gradients().expect("read");
                assert!(bits(&report, &gradients) == *expected, "{}", gpu.name);
            }
        }
    }
}

#[test]
fn the_second_forward_of_a_step_is_the_one_that_counts() {
    let gpu = gpu();
    let plan = gpu.plans.plan(&spec()).expect("the plan is made");
    let (one, other) = (step(&plan, 1), step(&plan, 2));
    let expected = alone(&one);
    let mut pending = None;
    gpu.queue.submit([commands(&gpu, |encoder| {
        one.step().forward(encoder);
        other.step().forward(encoder);
        one.step().forward(encoder);
        one.step().backward(encoder);
        pending = Some(one.step().report(encoder).expect("a staging buffer is free"));
    })]);
    let report = pending.expect("encoded").read_blocking().expect("the report arrives");
    assert!(bits(&report, &one.read_gradients().expect("read")) == expected);
}

#[test]
fn two_threads_with_a_step_each_of_one_plan_give_what_each_gives_alone() {
    for gpu in all_gpus() {
        let plan = gpu.plans.plan(&spec()).expect("the plan is made");
        std::thread::scope(|scope| {
            for seed in [5, 6] {
                let plan = &plan;
                scope.spawn(move || {
                    let step = step(plan, seed);
                    let expected = alone(&step);
                    for _ in 0..200 {
                        assert!(alone(&step) == expected);
                    }
                });
            }
        });
    }
}

/// Runs statistics and combine of a step, and reads its sums.
fn sums(gpu: &Gpu, step: &Step) -> GlobalSums {
    let mut pending = None;
    gpu.queue.submit([commands(gpu, |encoder| {
        step.statistics(encoder);
        step.combine(encoder);
        pending = Some(step.global_sums(encoder).expect("a staging buffer is free"));
    })]);
    pending.expect("encoded").read_blocking().expect("the sums arrive")
}

/// Finishes a step with the sums of two equal ranks, and runs its backward.
fn finish(gpu: &Gpu, step: &HostStep, mut sums: GlobalSums) -> Bits {
    sums.sums.iter_mut().for_each(|sum| *sum *= 2.0);
    sums.counts.iter_mut().for_each(|count| *count *= 2);
    step.step().set_global_sums(&sums).expect("they are as long as the rank's own");
    let mut pending = None;
    gpu.queue.submit([commands(gpu, |encoder| {
        step.step().finish(encoder);
        step.step().gradient(encoder);
        pending = Some(step.step().report(encoder).expect("a staging buffer is free"));
    })]);
    let report = pending.expect("encoded").read_blocking().expect("the report arrives");
    bits(&report, &step.read_gradients().expect("read"))
}

#[test]
fn steps_of_a_distributed_plan_have_global_sums_of_their_own() {
    for gpu in all_gpus() {
        let options = PlanOptions { distributed: true, ..PlanOptions::default() };
        let plan = Plan::with_options(&gpu.device, &gpu.queue, &sums_spec(), options).expect("the plan is made");
        let steps = [7, 8, 9].map(|seed| step(&plan, seed));
        let expected = steps.each_ref().map(|step| finish(&gpu, step, sums(&gpu, step.step())));
        let all = steps.each_ref().map(|step| sums(&gpu, step.step()));
        for index in [1, 0, 2] {
            let given = finish(&gpu, &steps[index], all[index].clone());
            assert!(given == expected[index], "{}: step {index}", gpu.name);
        }
    }
}

#[test]
fn a_step_in_parts_of_an_encoder_each_gives_the_same_bits() {
    for gpu in all_gpus() {
        let plan = gpu.plans.plan(&spec()).expect("the plan is made");
        let host = step(&plan, 11);
        let expected = alone(&host);
        let step = host.step();
        let parts = step.forward_parts().chain(step.backward_parts());
        let mut submitted = 0;
        for part in parts {
            gpu.queue.submit([commands(&gpu, |encoder| part.encode(encoder))]);
            submitted += 1;
        }
        assert_eq!(submitted, step.recipes().len());
        let mut pending = None;
        gpu.queue.submit([commands(&gpu, |encoder| pending = Some(step.report(encoder).expect("free")))]);
        let report = pending.expect("encoded").read_blocking().expect("the report arrives");
        assert!(bits(&report, &host.read_gradients().expect("read")) == expected, "{}", gpu.name);
    }
}

#[test]
fn a_plan_and_a_step_say_what_each_holds() {
    let gpu = gpu();
    let size = |spec: &LossSpec| {
        let plan = gpu.plans.plan(spec).expect("the plan is made");
        (plan.memory(), step(&plan, 1).step().memory())
    };
    let head = |voxels: usize, loss| LossSpec::new().head(Head::new([1, 2, voxels], loss));
    let (plan, step) = size(&head(1 << 14, Loss::monai_dice_ce()));
    let (longer_plan, longer_step) = size(&head(1 << 18, Loss::monai_dice_ce()));
    // partial sums belong to the plan
    assert!(longer_plan > plan && longer_step == step, "{plan} {longer_plan}, {step} {longer_step}");
    assert!(step < 4096, "{step}");
    // the losses of a top-k belong to the step
    let (_, with_losses) = size(&head(1 << 14, Loss::nnunet_dc_topk()));
    assert!(with_losses >= step + 4 * (1 << 14), "{with_losses}");
}
