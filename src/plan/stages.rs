//! The dispatches that see no tensor of the caller's: the plan has them whole.

use std::sync::Arc;

use super::device::{self, Access, Entry};
use super::layout::Layout;
use super::pipelines::{Compiled, Pipelines};
use super::recipe::Recipe;
use super::scratch::Scratch;
use super::variant::Variant;
use super::{compose, table};
use crate::step::Dispatch;
use crate::{Head, LossSpec};

/// The stages that see no tensor of the caller's: the plan has them whole.
pub(super) struct SmallStages {
    pub combine: Dispatch,
    pub overlap_sums: Option<Dispatch>,
    pub top_k: Vec<Dispatch>,
    pub finish: Dispatch,
    pub finish_compiled: Compiled,
}

pub(super) fn small_stages(
    device: &wgpu::Device,
    spec: &LossSpec,
    layout: &Layout,
    variant: Variant,
    limits: &wgpu::Limits,
    scratch: &Scratch,
    pipelines: &Pipelines,
) -> SmallStages {
    let rows = table::rows(spec, &layout.heads);
    let table = table_buffer(device, &rows);
    let side = limits.max_compute_workgroups_per_dimension;
    let stage = |entry, text: String, grid, buffers: &[(Access, &wgpu::Buffer)]| {
        let accesses = std::iter::once(Access::Uniform).chain(buffers.iter().map(|(access, _)| *access));
        let compiled = pipelines.pipeline(text.into(), entry, accesses.collect(), variant.unchecked);
        let entries = buffers.iter().map(|(access, buffer)| Entry::whole(*access, buffer)).collect();
        dispatch(device, &compiled, &table, grid, entries)
    };
    let combine = stage(
        "combine",
        compose::combine(rows.len(), variant),
        device::grid(layout.columns, side),
        &[(Access::Read, &scratch.partials), (Access::ReadWrite, &scratch.statistics)],
    );
    let mut top_k = Vec::new();
    if let Some(losses) = &scratch.losses {
        let buffers = [(Access::Read, losses), (Access::ReadWrite, &scratch.selection)];
        let text = compose::top_k(rows.len(), variant);
        let heads = [u32::try_from(rows.len()).expect("the table fits in a uniform binding"), 1];
        let runs = device::grid(layout.loss_runs, side);
        let [begin, histogram, pick, sum_top] =
            [("begin", heads), ("histogram", runs), ("pick", heads), ("sum_top", runs)]
                .map(|(entry, grid)| stage(entry, text.clone(), grid, &buffers));
        top_k.push(begin);
        // a digit of 8 bits a round
        for _ in 0..4 {
            top_k.extend([histogram.clone(), pick.clone()]);
        }
        top_k.push(sum_top);
    }
    let weights = scratch.weights.as_entire_buffer_binding();
    let entries = || finish_entries(scratch, &weights);
    let accesses = device::accesses(&entries());
    let text: Arc<str> = compose::finish(&layout.heads, variant, scratch.distributed).into();
    let compile = |entry| pipelines.pipeline(Arc::clone(&text), entry, accesses.clone(), variant.unchecked);
    let own_rows = |head: &Head| head.loss.overlap.as_ref().is_some_and(|overlap| !overlap.batch);
    let overlap_sums = (scratch.distributed && spec.heads.iter().any(own_rows))
        .then(|| dispatch(device, &compile("overlap_sums"), &table, [1, 1], entries()));
    let finish_compiled = compile("finish");
    let finish = dispatch(device, &finish_compiled, &table, [1, 1], entries());
    SmallStages { combine, overlap_sums, top_k, finish, finish_compiled }
}

/// The bindings of finish besides the table.
pub(super) fn finish_entries<'a>(scratch: &'a Scratch, weights: &wgpu::BufferBinding<'a>) -> Vec<Entry<'a>> {
    let statistics = if scratch.distributed { Access::ReadWrite } else { Access::Read };
    let mut entries = vec![
        Entry::whole(statistics, &scratch.statistics),
        Entry::whole(Access::ReadWrite, &scratch.coefficients),
        Entry::whole(Access::ReadWrite, &scratch.report),
        Entry { access: Access::Read, binding: weights.clone() },
    ];
    if scratch.losses.is_some() {
        entries.push(Entry::whole(Access::Read, &scratch.selection));
    }
    entries
}

/// A dispatch whose binding 0 is the table of heads, and whose others are `entries`.
pub(super) fn dispatch<'a>(
    device: &wgpu::Device,
    compiled: &Compiled,
    table: &'a wgpu::Buffer,
    grid: [u32; 2],
    entries: Vec<Entry<'a>>,
) -> Dispatch {
    let all: Vec<_> = std::iter::once(Entry::whole(Access::Uniform, table)).chain(entries).collect();
    Dispatch {
        pipeline: compiled.pipeline.clone(),
        bindings: device::bind_group(device, &format!("segloss: {}", compiled.entry), &compiled.layout, &all),
        layout: compiled.layout.clone(),
        recipe: Recipe::new(compiled, all, grid),
    }
}

/// A table of heads on the device.
pub(super) fn table_buffer(device: &wgpu::Device, rows: &[table::HeadRow]) -> wgpu::Buffer {
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_SRC;
    device::buffer_with(device, "segloss: heads", bytemuck::cast_slice(rows), usage)
}
