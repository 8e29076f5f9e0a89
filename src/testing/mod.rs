//! Random tensors, and how far a device's step is from the f64 reference. For tools, the tuner and tests.

pub mod cases;
mod compare;
#[cfg(feature = "proptest")]
pub mod draw;
mod kinds;
pub mod shaders;
mod small;

pub(crate) use compare::CANCELLING;
pub use compare::{Comparison, Differences, Expected, ExpectedHead, Tolerance, compare};
pub use kinds::{overlap_kinds, pixel_kinds, reductions};
pub use small::small_copy;

use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::host::{self, HostResult, HostTarget, HostTensors};
use crate::layout::variant::Variant;
use crate::plan::Plan;
use crate::reference::{self, Evaluation, HeadData, TargetData};
use crate::spec::{FloatType, Head, LossSpec, Target};

/// The tensors of a head on the host; those that the head lacks are empty.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    /// `[N, C, *spatial]`; rounded to the head's type.
    pub logits: Vec<f32>,
    /// `[N, *spatial]`, where the target is labels.
    pub labels: Vec<i64>,
    /// `[N, C, *spatial]`, where the target is probabilities.
    pub probabilities: Vec<f32>,
    /// `[N, *spatial]`.
    pub mask: Vec<u8>,
    /// `[N, *spatial]`.
    pub weight_map: Vec<f32>,
    /// `[N]`.
    pub sample_mask: Vec<u8>,
}

impl Tensors {
    /// Random logits in ± `spread`, and a random target: labels, among them the ignore label where the head has one; or
    /// probabilities, of which one in three is 0 or 1.
    #[must_use]
    pub fn random(head: &Head, spread: f32, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (items, classes, voxels) = (head.items(), head.classes(), head.items() * head.voxels());
        let logits: Vec<f32> = (0..voxels * classes).map(|_| spread * (random.f32() * 2.0 - 1.0)).collect();
        let mut tensors = Self { logits: rounded(&logits, head.logits), ..Self::default() };
        match head.target {
            Target::Labels(_) => {
                let mut label = || match head.ignore_index {
                    Some(ignored) if random.u8(0..4) == 0 => ignored,
                    // one channel has two labels: background and class
                    _ => i64::try_from(random.usize(0..classes.max(2))).unwrap_or(0),
                };
                tensors.labels = (0..head.target_elements()).map(|_| label()).collect();
            }
            Target::Probabilities(float) => {
                let mut probability = || match random.u8(0..6) {
                    0 => 0.0,
                    1 => 1.0,
                    _ => random.f32(),
                };
                let probabilities: Vec<f32> = (0..head.target_elements()).map(|_| probability()).collect();
                tensors.probabilities = rounded(&probabilities, float);
            }
        }
        let size = |wanted: bool, size: usize| if wanted { size } else { 0 };
        tensors.mask = (0..size(head.mask, voxels)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
        tensors.weight_map = (0..size(head.weight_map, voxels)).map(|_| random.f32() * 2.0).collect();
        tensors.sample_mask = (0..size(head.sample_mask, items)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
        tensors
    }

    /// The tensors for [`host::run`].
    #[must_use]
    pub fn host(&self) -> HostTensors<'_> {
        let labels = HostTarget::Labels(&self.labels);
        HostTensors {
            logits: &self.logits,
            target: some(&self.probabilities).map_or(labels, HostTarget::Probabilities),
            mask: some(&self.mask),
            weight_map: some(&self.weight_map),
            sample_mask: some(&self.sample_mask),
        }
    }
}

/// Makes many plans on one device. Plans of one variant are siblings ([`Plan::sibling`]) and share pipelines.
#[derive(Debug)]
pub struct Plans {
    device: wgpu::Device,
    queue: wgpu::Queue,
    firsts: Mutex<Vec<(Variant, Plan)>>,
}

impl Plans {
    /// No plans yet, on this device.
    #[must_use]
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        Self { device: device.clone(), queue: queue.clone(), firsts: Mutex::default() }
    }

    /// Another plan, as [`Plan::new`] makes it.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, spec: &LossSpec) -> Result<Plan, Error> {
        self.with_variant(spec, Variant::for_device(&self.device))
    }

    /// Another plan, of this variant.
    ///
    /// # Errors
    /// As [`Plan::with_variant`].
    pub fn with_variant(&self, spec: &LossSpec, variant: Variant) -> Result<Plan, Error> {
        let mut firsts = self.firsts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, first)) = firsts.iter().find(|(of, _)| *of == variant) {
            return first.sibling(spec);
        }
        let plan = Plan::with_variant(&self.device, &self.queue, spec, variant)?;
        firsts.push((variant, plan.clone()));
        Ok(plan)
    }
}

/// The tensors of a head in f64, for the reference.
#[derive(Clone, Debug)]
pub struct WideTensors<'a> {
    /// `[N, C, *spatial]`.
    pub logits: Vec<f64>,
    probabilities: Vec<f64>,
    weight_map: Vec<f64>,
    tensors: &'a Tensors,
}

impl<'a> WideTensors<'a> {
    /// Converts the tensors to f64.
    #[must_use]
    pub fn new(tensors: &'a Tensors) -> Self {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect();
        Self {
            logits: wide(&tensors.logits),
            probabilities: wide(&tensors.probabilities),
            weight_map: wide(&tensors.weight_map),
            tensors,
        }
    }

    /// The tensors for [`reference::evaluate`].
    #[must_use]
    pub fn data(&self) -> HeadData<'_> {
        let labels = TargetData::Labels(&self.tensors.labels);
        HeadData {
            logits: &self.logits,
            target: some(&self.probabilities).map_or(labels, TargetData::Probabilities),
            mask: some(&self.tensors.mask),
            weight_map: some(&self.weight_map),
            sample_mask: some(&self.tensors.sample_mask),
        }
    }
}

/// The reference's loss and gradients.
///
/// # Errors
/// Those of [`reference::evaluate`].
pub fn evaluate(spec: &LossSpec, tensors: &[Tensors], upstream: f32) -> Result<Evaluation, Error> {
    let wide: Vec<_> = tensors.iter().map(WideTensors::new).collect();
    let data: Vec<_> = wide.iter().map(WideTensors::data).collect();
    reference::evaluate(spec, &data, f64::from(upstream))
}

/// How far a device's result is from the reference's.
///
/// # Errors
/// The differences in words, where they exceed [`Tolerance::DEVICE`].
pub fn check(given: &HostResult, expected: &Evaluation) -> Result<Differences, String> {
    compare(&Expected::of_evaluation(expected), given, Tolerance::DEVICE).tolerated()
}

/// The numbers rounded to a type.
fn rounded(values: &[f32], float: FloatType) -> Vec<f32> {
    let mut held = host::floats_of_bytes(&host::float_bytes(values, float), float);
    held.truncate(values.len());
    held
}

fn some<T>(values: &[T]) -> Option<&[T]> {
    (!values.is_empty()).then_some(values)
}
