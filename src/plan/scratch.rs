//! What a plan keeps on the device, and whether it fits.

use super::layout::Layout;
use super::{device, table};
use crate::{Error, LossSpec};

/// The few kB that stand between forward and backward, and the partial sums before them.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Whether the batch is distributed: then the host reads and writes the statistics.
    pub distributed: bool,
    pub partials: wgpu::Buffer,
    pub statistics: wgpu::Buffer,
    pub coefficients: wgpu::Buffer,
    /// The pixel losses and the selections, where a head has a top-k.
    pub losses: Option<wgpu::Buffer>,
    pub selection: wgpu::Buffer,
    pub report: wgpu::Buffer,
    /// 1.0: the upstream gradient of a caller who has none.
    pub one: wgpu::Buffer,
    /// The weights of the specification.
    pub weights: wgpu::Buffer,
}

impl Scratch {
    pub fn new(device: &wgpu::Device, spec: &LossSpec, layout: &Layout, distributed: bool) -> Self {
        use wgpu::BufferUsages as Usage;
        // all can be copied from: a recipe is only whole with what they hold
        let usage = Usage::STORAGE | Usage::COPY_SRC;
        let words = |label, words| device::buffer(device, label, words, usage);
        // the host writes the sums of all ranks
        let statistics_usage = if distributed { usage | Usage::COPY_DST } else { usage };
        // the parameters come first, and stay
        let mut coefficients = layout.parameters.clone();
        coefficients.resize(layout.coefficients as usize, 0.0);
        Self {
            distributed,
            partials: words("segloss: partials", layout.partials),
            statistics: device::buffer(device, "segloss: statistics", layout.statistics, statistics_usage),
            coefficients: device::buffer_with(
                device,
                "segloss: coefficients",
                bytemuck::cast_slice(&coefficients),
                usage,
            ),
            losses: (layout.losses > 0).then(|| words("segloss: losses", layout.losses)),
            selection: words("segloss: selection", layout.selection),
            // the copy of a report takes a word back
            report: device::buffer(device, "segloss: report", layout.report, usage | Usage::COPY_DST),
            weights: device::buffer_with(
                device,
                "segloss: weights",
                bytemuck::cast_slice(&table::weights(spec)),
                usage,
            ),
            one: device::buffer_with(device, "segloss: upstream 1", bytemuck::bytes_of(&1.0_f32), usage),
        }
    }

    pub fn bytes(&self) -> u64 {
        let Self { distributed: _, partials, statistics, coefficients, losses, selection, report, one, weights } = self;
        let all = [partials, statistics, coefficients, selection, report, one, weights].into_iter().chain(losses);
        all.map(wgpu::Buffer::size).sum()
    }
}

/// Every scratch buffer fits in one binding, and every dispatch in a grid.
pub(super) fn check_scratch(layout: &Layout, limits: &wgpu::Limits) -> Result<(), Error> {
    let limit = |what: &str, limit, needed: u64, available: u64| {
        if needed <= available {
            return Ok(());
        }
        Err(Error::Limit { head: None, what: what.to_owned(), limit, needed, available })
    };
    let largest = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    for (what, words) in [
        ("the partial sums", layout.partials),
        ("the statistics", layout.statistics),
        ("the coefficients", layout.coefficients),
        ("the losses of the top-k", layout.losses),
        ("the selection of the top-k", layout.selection),
        ("the report", layout.report),
    ] {
        limit(what, "max_storage_buffer_binding_size", u64::from(words) * 4, largest)?;
    }
    let table = (layout.heads.len() * size_of::<table::HeadRow>()) as u64;
    limit("the table of heads", "max_uniform_buffer_binding_size", table, limits.max_uniform_buffer_binding_size)?;
    let side = u64::from(limits.max_compute_workgroups_per_dimension);
    let tiles = layout.heads.iter().map(|h| u64::from(h.items) * u64::from(h.tiles)).sum::<u64>();
    let workgroups = tiles.max(layout.columns.into());
    limit("the grid of a dispatch", "max_compute_workgroups_per_dimension, squared", workgroups, side * side)
}
