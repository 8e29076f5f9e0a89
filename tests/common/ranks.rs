//! A batch over several ranks, each with its own plan, all on one device; the sums are added up here instead of by a
//! collective.

use std::ops::Range;

use segloss::host::{HostResult, HostStep};
use segloss::{GlobalSums, Head, LossSpec, Plan, PlanOptions, Step, VoxelPosition, wgpu};

use crate::common::{Gpu, Tensors};

/// A rank: its plan, and its part of each head's tensors.
pub struct Rank {
    host: HostStep,
}

/// The range of items of each rank.
fn ranges(parts: &[usize]) -> Vec<Range<usize>> {
    parts
        .iter()
        .scan(0, |end, &part| {
            *end += part;
            Some(*end - part..*end)
        })
        .collect()
}

/// The specification of a rank: that of the whole batch, with this number of items.
pub fn rank_spec(spec: &LossSpec, items: usize) -> LossSpec {
    let with_items = |head: &Head| {
        let mut head = head.clone();
        head.shape[0] = items;
        head
    };
    LossSpec { heads: spec.heads.iter().map(with_items).collect() }
}

/// Some items of a head's tensors.
fn part_of(head: &Head, tensors: &Tensors, items: &Range<usize>) -> Tensors {
    fn part<T: Clone>(all: &[T], head: &Head, items: &Range<usize>) -> Vec<T> {
        let item = all.len() / head.items();
        all[items.start * item..items.end * item].to_vec()
    }
    Tensors {
        logits: part(&tensors.logits, head, items),
        labels: part(&tensors.labels, head, items),
        probabilities: part(&tensors.probabilities, head, items),
        mask: part(&tensors.mask, head, items),
        weight_map: part(&tensors.weight_map, head, items),
        sample_mask: part(&tensors.sample_mask, head, items),
    }
}

impl Rank {
    pub fn new(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> Self {
        let options = PlanOptions { distributed: true, ..PlanOptions::default() };
        let plan = Plan::with_options(&gpu.device, &gpu.queue, spec, options).expect("the plan is made");
        Self::of(&plan, tensors, upstream)
    }

    pub fn of(plan: &Plan, tensors: &[Tensors], upstream: f32) -> Self {
        let host: Vec<_> = tensors.iter().map(Tensors::data).collect();
        Self { host: HostStep::new(plan, &host, upstream).expect("the tensors are bound") }
    }

    pub fn step(&self) -> &Step {
        self.host.step()
    }

    /// Runs statistics and combine, and reads the rank's sums.
    pub fn sums(&self, gpu: &Gpu) -> GlobalSums {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.step().statistics(&mut encoder);
        self.step().combine(&mut encoder);
        let pending = self.step().global_sums(&mut encoder).expect("a staging buffer is free");
        gpu.queue.submit([encoder.finish()]);
        pending.read_blocking().expect("the sums arrive")
    }

    /// Runs finish and gradient with the sums of all ranks.
    pub fn finish(&self, gpu: &Gpu, sums: &GlobalSums) -> HostResult {
        self.step().set_global_sums(sums).expect("they are those of the plan");
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        self.step().finish(&mut encoder);
        self.step().gradient(&mut encoder);
        let pending = self.step().report(&mut encoder).expect("a staging buffer is free");
        gpu.queue.submit([encoder.finish()]);
        let report = pending.read_blocking().expect("the report arrives");
        let gradients = self.host.read_gradients().expect("the gradients arrive");
        HostResult { report, gradients, voxel_losses: Vec::new() }
    }
}

/// Adds two ranks' sums, element by element.
pub fn add(all: &mut GlobalSums, rank: &GlobalSums) {
    assert_eq!((all.sums.len(), all.counts.len()), (rank.sums.len(), rank.counts.len()));
    all.sums.iter_mut().zip(&rank.sums).for_each(|(sum, x)| *sum += x);
    all.counts.iter_mut().zip(&rank.counts).for_each(|(sum, x)| *sum += x);
}

/// The results of each rank of a batch whose items are spread over ranks, `parts[r]` of them on rank r. The plans are
/// siblings, so that kernels are compiled once.
pub fn run_ranks(gpu: &Gpu, spec: &LossSpec, tensors: &[Tensors], parts: &[usize], upstream: f32) -> Vec<HostResult> {
    let mut plan: Option<Plan> = None;
    let mut ranks = Vec::new();
    for items in ranges(parts) {
        let of_rank = spec.heads.iter().zip(tensors).map(|(head, tensors)| part_of(head, tensors, &items));
        let of_rank: Vec<_> = of_rank.collect();
        let spec = rank_spec(spec, items.len());
        let options = PlanOptions { distributed: true, ..PlanOptions::default() };
        let made = match &plan {
            Some(plan) => plan.sibling(&spec),
            None => Plan::with_options(&gpu.device, &gpu.queue, &spec, options),
        };
        let made = made.expect("the plan is made");
        ranks.push(Rank::of(&made, &of_rank, upstream));
        plan = Some(made);
    }
    let mut sums = ranks.iter().map(|rank| rank.sums(gpu));
    let mut all = sums.next().expect("there is a rank");
    sums.for_each(|rank| add(&mut all, &rank));
    ranks.iter().map(|rank| rank.finish(gpu, &all)).collect()
}

/// The result of the whole batch, put together from the ranks: gradients, and what in a report belongs to a rank's own
/// items, are concatenated; the rest is equal on all ranks.
pub fn together(spec: &LossSpec, parts: &[usize], ranks: &[HostResult]) -> HostResult {
    let mut whole = ranks[0].clone();
    for rank in ranks {
        assert_eq!(rank.report.total.to_bits(), whole.report.total.to_bits(), "the ranks agree");
    }
    for (head, of_head) in spec.heads.iter().enumerate() {
        let reports = || ranks.iter().map(|rank| &rank.report.heads[head]);
        let report = &mut whole.report.heads[head];
        for rank in reports() {
            assert_eq!((rank.overlap, rank.pixel), (report.overlap, report.pixel), "the ranks agree");
            assert_eq!((rank.counted, &rank.hard_counts), (report.counted, &report.hard_counts), "the ranks agree");
        }
        report.item_counts =
            reports().map(|report| report.item_counts.clone()).collect::<Option<Vec<_>>>().map(|c| c.concat());
        if of_head.loss.overlap.as_ref().is_some_and(|overlap| !overlap.batch) {
            let losses = reports().map(|report| report.overlap_losses.clone());
            report.overlap_losses = losses.collect::<Option<Vec<_>>>().map(|losses| losses.concat());
        }
        report.first_out_of_range = reports().zip(ranges(parts)).find_map(|(report, items)| {
            let first = report.first_out_of_range?;
            Some(VoxelPosition { item: first.item + u32::try_from(items.start).expect("few items"), ..first })
        });
        whole.gradients[head] = ranks.iter().flat_map(|rank| rank.gradients[head].iter().copied()).collect();
    }
    whole
}
