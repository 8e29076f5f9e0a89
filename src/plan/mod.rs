//! What the device will run: everything that depends on shapes and settings alone, and what binding adds.

mod bind;
mod compose;
pub(crate) mod device;
mod iterations;
pub(crate) mod layout;
mod permutations;
mod pipelines;
pub(crate) mod recipe;
mod shader;
mod slots;
mod table;
mod tensors;
mod variant;

use std::num::NonZeroU64;
use std::sync::Arc;

use device::{Access, Entry};
pub use permutations::{ComposedShader, covering, of_classes, permutations, representative};
pub use tensors::{Gradient, HeadTensors, Scalars};
pub use variant::Variant;

use crate::global_sums;
use crate::staging::Ring;
use crate::step::{Dispatch, Step};
use crate::{Error, Head, LossSpec, Tuning};
use layout::Layout;
use pipelines::{Compiled, Pipelines};
pub use recipe::{BoundRange, Recipe};

/// A loss on a device: scratch buffers, pipelines, and the stages that do not touch the caller's tensors.
///
/// Made once for a specification; [`bind`](Self::bind) it to tensors to get a [`Step`]. Cloning is cheap and shares
/// everything. The steps bound from one plan share its scratch: between a step's forward and its backward, no other step
/// of the same plan may run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) shared: Arc<Shared>,
}

/// How a plan is made, besides its specification.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Which variant of the kernels. `Tuning::Measured` may measure, and wait for the device, when the plan is made.
    pub tuning: Tuning,
    /// The caller's pipeline cache, where the device has [`wgpu::Features::PIPELINE_CACHE`]: the plan's pipelines are looked
    /// up in it and added to it, so that a process that hands in the data of an earlier one starts warm.
    pub pipeline_cache: Option<wgpu::PipelineCache>,
    /// Whether the batch is spread over several machines, each a rank with a plan of its own, of its own items: between
    /// combine and finish the ranks add up their [`GlobalSums`](crate::GlobalSums), and then total, report and gradients are
    /// those of one plan on the whole batch. The plans differ in the number of items alone. A top-k is refused: it is no sum
    /// over voxels.
    ///
    /// The gradient of a rank is the total's by the rank's own logits: parameters that the ranks share add their gradients up
    /// over ranks. A trainer that averages gradients over R ranks instead sets the upstream gradient to R.
    pub distributed: bool,
    /// Logits that one statistics or gradient dispatch handles at most; `None`: 2^30. A desktop's watchdog kills what runs for
    /// seconds (2 s on Windows), and 2^30 logits, read and written, take less at 10 GB/s. Heads, and a head's items, are spread
    /// over as many dispatches as it takes; the numbers stay the same, bit for bit. An item is never divided: one with more
    /// logits is a dispatch alone.
    pub logits_per_dispatch: Option<NonZeroU64>,
}

/// The default of [`PlanOptions::logits_per_dispatch`].
const LOGITS_PER_DISPATCH: u64 = 1 << 30;

/// How a plan and its siblings are made.
#[derive(Clone, Debug)]
struct Making {
    variant: Variant,
    distributed: bool,
    logits_per_dispatch: u64,
    pipelines: Arc<Pipelines>,
}

/// What all steps of a plan share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub spec: LossSpec,
    pub layout: Layout,
    variant: Variant,
    limits: wgpu::Limits,
    scratch: Scratch,
    /// Combine; the overlap terms of a rank's own rows, where the batch is distributed and a head has such; the top-k, where
    /// a head has one; and last finish: each in the order of its dispatches.
    pub combine: Dispatch,
    pub overlap_sums: Option<Dispatch>,
    pub top_k: Vec<Dispatch>,
    pub finish: Dispatch,
    finish_compiled: Compiled,
    making: Making,
    pub reports: Ring,
    /// Where the batch is distributed.
    pub global_sums: Option<Ring>,
}

/// The few kB that stand between forward and backward, and the partial sums before them.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// Whether the batch is distributed: then the host reads and writes the statistics.
    distributed: bool,
    partials: wgpu::Buffer,
    statistics: wgpu::Buffer,
    coefficients: wgpu::Buffer,
    /// The pixel losses and the selections, where a head has a top-k.
    losses: Option<wgpu::Buffer>,
    selection: wgpu::Buffer,
    pub report: wgpu::Buffer,
    /// 1.0: the upstream gradient of a caller who has none.
    one: wgpu::Buffer,
    /// The weights of the specification.
    weights: wgpu::Buffer,
}

impl Plan {
    /// A plan with the default variant for the device.
    ///
    /// Reads the device's limits and features; configures nothing. Pipelines that touch tensors are compiled at the first
    /// [`bind`](Self::bind), and kept.
    ///
    /// # Errors
    /// [`Error::NoHeads`] and [`Error::Spec`] for a specification that is wrong, [`Error::Limit`] where the device is too
    /// small, [`Error::DeviceLost`], [`Error::OutOfMemory`] and [`Error::Device`] where wgpu refuses.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec) -> Result<Self, Error> {
        Self::with_variant(device, queue, spec, Variant::for_device(device))
    }

    /// A plan with a variant of the caller's: short for [`Tuning::Fixed`].
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Variant`] for a variant that does not fit.
    pub fn with_variant(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &LossSpec,
        variant: Variant,
    ) -> Result<Self, Error> {
        let options = PlanOptions { tuning: Tuning::Fixed(variant), ..PlanOptions::default() };
        Self::with_options(device, queue, spec, options)
    }

    /// A plan with options.
    ///
    /// # Errors
    /// As [`with_variant`](Self::with_variant); and of `Tuning::Measured`, those of `tuning::tune`.
    pub fn with_options(
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &LossSpec,
        options: PlanOptions,
    ) -> Result<Self, Error> {
        let PlanOptions { tuning, pipeline_cache, distributed, logits_per_dispatch } = options;
        spec.validate()?;
        let making = Making {
            variant: tuning.variant(device, queue, spec)?,
            distributed,
            logits_per_dispatch: logits_per_dispatch.map_or(LOGITS_PER_DISPATCH, NonZeroU64::get),
            pipelines: Arc::new(Pipelines::new(device, pipeline_cache)),
        };
        Self::make(device, queue, spec, &making)
    }

    /// A plan of another specification beside this one: same device, same options, and kernels whose text is the same are
    /// compiled once. Shapes are no part of the text: heads that differ in their number of voxels or samples share kernels.
    /// The pipelines live as long as any of the siblings.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn sibling(&self, spec: &LossSpec) -> Result<Self, Error> {
        Self::make(&self.shared.device, &self.shared.queue, spec, &self.shared.making)
    }

    fn make(device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec, making: &Making) -> Result<Self, Error> {
        spec.validate()?;
        let Making { variant, distributed, ref pipelines, .. } = *making;
        if distributed {
            global_sums::check_spec(spec)?;
        }
        variant.validate(device)?;
        let limits = device.limits();
        check_scratch(&Layout::new(spec, variant)?, &limits)?;
        let variant = variant.within_iterations(spec, device)?;
        let layout = Layout::new(spec, variant)?;
        check_scratch(&layout, &limits)?;
        bind::check_items(spec, &layout.heads, &limits, variant)?;
        let shared = device::checked(device, "making a plan", || {
            let scratch = Scratch::new(device, spec, &layout, distributed);
            let SmallStages { combine, overlap_sums, top_k, finish, finish_compiled } =
                small_stages(device, spec, &layout, variant, &limits, &scratch, pipelines);
            let reports = Ring::new(device, "segloss: report, staging", layout.report);
            let words = layout.heads.iter().map(layout::HeadLayout::global_words).sum();
            let global_sums = || Ring::new(device, "segloss: global sums, staging", words);
            let global_sums = distributed.then(global_sums);
            Shared {
                device: device.clone(),
                queue: queue.clone(),
                spec: spec.clone(),
                layout,
                variant,
                limits,
                scratch,
                combine,
                overlap_sums,
                top_k,
                finish,
                finish_compiled,
                making: making.clone(),
                reports,
                global_sums,
            }
        })
        .inspect_err(|_| making.pipelines.forget())?;
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Binds the heads' tensors, in the specification's order. The upstream gradient is 1, and the weights are those of the
    /// specification.
    ///
    /// # Errors
    /// [`Error::WrongHeadCount`], [`Error::Binding`] and [`Error::Overlapping`] for tensors that do not fit,
    /// [`Error::Limit`] where one head alone needs more bindings than the device has, [`Error::DeviceLost`],
    /// [`Error::OutOfMemory`] and [`Error::Device`] where wgpu refuses.
    pub fn bind(&self, tensors: &[HeadTensors<'_>]) -> Result<Step, Error> {
        self.bind_with(tensors, &Scalars::default())
    }

    /// Binds the heads' tensors, and numbers that the step reads from the caller's buffers: the upstream gradient, the
    /// weights.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), and [`Error::Scalars`].
    pub fn bind_with(&self, tensors: &[HeadTensors<'_>], scalars: &Scalars<'_>) -> Result<Step, Error> {
        bind::bind(self, tensors, scalars)
    }

    /// The specification.
    #[must_use]
    pub fn spec(&self) -> &LossSpec {
        &self.shared.spec
    }

    /// Bytes of GPU memory that the plan itself holds: its scratch, and the staging of reports. A step adds a table of a few
    /// hundred bytes a head. Where items have a tile's voxels and more it is below 1 % of the logits' bytes plus 1 MiB, but for
    /// a top-k, which adds 4 bytes a voxel; an item takes at least one row of partial sums, however small it is.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let shared = &self.shared;
        shared.scratch.bytes() + shared.reports.bytes() + shared.global_sums.as_ref().map_or(0, Ring::bytes)
    }

    /// The variant of the kernels.
    #[must_use]
    pub fn variant(&self) -> Variant {
        self.shared.variant
    }
}

impl Shared {
    pub(crate) fn report_buffer(&self) -> &wgpu::Buffer {
        &self.scratch.report
    }

    pub(crate) fn statistics_buffer(&self) -> &wgpu::Buffer {
        &self.scratch.statistics
    }

    /// Finish with the caller's weights.
    fn finish_with(&self, weights: &tensors::Extent, alignment: u64) -> Dispatch {
        let (binding, first) = tensors::aligned(weights, alignment);
        let mut rows = table::rows(&self.spec, &self.layout.heads);
        for row in &mut rows {
            row.weights += first;
        }
        let entries = || finish_entries(&self.scratch, &binding);
        Tables::new(&self.device, &rows).dispatch(&self.device, "finish", &self.finish_compiled, [1, 1], entries)
    }
}

impl Scratch {
    fn new(device: &wgpu::Device, spec: &LossSpec, layout: &Layout, distributed: bool) -> Self {
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
            report: words("segloss: report", layout.report),
            weights: device::buffer_with(
                device,
                "segloss: weights",
                bytemuck::cast_slice(&table::weights(spec)),
                usage,
            ),
            one: device::buffer_with(device, "segloss: upstream 1", bytemuck::bytes_of(&1.0_f32), usage),
        }
    }
}

impl Scratch {
    fn bytes(&self) -> u64 {
        let Self { distributed: _, partials, statistics, coefficients, losses, selection, report, one, weights } = self;
        let all = [partials, statistics, coefficients, selection, report, one, weights].into_iter().chain(losses);
        all.map(wgpu::Buffer::size).sum()
    }
}

/// Every scratch buffer fits in one binding, and every dispatch in a grid.
fn check_scratch(layout: &Layout, limits: &wgpu::Limits) -> Result<(), Error> {
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

/// The stages that see no tensor of the caller's: the plan has them whole.
struct SmallStages {
    combine: Dispatch,
    overlap_sums: Option<Dispatch>,
    top_k: Vec<Dispatch>,
    finish: Dispatch,
    finish_compiled: Compiled,
}

fn small_stages(
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
fn finish_entries<'a>(scratch: &'a Scratch, weights: &wgpu::BufferBinding<'a>) -> Vec<Entry<'a>> {
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
struct Tables {
    rows: wgpu::Buffer,
    empty: wgpu::Buffer,
}

impl Tables {
    fn new(device: &wgpu::Device, rows: &[table::HeadRow]) -> Self {
        let empty = vec![bytemuck::Zeroable::zeroed(); rows.len()];
        let upload = |label, rows: &[table::HeadRow]| {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_SRC;
            device::buffer_with(device, label, bytemuck::cast_slice(rows), usage)
        };
        Self { rows: upload("segloss: heads", rows), empty: upload("segloss: no heads", &empty) }
    }

    /// A dispatch whose binding 0 is the table, and whose others are `entries`.
    fn dispatch<'a>(
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
