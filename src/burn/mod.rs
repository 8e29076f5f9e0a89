//! The loss of [burn](::burn)'s tensors, on burn's own device. Needs the feature `burn`; for burn 0.22 and its wgpu
//! back end.
//!
//! burn and these kernels share one wgpu device, so logits, targets and gradients are bound in burn's buffers, without
//! a copy and without a detour over the host. [`Bridge::loss`] returns the total as a burn tensor. `backward()` of
//! anything computed from it runs the gradient kernel once for all heads, with burn's incoming gradient; from the
//! logits on, burn continues.
//!
//! ```no_run
//! use burn::tensor::{Device, Int, Tensor};
//! use segloss::burn::{Bridge, HeadTensors};
//! use segloss::{Head, Loss, LossSpec};
//!
//! let (device, setup) = Device::wgpu_options().init_with_setup()?;
//! let bridge = Bridge::new(&device, &setup)?;
//! // a template: shapes and types are taken from the tensors
//! let spec = LossSpec::new().head(Head::new([], Loss::monai_dice_ce()).ignore_index(255));
//!
//! let device = device.autodiff();
//! let logits = Tensor::<4>::zeros([2, 4, 64, 64], &device).require_grad();
//! let labels = Tensor::<3, Int>::zeros([2, 64, 64], &device);
//! let loss = bridge.loss(&spec, [HeadTensors::labels(logits.clone(), labels)])?;
//! let gradients = loss.total.backward();
//! let gradient = logits.grad(&gradients);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! About burn:
//!
//! - Its features `fusion` and `autotune`, which are on by default, may be on or off. With fusion, a loss waits once for
//!   the thread of burn's fusion server; never for the device.
//! - Logits are read where they are, whether they are contiguous or channels last in memory, as burn's convolutions write them:
//!   the strides decide each head's [memory format](crate::Head::memory_format), and the gradient has the strides of the logits.
//!   burn copies logits with other strides, a strided view, and any other tensor that is not contiguous. A dense target is copied
//!   where it is not in the format of the logits.
//! - burn and the bridge submit to the same queue. The bridge submits burn's pending work before its own.
//! - burn's memory pool places a step's tensors in the buffers of earlier steps. The bridge binds whole buffers, and keeps what
//!   it bound: a training step at rest makes no pipeline and no bind group. Per plan it keeps what 4 losses need
//!   between forward and backward, and for each of these at most 16 sets of buffers of either half. What 64 losses did not use is
//!   let go, and with it wgpu's buffers, which burn may have freed long ago; [`Bridge::release`] lets go of all at once.

mod autodiff;
mod backend;
mod bound;
mod cache;
mod device;
mod heads;
mod lane;
#[cfg(feature = "burn-train")]
pub mod metrics;

use std::sync::Arc;

use ::burn::backend::wgpu::{CubeTensor, WgpuSetup};
use ::burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, TensorMetadata as _,
};
use ::burn::tensor::{Device, FloatDType, Shape, Tensor};

pub use heads::HeadTensors;

use crate::error::Error;
use crate::gpu::dispatch::Stage;
use crate::plan::PlanOptions;
use crate::report::PendingReport;
use crate::spec::{Head, LossSpec};
use autodiff::{Forward, Graph};
use bound::{Bound, output, shaped};
use cache::Plans;
use device::BurnDevice;
use heads::{BoundHead, Checked, ResolvedHead};

/// Computes losses of burn's tensors, and keeps the plans for them. Cloning is cheap and shares the plans.
#[derive(Clone, Debug)]
pub struct Bridge {
    on: BurnDevice,
    plans: Plans,
}

/// The loss of a step.
#[derive(Debug)]
pub struct LossTensor {
    /// Σ over heads of the weighted terms: f32, of shape `[1]`, on the autodiff device where some logits are.
    pub total: Tensor<1>,
    /// The report, copied after the forward. Read it a step later, or when [`PendingReport::try_read`] has it. While many are
    /// pending or unread, there is a staging buffer for each.
    pub report: PendingReport,
    voxel_losses: Vec<Option<DispatchTensor>>,
}

impl LossTensor {
    /// The losses of a head's voxels, in f32, `[N, *spatial]`, without a graph. `None` where the head is not
    /// [`unreduced`](crate::Head::unreduced), has no pixel term, or has another rank.
    #[must_use]
    pub fn voxel_losses<const D: usize>(&self, head: usize) -> Option<Tensor<D>> {
        let losses = self.voxel_losses.get(head)?.as_ref()?;
        (losses.kind.shape().num_dims() == D).then(|| Tensor::from_dispatch(losses.clone()))
    }
}

impl Bridge {
    /// A bridge to a burn device and its setup: both from `Device::wgpu_options().init_with_setup()`, or the device
    /// made from the setup with `Device::wgpu_options().setup(…).init()`. The setup of another device is not detected
    /// here: wgpu then decides what happens. The device is asked whether what its driver states is true
    /// ([`Answers`](crate::Answers)), and waited for.
    ///
    /// # Errors
    /// [`Error::Device`] where the device is not one of burn's wgpu back end or does not answer,
    /// [`Error::WrongAnswer`] where it cannot do what every loss needs.
    pub fn new(device: &Device, setup: &WgpuSetup) -> Result<Self, Error> {
        Self::with_options(device, setup, PlanOptions::default())
    }

    /// A bridge whose plans have these options.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Error::Variant`] for a variant that the device cannot run.
    pub fn with_options(device: &Device, setup: &WgpuSetup, options: PlanOptions) -> Result<Self, Error> {
        let cube = device::cube_device(device)?;
        let on = BurnDevice { cube, device: setup.device.clone(), queue: setup.queue.clone() };
        let plans = Plans::new(&on.device, &on.queue, options)?;
        Ok(Self { on, plans })
    }

    /// The loss of these heads, in the order of the specification.
    ///
    /// The specification is a template: each head's shape, the types of its logits and target, the memory format, and whether
    /// it has a weight map are taken from its tensors. A head with [`resample`](crate::Head::resample) takes the target's
    /// spatial shape from its labels. The plans of the last few specifications are kept.
    ///
    /// Only the logits have a gradient, in the logits' type. `backward()` panics where the device refuses the
    /// gradient's bindings or is lost: a backward of burn's cannot return an error.
    ///
    /// # Errors
    /// [`Error::WrongHeadCount`]; [`Error::Binding`] for a tensor that is empty, of a wrong type or shape, or on
    /// another device; and those of [`Plan::new`](crate::Plan::new) and [`Plan::bind`](crate::Plan::bind).
    pub fn loss(&self, spec: &LossSpec, heads: impl IntoIterator<Item = HeadTensors>) -> Result<LossTensor, Error> {
        let given: Vec<HeadTensors> = heads.into_iter().collect();
        if given.len() != spec.heads.len() {
            return Err(Error::WrongHeadCount { expected: spec.heads.len(), given: given.len() });
        }
        let mut spec = spec.clone();
        let mut heads = Vec::with_capacity(given.len());
        for (index, (head, tensors)) in spec.heads.iter_mut().zip(given).enumerate() {
            heads.push(Checked::new(index, head, tensors, &self.on.cube)?);
        }
        let Self { on, plans } = self;
        let graph = Graph::new(heads.iter_mut().map(|head| (head.context, head.node.take())));
        let heads = heads::resolve(heads, &mut spec)?;
        let (plan, lane) = plans.plan(&on.device, &on.queue, &spec)?;
        let forward = Forward { on: on.clone(), plan, lane, clock: Arc::clone(&plans.clock), heads };
        let total = output(1, FloatDType::F32, &on.cube);
        let losses =
            |head: &Head| head.voxel_losses().then(|| output(head.items() * head.voxels(), FloatDType::F32, &on.cube));
        let voxel_losses: Vec<_> = spec.heads.iter().map(losses).collect();
        let report = run(&forward, &total, &voxel_losses)?;
        let voxel_losses = voxel_losses.into_iter().zip(&spec.heads);
        let voxel_losses = voxel_losses.map(|(losses, head)| {
            let shape: Vec<usize> = std::iter::once(head.shape[0]).chain(head.shape[2..].iter().copied()).collect();
            Some(without_graph(shaped(losses?, Shape::from(shape))))
        });
        let voxel_losses = voxel_losses.collect();
        Ok(LossTensor { total: graph.total(backend::register(total), forward), report, voxel_losses })
    }

    /// Bytes of GPU memory that the kept plans hold, and what is kept for losses of the same tensors. Each loss in a graph
    /// beyond those holds a few kB more.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.plans.memory()
    }

    /// Lets go of all that is bound to tensors: burn's memory cleanup then frees their buffers at once. The plans stay, and
    /// the next losses bind anew.
    pub fn release(&self) {
        self.plans.release();
    }
}

/// Submits the forward.
fn run(forward: &Forward, total: &CubeTensor, voxel_losses: &[Option<CubeTensor>]) -> Result<PendingReport, Error> {
    let Forward { on, plan, lane, clock, heads } = forward;
    let inputs = heads.iter().map(ResolvedHead::bound).collect::<Result<Vec<_>, _>>()?;
    let total = Bound::new(total.clone())?;
    let losses = voxel_losses.iter().map(|losses| losses.clone().map(Bound::new).transpose());
    let losses = losses.collect::<Result<Vec<_>, _>>()?;
    let bindings: Vec<_> = inputs
        .iter()
        .zip(&losses)
        .map(|(head, losses)| match losses {
            Some(losses) => head.bindings().voxel_losses(losses.binding()),
            None => head.bindings(),
        })
        .collect();
    let step = lane.step(plan, Stage::Forward, &bindings, clock)?;
    let all = inputs.iter().flat_map(BoundHead::all).chain(losses.iter().flatten()).chain([&total]);
    on.submit(all, |encoder| {
        step.forward(encoder);
        let to = total.binding();
        encoder.copy_buffer_to_buffer(&step.stages.scratch.report, 0, to.buffer, to.offset, 4);
        loop {
            match step.report(encoder) {
                Err(Error::ReportsUnread { .. }) => plan.shared.reports.grow(),
                report => return report,
            }
        }
    })
}

fn without_graph(tensor: CubeTensor) -> DispatchTensor {
    let kind = DispatchTensorKind::Cube(BackendTensor::Float(backend::register(tensor)));
    DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled }
}
