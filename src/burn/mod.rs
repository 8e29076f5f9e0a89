//! The loss of [burn](::burn)'s tensors, on burn's own device. Feature `burn`, for burn 0.22 and its wgpu back end.
//!
//! burn and these kernels share one wgpu device, so logits, targets and gradients are bound where burn has them: no copy, no
//! round trip over the host. [`Bridge::loss`] gives the total as a burn tensor; `backward()` of anything computed from it runs
//! the gradient kernel once for all heads, with burn's incoming gradient, and burn goes on from the logits.
//!
//! ```no_run
//! use burn::tensor::{Device, Int, Tensor};
//! use segloss::burn::{Bridge, HeadTensors};
//! use segloss::{Head, Loss, LossSpec};
//!
//! let (device, setup) = Device::wgpu_options().init_with_setup()?;
//! let bridge = Bridge::new(&device, &setup)?;
//! // a template: shapes and types are those of the tensors
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
//! What to know of burn:
//!
//! - Its feature `fusion`, on by default, keeps tensors as handles of operations that are yet to run: build burn with
//!   `default-features = false`, or the first call is refused.
//! - A tensor that is not contiguous is first copied by burn into one that is. The output of its convolutions is such a
//!   tensor: it lies channels last in memory.
//! - Work of one device goes through one queue. The bridge submits what burn has pending before it submits its own, and never
//!   waits for the device.

mod autodiff;
mod cache;
mod tensors;

use std::sync::Arc;

use ::burn::backend::wgpu::WgpuSetup;
use ::burn::tensor::{Device, Tensor};

pub use tensors::HeadTensors;

use crate::error::Error;
use crate::gpu::device::checked;
use crate::plan::Plan;
use crate::plan::stages::HeadStages;
use crate::report::PendingReport;
use crate::spec::LossSpec;
use cache::Plans;
use tensors::{Bound, Checked, Output};

/// What the errors of this module were about to do.
const DURING: &str = "the loss of burn's tensors";

/// The way from burn's tensors to plans on burn's device, which it keeps. Cloning is cheap and shares the plans.
#[derive(Clone, Debug)]
pub struct Bridge {
    on: BurnDevice,
    plans: Plans,
}

/// burn's name for the device, and wgpu's.
#[derive(Clone, Debug)]
pub(crate) struct BurnDevice {
    cube: ::burn::backend::CubeDevice,
    device: wgpu::Device,
    queue: wgpu::Queue,
}

/// The loss of a step.
#[derive(Debug)]
pub struct LossTensor {
    /// Σ over heads of the weighted terms: f32, of shape `[1]`, on the autodiff device where some logits are.
    pub total: Tensor<1>,
    /// The report, on its way: copied after the forward. Read it a step later, or when [`PendingReport::try_read`] has it.
    /// `None` where four reports of such tensors are on their way or unread: training goes on without this one.
    pub report: Option<PendingReport>,
}

/// What a forward left for the backward.
#[derive(Debug)]
pub(crate) struct Forward {
    plan: Plan,
    stages: Arc<HeadStages>,
}

impl Bridge {
    /// A bridge to the device that came together with this setup: from `Device::wgpu_options().init_with_setup()`, or made of
    /// the setup with `Device::wgpu_options().setup(…).init()`. With the setup of another device the behaviour is wgpu's.
    ///
    /// # Errors
    /// [`Error::Device`] where the device is none of burn's wgpu back end.
    pub fn new(device: &Device, setup: &WgpuSetup) -> Result<Self, Error> {
        let cube = tensors::cube_device(device)?;
        let on = BurnDevice { cube, device: setup.device.clone(), queue: setup.queue.clone() };
        let plans = Plans::new(&on.device);
        Ok(Self { on, plans })
    }

    /// The loss of these heads: as many as the specification has, in its order.
    ///
    /// The specification is a template: each head's shape, the types of its logits and target, and whether it has a weight
    /// map, are those of its tensors; a head that [`resample`](crate::Head::resample)s takes the spatial shape from its
    /// labels. The plans of the last few specifications are kept.
    ///
    /// Gradients flow to logits alone, in the logits' type. `backward()` panics where the device refuses the gradient's
    /// bindings or is lost: burn has no way to return an error from there.
    ///
    /// # Errors
    /// [`Error::WrongHeadCount`]; [`Error::Binding`] for a tensor that is empty, of a type or shape that does not fit, or on
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

    /// Bytes of GPU memory that the plans of the last few specifications hold. A loss in a graph holds a few kB more.
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

impl BurnDevice {
    /// Submits what burn has pending on these tensors, then what is encoded here. The tensors stay where they are until then.
    fn submit<'a, T>(
        &self,
        tensors: impl Iterator<Item = &'a Bound>,
        encode: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<T, Error>,
    ) -> Result<T, Error> {
        Bound::flush(tensors)?;
        checked(&self.device, DURING, || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("segloss: loss of burn's tensors") };
            let mut encoder = self.device.create_command_encoder(&descriptor);
            let result = encode(&mut encoder);
            self.queue.submit([encoder.finish()]);
            result
        })?
    }
}
