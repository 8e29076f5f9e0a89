//! The stages that read none of the caller's tensors: a step runs them on its own scratch buffers.

use super::head_pipelines::finish_accesses;
use super::scratch::{StepScratch, table_buffer};
use super::shared::Shared;
use crate::gpu::device::{self, Access, Entry};
use crate::gpu::dispatch::Dispatch;
use crate::gpu::pipelines::Compiled;
use crate::layout::{table, tensors};

/// The dispatches of these stages, on the scratch buffers of one step.
#[derive(Debug)]
pub(crate) struct HeadStages {
    pub scratch: StepScratch,
    combine: Dispatch,
    row_sums: Option<Dispatch>,
    top_k: Vec<Dispatch>,
    finish: Dispatch,
    /// The table of heads for finish, where the weights are the caller's.
    own_table: Option<wgpu::Buffer>,
}

impl HeadStages {
    /// Allocates the scratch buffers. `weights`: the caller's, and the offset alignment of their binding; `None`: the
    /// weights of the specification.
    pub fn new(shared: &Shared, weights: Option<(&tensors::Extent, u64)>) -> Self {
        let Shared { device, pipelines, scratch: of_plan, .. } = shared;
        let layout = &shared.heads.layout;
        let scratch = StepScratch::new(device, layout, shared.distributed());
        let side = shared.limits.max_compute_workgroups_per_dimension;
        let stage = |compiled: &Compiled, grid, buffers: [&wgpu::Buffer; 2]| {
            let [read, written] = buffers;
            let entries = vec![Entry::whole(Access::Read, read), Entry::whole(Access::ReadWrite, written)];
            Dispatch::new(device, compiled, &of_plan.table, grid, entries)
        };
        let columns = device::grid(layout.columns, side);
        let combine = stage(&pipelines.combine, columns, [&of_plan.partials, &scratch.statistics]);
        let mut top_k = Vec::new();
        if let (Some(losses), Some(compiled)) = (&scratch.losses, &pipelines.top_k) {
            let heads = [u32::try_from(layout.heads.len()).expect("the table fits in a uniform binding"), 1];
            let runs = device::grid(layout.loss_runs, side);
            let [begin, histogram, pick, sum_top] =
                [0, 1, 2, 3].map(|i| stage(&compiled[i], [heads, runs, heads, runs][i], [losses, &scratch.selection]));
            top_k.push(begin);
            // one digit of 8 bits per round
            for _ in 0..4 {
                top_k.extend([histogram.clone(), pick.clone()]);
            }
            top_k.push(sum_top);
        }
        let of_specification = of_plan.weights.as_entire_buffer_binding();
        let row_sums = pipelines.row_sums.as_ref().map(|compiled| {
            let entries = finish_entries(shared, &scratch, &of_specification);
            Dispatch::new(device, compiled, &of_plan.table, [1, 1], entries)
        });
        let finish = |table, weights: &wgpu::BufferBinding<'_>| {
            Dispatch::new(device, &pipelines.finish, table, [1, 1], finish_entries(shared, &scratch, weights))
        };
        let (finish, own_table) = match weights {
            None => (finish(&of_plan.table, &of_specification), None),
            Some((weights, alignment)) => {
                let (binding, first) = tensors::aligned(weights, alignment);
                let mut rows = table::rows(&shared.heads.spec, &layout.heads);
                for row in &mut rows {
                    row.weights += first;
                }
                let table = table_buffer(device, &rows);
                (finish(&table, &binding), Some(table))
            }
        };
        Self { scratch, combine, row_sums, top_k, finish, own_table }
    }

    pub fn bytes(&self) -> u64 {
        self.scratch.bytes() + self.own_table.as_ref().map_or(0, wgpu::Buffer::size)
    }

    /// The dispatches from partial sums to statistics.
    pub fn combining(&self) -> impl Iterator<Item = &Dispatch> {
        std::iter::once(&self.combine).chain(&self.row_sums)
    }

    /// The dispatches from statistics to report and coefficients.
    pub fn finishing(&self) -> impl Iterator<Item = &Dispatch> {
        self.top_k.iter().chain([&self.finish])
    }
}

/// The bindings of finish behind the table.
fn finish_entries<'a>(shared: &Shared, scratch: &'a StepScratch, weights: &wgpu::BufferBinding<'a>) -> Vec<Entry<'a>> {
    let StepScratch { statistics, coefficients, report, selection, losses } = scratch;
    let whole = wgpu::Buffer::as_entire_buffer_binding;
    let mut bindings = vec![whole(statistics), whole(coefficients), whole(report), weights.clone()];
    bindings.extend(losses.as_ref().map(|_| whole(selection)));
    let accesses = finish_accesses(shared.distributed(), losses.is_some());
    accesses.into_iter().zip(bindings).map(|(access, binding)| Entry { access, binding }).collect()
}
