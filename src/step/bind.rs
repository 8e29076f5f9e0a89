//! Makes a step of a plan and tensors: slots, tables of heads, bind groups, and their pipelines.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::Step;
use crate::error::{Error, Tensor};
use crate::gpu::device::{Access, Entry, accesses, checked, grid};
use crate::gpu::dispatch::Dispatch;
#[cfg(feature = "burn")]
use crate::gpu::{device::checked_at_rest, dispatch::Stage};
use crate::kernels::compose;
use crate::kernels::groups::Groups;
use crate::layout::slots::{DispatchText, Role};
use crate::layout::split::{DispatchLimits, DispatchSlots, split};
use crate::layout::table::{self, HeadRow};
use crate::layout::tensors::{self, Extent, GradientMode, HeadExtents, HeadTensors, Scalars};
use crate::plan::Plan;
use crate::plan::scratch::{StepScratch, table_buffer};
use crate::plan::shared::Shared;
use crate::plan::stages::HeadStages;
use crate::spec::{Head, Target};

impl Plan {
    /// Binds the heads' tensors, in the order of the specification. The upstream gradient is 1, and the weights are
    /// those of the specification.
    ///
    /// # Errors
    /// [`Error::WrongHeadCount`], [`Error::Binding`] and [`Error::Overlapping`] for tensors that do not fit,
    /// [`Error::Limit`] where one head alone needs more bindings than the device has, [`Error::DeviceLost`],
    /// [`Error::OutOfMemory`], and [`Error::Device`] where wgpu refuses.
    pub fn bind(&self, tensors: &[HeadTensors<'_>]) -> Result<Step, Error> {
        self.bind_with(tensors, &Scalars::default())
    }

    /// Binds the heads' tensors, and scalars that the step reads from buffers of the caller's: the upstream gradient,
    /// the weights.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), and [`Error::Scalars`] for a range that does not fit.
    pub fn bind_with(&self, tensors: &[HeadTensors<'_>], scalars: &Scalars<'_>) -> Result<Step, Error> {
        bind(self, tensors, scalars)
    }

    /// Binds tensors for one half of a step, on scratch that a caller keeps, to whole buffers: a dispatch is bound to buffers,
    /// and its table says where the tensors lie in them. `kept`: a dispatch on the same scratch that was bound to the same
    /// buffers before, and whether its tensors lie elsewhere now. Where it has all, nothing is made.
    #[cfg(feature = "burn")]
    pub(crate) fn bind_half(
        &self,
        half: Stage,
        tensors: &[HeadTensors<'_>],
        stages: &Arc<HeadStages>,
        mut kept: impl FnMut(&DispatchSlots) -> Option<(Arc<Dispatch>, bool)>,
    ) -> Result<Step, Error> {
        let shared = &*self.shared;
        let placement = Placement { whole: true, ..Placement::new(shared, tensors, half == Stage::Forward)? };
        let slots = match half {
            Stage::Forward => placement.statistics()?,
            Stage::Backward => placement.gradient(false)?,
        };
        let dispatches: Vec<_> = slots.into_iter().map(|slots| (kept(&slots), slots)).collect();
        let all_kept = dispatches.iter().all(|(kept, _)| kept.is_some());
        let binder = Binder { shared, scratch: &stages.scratch };
        let bound = |(kept, slots)| match (kept, half) {
            (Some((dispatch, has_moved)), _) => {
                let dispatch: Arc<Dispatch> = dispatch;
                if has_moved {
                    let (rows, _) = table_rows(shared, &slots, 0);
                    shared.queue.write_buffer(&dispatch.entries[0].buffer, 0, bytemuck::cast_slice(&rows));
                }
                dispatch
            }
            (None, Stage::Forward) => Arc::new(binder.statistics(slots)),
            (None, Stage::Backward) => Arc::new(binder.gradient(slots, &Upstream::One, placement.alignment())),
        };
        let bind = || dispatches.into_iter().map(bound).collect();
        let during = "binding tensors";
        let dispatches = if all_kept {
            checked_at_rest(&shared.device, during, bind)?
        } else {
            checked(&shared.device, during, bind).inspect_err(|_| shared.forget())?
        };
        let (statistics, gradient) = match half {
            Stage::Forward => (dispatches, Vec::new()),
            Stage::Backward => (Vec::new(), dispatches),
        };
        Ok(Step { plan: self.clone(), statistics, stages: Arc::clone(stages), upstream: None, gradient })
    }
}

fn bind(plan: &Plan, tensors: &[HeadTensors<'_>], scalars: &Scalars<'_>) -> Result<Step, Error> {
    let shared = &*plan.shared;
    let placement = Placement::new(shared, tensors, true)?;
    let heads = &placement.heads;
    let upstream = scalars.upstream.as_ref();
    let upstream =
        upstream.map(|upstream| tensors::check_scalars("upstream gradient", upstream, 1, heads)).transpose()?;
    let count = u64::from(table::HEAD_WEIGHTS) * heads.len() as u64;
    let weights = scalars.weights.as_ref();
    let weights = weights.map(|weights| tensors::check_scalars("weights", weights, count, heads)).transpose()?;

    let statistics = placement.statistics()?;
    let (gradient, upstream) = match upstream {
        None => (placement.gradient(false)?, Upstream::One),
        Some(upstream) => {
            let copied = placement.gradient(false)?;
            // WebGPU: what a dispatch writes to, it may not read by another binding
            let written =
                heads.iter().flat_map(HeadExtents::writes).any(|(_, extent)| extent.buffer == upstream.buffer);
            // a binding for it may cost no dispatch, and no tensor its own binding
            let size = |dispatches: &[DispatchSlots]| {
                (dispatches.len(), dispatches.iter().map(|slots| slots.bound.count()).sum::<u32>())
            };
            match if written { None } else { placement.gradient(true).ok() } {
                Some(bound) if size(&bound) == size(&copied) => (bound, Upstream::Bound(upstream)),
                _ => (copied, Upstream::Copied(upstream)),
            }
        }
    };
    let alignment = placement.alignment();
    checked(&shared.device, "binding tensors", || {
        let stages = Arc::new(HeadStages::new(shared, weights.as_ref().map(|weights| (weights, alignment))));
        let binder = Binder { shared, scratch: &stages.scratch };
        Step {
            plan: plan.clone(),
            statistics: statistics.into_iter().map(|slots| Arc::new(binder.statistics(slots))).collect(),
            upstream: match &upstream {
                Upstream::Copied(upstream) => Some(binder.copy_upstream(upstream, alignment)),
                Upstream::One | Upstream::Bound(_) => None,
            },
            gradient: gradient
                .into_iter()
                .map(|slots| Arc::new(binder.gradient(slots, &upstream, alignment)))
                .collect(),
            stages,
        }
    })
    .inspect_err(|_| shared.forget())
}

/// Where the heads' tensors lie, checked.
struct Placement<'a> {
    shared: &'a Shared,
    heads: Vec<HeadExtents>,
    /// Whole buffers are bound.
    whole: bool,
}

impl<'a> Placement<'a> {
    /// `statistics`: whether that stage is bound.
    fn new(shared: &'a Shared, tensors: &[HeadTensors<'_>], statistics: bool) -> Result<Self, Error> {
        let heads = tensors::check_heads(&shared.heads.spec.heads, tensors, shared.variant, statistics)?;
        Ok(Self { shared, heads, whole: false })
    }

    fn reads(&self, index: usize) -> Vec<(Role, Extent)> {
        let of = |tensor| role(tensor, &self.shared.heads.spec.heads[index]);
        self.heads[index].reads.iter().map(|(tensor, extent)| (of(*tensor), extent.clone())).collect()
    }

    /// The dispatches of the statistics stage.
    fn statistics(&self) -> Result<Vec<DispatchSlots>, Error> {
        let wanted = |index: usize| {
            let losses = self.heads[index].voxel_losses.iter().map(|losses| (Role::VoxelLosses, losses.clone()));
            self.reads(index).into_iter().chain(losses).collect()
        };
        self.split(wanted, self.shared.heads.layout.statistics_bindings())
    }

    /// The dispatches of the gradient stage. `upstream`: whether it reads the upstream gradient from the caller's buffer.
    fn gradient(&self, upstream: bool) -> Result<Vec<DispatchSlots>, Error> {
        let wanted = |index: usize| {
            let Some((mode, gradient)) = &self.heads[index].gradient else { return Vec::new() };
            let mut all = self.reads(index);
            all.retain(|(role, _)| *mode != GradientMode::InPlace || *role != Role::Logits);
            let role = match mode {
                GradientMode::Overwrite => Role::Gradient,
                GradientMode::Accumulate => Role::AccumulatedGradient,
                GradientMode::InPlace => Role::GradientInPlace,
            };
            all.push((role, gradient.clone()));
            all
        };
        self.split(wanted, self.shared.heads.layout.gradient_bindings(upstream))
    }

    /// `own`: the storage buffers that the stage itself needs.
    fn split(&self, wanted: impl Fn(usize) -> Vec<(Role, Extent)>, own: u32) -> Result<Vec<DispatchSlots>, Error> {
        let items: Vec<u32> = self.shared.heads.layout.heads.iter().map(|head| head.items).collect();
        split(&items, wanted, self.limits(own))
    }

    fn limits(&self, own: u32) -> DispatchLimits {
        let mut limits = DispatchLimits::new(&self.shared.limits, own, self.shared.variant);
        limits.logits = self.shared.settings.logits_per_dispatch;
        limits.bindings.whole = self.whole;
        limits
    }

    /// Of the offsets of bindings.
    fn alignment(&self) -> u64 {
        self.limits(0).bindings.alignment
    }
}

/// Where the gradient stage finds the upstream gradient.
enum Upstream {
    /// It is 1, in the coefficients.
    One,
    /// In the caller's buffer.
    Bound(Extent),
    /// In the coefficients, where a dispatch copies it: a binding more would be one too many, or the stage writes to the
    /// caller's buffer.
    Copied(Extent),
}

fn role(tensor: Tensor, head: &Head) -> Role {
    match tensor {
        Tensor::Logits => Role::Logits,
        Tensor::Target if matches!(head.target, Target::Probabilities(_)) => Role::Probabilities,
        Tensor::Target => Role::Labels,
        Tensor::Mask => Role::Mask,
        Tensor::WeightMap => Role::WeightMap,
        Tensor::SampleMask => Role::SampleMask,
        Tensor::VoxelLosses => Role::VoxelLosses,
        Tensor::Gradient => Role::Gradient,
    }
}

/// Makes the dispatches of a step.
struct Binder<'a> {
    shared: &'a Shared,
    scratch: &'a StepScratch,
}

impl Binder<'_> {
    fn statistics(&self, slots: DispatchSlots) -> Dispatch {
        let Self { shared, scratch } = self;
        let own = [(Access::Read, &scratch.coefficients), (Access::ReadWrite, &shared.scratch.partials)];
        let mut own = own.map(|(access, buffer)| (access, buffer.as_entire_buffer_binding())).to_vec();
        own.extend(scratch.losses.iter().map(|losses| (Access::ReadWrite, losses.as_entire_buffer_binding())));
        let compose =
            |text: &DispatchText| compose::statistics(text, &shared.heads.layout, shared.variant, shared.settings.f16);
        dispatch(shared, slots, "statistics", compose, &own, 0)
    }

    /// Copies the caller's upstream gradient into the coefficients.
    fn copy_upstream(&self, upstream: &Extent, alignment: u64) -> Dispatch {
        let Self { shared, scratch } = self;
        let (binding, element) = tensors::aligned(upstream, alignment);
        let entries =
            vec![Entry { access: Access::Read, binding }, Entry::whole(Access::ReadWrite, &scratch.coefficients)];
        let (text, accesses) = (compose::upstream().into(), accesses(&entries));
        let pipelines = &shared.settings.pipelines;
        let compiled = pipelines.pipeline(text, "copy_upstream", &[], accesses, shared.variant.unchecked);
        let table = table_buffer(&shared.device, &[HeadRow { rows: 1, upstream: element, ..HeadRow::default() }]);
        Dispatch::new(&shared.device, &compiled, &table, [1, 1], entries)
    }

    fn gradient(&self, slots: DispatchSlots, upstream: &Upstream, alignment: u64) -> Dispatch {
        let Self { shared, scratch } = self;
        let mut own = vec![(Access::Read, scratch.coefficients.as_entire_buffer_binding())];
        let mut element = 0;
        let bound = match upstream {
            Upstream::One | Upstream::Copied(_) => false,
            Upstream::Bound(upstream) => {
                let (binding, first) = tensors::aligned(upstream, alignment);
                own.push((Access::Read, binding));
                element = first;
                true
            }
        };
        own.extend(scratch.losses.iter().map(|losses| (Access::Read, losses.as_entire_buffer_binding())));
        if shared.heads.layout.checks_finite() {
            own.push((Access::ReadWrite, scratch.report.as_entire_buffer_binding()));
        }
        let compose = |text: &DispatchText| {
            compose::gradient(text, &shared.heads.layout, shared.variant, shared.settings.f16, bound)
        };
        dispatch(shared, slots, "gradient", compose, &own, element)
    }
}

/// A dispatch over the tiles of a dispatch's heads. Its bindings: the table, the stage's own buffers, then those of tensors,
/// window by window.
fn dispatch(
    shared: &Shared,
    slots: DispatchSlots,
    stage: &'static str,
    compose: impl FnOnce(&DispatchText) -> String,
    own: &[(Access, wgpu::BufferBinding<'_>)],
    upstream: u32,
) -> Dispatch {
    let (rows, workgroups) = table_rows(shared, &slots, upstream);
    let own = own.iter().map(|(access, binding)| Entry { access: *access, binding: binding.clone() });
    let entries: Vec<_> = own.chain(tensor_entries(&slots)).collect();
    let compiled = shared.compiled(stage, slots.text(), accesses(&entries), compose);
    let table = table_buffer(&shared.device, &rows);
    let side = shared.limits.max_compute_workgroups_per_dimension;
    Dispatch::new(&shared.device, &compiled, &table, grid(workgroups, side), entries).of_tensors(slots)
}

fn tensor_entries(slots: &DispatchSlots) -> impl Iterator<Item = Entry<'_>> {
    slots.bound.bindings.iter().flat_map(|binding| {
        (0..binding.kind.windows).map(|window| {
            let bytes = binding.window_bytes(window);
            Entry {
                access: if binding.kind.read_write { Access::ReadWrite } else { Access::Read },
                binding: wgpu::BufferBinding {
                    buffer: &binding.buffer,
                    offset: bytes.start,
                    size: NonZeroU64::new(bytes.end - bytes.start),
                },
            }
        })
    })
}

/// The table of a dispatch's heads, and the number of workgroups of its dispatch.
fn table_rows(shared: &Shared, dispatch: &DispatchSlots, upstream: u32) -> (Vec<HeadRow>, u32) {
    let all = table::rows(&shared.heads.spec, &shared.heads.layout.heads);
    let text = dispatch.text();
    let groups = Groups::new(&text, &shared.heads.layout.heads);
    let mut first_workgroup = 0;
    let rows = dispatch
        .heads
        .iter()
        .enumerate()
        .map(|(position, slots)| {
            let mut row = all[slots.head];
            row.group = groups.number(position);
            (row.first_item, row.items) = (slots.items.start, slots.items.end - slots.items.start);
            let is_labels = slots.slots.contains_key(&Role::Labels);
            let target = if is_labels { Role::Labels } else { Role::Probabilities };
            (row.logits_slot, row.logits_first) = slots.of(Role::Logits);
            (row.target_slot, row.target_first) = slots.of(target);
            (row.mask_slot, row.mask_first) = slots.of(Role::Mask);
            (row.weight_map_slot, row.weight_map_first) = slots.of(Role::WeightMap);
            (row.sample_mask_slot, row.sample_mask_first) = slots.of(Role::SampleMask);
            (row.voxel_losses_slot, row.voxel_losses_first) = slots.of(Role::VoxelLosses);
            (row.gradient_slot, row.gradient_first) = slots.of(Role::Gradient);
            row.rows = u32::try_from(dispatch.heads.len()).expect("no more heads than the plan has");
            row.upstream = upstream;
            row.first_workgroup = first_workgroup;
            first_workgroup += row.items * row.tiles;
            row
        })
        .collect();
    (rows, first_workgroup)
}
