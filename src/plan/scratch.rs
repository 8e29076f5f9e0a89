//! The scratch buffers of a plan and of its steps, and whether they fit in the device's limits.

use crate::error::{Bound, Error};
use crate::gpu::device;
use crate::layout::split::largest_binding;
use crate::layout::{Layout, table};
use crate::spec::LossSpec;

/// Shared by all steps of a plan: the partial sums, which a forward needs only while it runs, and constants.
#[derive(Debug)]
pub(crate) struct PlanScratch {
    pub partials: wgpu::Buffer,
    /// The table of heads for the stages that read none of the caller's tensors.
    pub table: wgpu::Buffer,
    /// The weights of the specification.
    pub weights: wgpu::Buffer,
}

/// What a step's forward leaves for its backward and report. Each step has its own, so that steps of one plan run in
/// any order.
#[derive(Debug)]
pub(crate) struct StepScratch {
    pub statistics: wgpu::Buffer,
    pub coefficients: wgpu::Buffer,
    /// The pixel losses and the selections, where a head has a top-k.
    pub losses: Option<wgpu::Buffer>,
    pub selection: wgpu::Buffer,
    pub report: wgpu::Buffer,
}

/// All can be copied from, because a complete recipe includes their contents.
const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC);

impl PlanScratch {
    pub fn new(device: &wgpu::Device, spec: &LossSpec, layout: &Layout) -> Self {
        let with = |label, contents: &[u8]| device::buffer_with(device, label, contents, USAGE);
        Self {
            partials: device::buffer(device, "segloss: partials", layout.partials, USAGE),
            table: table_buffer(device, &table::rows(spec, &layout.heads)),
            weights: with("segloss: weights", bytemuck::cast_slice(&table::weights(spec))),
        }
    }

    pub fn bytes(&self) -> u64 {
        let Self { partials, table, weights } = self;
        [partials, table, weights].map(wgpu::Buffer::size).iter().sum()
    }
}

impl StepScratch {
    /// `distributed`: the host reads and writes the statistics.
    pub fn new(device: &wgpu::Device, layout: &Layout, distributed: bool) -> Self {
        let words = |label, words| device::buffer(device, label, words, USAGE);
        let written = USAGE | wgpu::BufferUsages::COPY_DST;
        // the parameters come first, and no stage overwrites them but for the upstream gradient
        let mut coefficients = layout.parameters.clone();
        coefficients.resize(layout.coefficients as usize, 0.0);
        let coefficients = bytemuck::cast_slice(&coefficients);
        let statistics_usage = if distributed { written } else { USAGE };
        Self {
            statistics: device::buffer(device, "segloss: statistics", layout.statistics, statistics_usage),
            // burn's bridge copies the upstream gradient into them
            coefficients: device::buffer_with(device, "segloss: coefficients", coefficients, written),
            losses: (layout.losses > 0).then(|| words("segloss: losses", layout.losses)),
            selection: words("segloss: selection", layout.selection),
            // the copy of a report clears a word
            report: device::buffer(device, "segloss: report", layout.report, written),
        }
    }

    pub fn bytes(&self) -> u64 {
        let Self { statistics, coefficients, losses, selection, report } = self;
        [statistics, coefficients, selection, report].into_iter().chain(losses).map(wgpu::Buffer::size).sum()
    }
}

/// A table of heads on the device.
pub(crate) fn table_buffer(device: &wgpu::Device, rows: &[table::HeadRow]) -> wgpu::Buffer {
    // burn's bridge writes it again where tensors have moved
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
    device::buffer_with(device, "segloss: heads", bytemuck::cast_slice(rows), usage)
}

/// Checks that every scratch buffer fits in one binding, and every dispatch in a grid.
pub(super) fn check_scratch(layout: &Layout, limits: &wgpu::Limits) -> Result<(), Error> {
    let limit = |what: &str, bound, needed: u64, available: u64| {
        if needed <= available {
            return Ok(());
        }
        Err(Error::Limit { head: None, what: what.to_owned(), bound, needed, available })
    };
    let largest = largest_binding(limits).min(limits.max_buffer_size);
    for (what, words) in [
        ("the partial sums", layout.partials),
        ("the statistics", layout.statistics),
        ("the coefficients", layout.coefficients),
        ("the losses of the top-k", layout.losses),
        ("the selection of the top-k", layout.selection),
        ("the report", layout.report),
    ] {
        limit(what, Bound::StorageBinding, u64::from(words) * 4, largest)?;
    }
    let table = (layout.heads.len() * size_of::<table::HeadRow>()) as u64;
    limit("the table of heads", Bound::UniformBinding, table, limits.max_uniform_buffer_binding_size)?;
    let side = u64::from(limits.max_compute_workgroups_per_dimension);
    let tiles = layout.heads.iter().map(|h| u64::from(h.items) * u64::from(h.tiles)).sum::<u64>();
    let workgroups = tiles.max(layout.columns.into());
    limit("the grid of a dispatch", Bound::Workgroups, workgroups, side * side)
}
