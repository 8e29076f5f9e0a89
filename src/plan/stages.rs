//! The dispatches that see no tensor of the caller's: the plan has them whole.

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
    let tables = Tables::new(device, &rows);
    let side = limits.max_compute_workgroups_per_dimension;
    let stage = |entry, text: String, grid, buffers: &[(Access, &wgpu::Buffer)]| {
        let accesses = std::iter::once(Access::Uniform).chain(buffers.iter().map(|(access, _)| *access));
        let compiled = pipelines.pipeline(text, entry, accesses.collect(), variant.unchecked);
        let entries = || buffers.iter().map(|(access, buffer)| Entry::whole(*access, buffer)).collect();
        tables.dispatch(device, entry, &compiled, grid, entries)
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
    let text = compose::finish(&layout.heads, variant, scratch.distributed);
    let compile = |entry| pipelines.pipeline(text.clone(), entry, accesses.clone(), variant.unchecked);
    let own_rows = |head: &Head| head.loss.overlap.as_ref().is_some_and(|overlap| !overlap.batch);
    let overlap_sums = (scratch.distributed && spec.heads.iter().any(own_rows))
        .then(|| tables.dispatch(device, "overlap_sums", &compile("overlap_sums"), [1, 1], entries));
    let finish_compiled = compile("finish");
    let finish = tables.dispatch(device, "finish", &finish_compiled, [1, 1], entries);
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

/// A table of heads on the device, and an empty one of the same size, with which a dispatch does nothing: it warms up.
pub(super) struct Tables {
    rows: wgpu::Buffer,
    empty: wgpu::Buffer,
}

impl Tables {
    pub fn new(device: &wgpu::Device, rows: &[table::HeadRow]) -> Self {
        let empty = vec![bytemuck::Zeroable::zeroed(); rows.len()];
        let upload = |label, rows: &[table::HeadRow]| {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_SRC;
            device::buffer_with(device, label, bytemuck::cast_slice(rows), usage)
        };
        Self { rows: upload("segloss: heads", rows), empty: upload("segloss: no heads", &empty) }
    }

    /// A dispatch whose binding 0 is the table, and whose others are `entries`.
    pub fn dispatch<'a>(
        &'a self,
        device: &wgpu::Device,
        stage: &'static str,
        compiled: &Compiled,
        grid: [u32; 2],
        entries: impl Fn() -> Vec<Entry<'a>>,
    ) -> Dispatch {
        let bind = |label: &str, table: &'a wgpu::Buffer| {
            let mut all = vec![Entry::whole(Access::Uniform, table)];
            all.extend(entries());
            device::bind_group(device, label, &compiled.layout, &all)
        };
        Dispatch {
            recipe: Recipe::new(compiled, Entry::whole(Access::Uniform, &self.rows), entries(), grid),
            pipeline: compiled.pipeline.clone(),
            bindings: bind(&format!("segloss: {stage}"), &self.rows),
            no_work: bind(&format!("segloss: {stage}, warm-up"), &self.empty),
            grid,
        }
    }
}
