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
//! - With its feature `fusion`, which is on by default, a tensor may have no buffer yet. Build burn with
//!   `default-features = false`; otherwise the first call is an error.
//! - burn first copies a tensor that is not contiguous into one that is. The output of its convolutions is not
//!   contiguous: it is channels-last in memory.
//! - burn and the bridge submit to the same queue. The bridge submits burn's pending work before its own, and never
//!   waits for the device.

mod autodiff;
mod cache;
mod device;
mod tensors;

use ::burn::backend::wgpu::WgpuSetup;
use ::burn::tensor::{Device, Tensor};

pub use tensors::HeadTensors;

use crate::error::Error;
use crate::plan::{Plan, PlanOptions};
use crate::report::PendingReport;
use crate::spec::LossSpec;
use cache::Plans;
use device::{BurnDevice, Forward};
use tensors::{Checked, Output};

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
    /// The report, copied after the forward. Read it a step later, or when [`PendingReport::try_read`] has it. `None`
    /// where four reports of the same specification and shapes are pending or unread: then no staging buffer is free,
    /// and training goes on without this report.
    pub report: Option<PendingReport>,
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
        let cube = tensors::cube_device(device)?;
        let on = BurnDevice { cube, device: setup.device.clone(), queue: setup.queue.clone() };
        let plans = Plans::new(&on.device, &on.queue, options)?;
        Ok(Self { on, plans })
    }

    /// The loss of these heads, in the order of the specification.
    ///
    /// The specification is a template: each head's shape, the types of its logits and target, and whether it has a
    /// weight map are taken from its tensors. A head with [`resample`](crate::Head::resample) takes the target's
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
        let plan = self.plans.plan(&self.on.device, &self.on.queue, &spec)?;
        let total = Output::scalar(&self.on.cube);
        let (forward, report) = self.forward(plan, &heads, &total)?;
        Ok(LossTensor { total: autodiff::total(&self.on, forward, heads, total), report })
    }

    /// Bytes of GPU memory that the kept plans hold. Each loss in a graph holds a few kB more.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.plans.memory()
    }

    fn forward(
        &self,
        plan: Plan,
        heads: &[Checked],
        total: &Output,
    ) -> Result<(Forward, Option<PendingReport>), Error> {
        let inputs = heads.iter().map(Checked::bound).collect::<Result<Vec<_>, _>>()?;
        let total = total.bound()?;
        let bindings: Vec<crate::layout::tensors::HeadTensors<'_>> =
            inputs.iter().map(tensors::BoundHead::bindings).collect();
        let step = plan.bind(&bindings)?;
        let all = inputs.iter().flat_map(tensors::BoundHead::all).chain([&total]);
        let report = self.on.submit(all, |encoder| {
            step.forward(encoder);
            let to = total.binding();
            encoder.copy_buffer_to_buffer(&step.stages.scratch.report, 0, to.buffer, to.offset, 4);
            match step.report(encoder) {
                Ok(report) => Ok(Some(report)),
                Err(Error::ReportsUnread { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })?;
        Ok((Forward { plan, stages: step.stages }, report))
    }
}
