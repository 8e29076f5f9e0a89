//! Many plans on one device.

use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::layout::variant::Variant;
use crate::plan::{Ask, Plan, PlanOptions};
use crate::spec::LossSpec;

/// Makes many plans on one device, which is asked once. Plans of one variant are siblings ([`Plan::sibling`]) and share
/// pipelines.
#[derive(Debug)]
pub struct Plans {
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// What the first plan does about the device's answers; later ones have those of the first.
    ask: Ask,
    firsts: Mutex<Vec<(Key, Plan)>>,
}

/// The options in which plans differ.
type Key = (Option<Variant>, Option<bool>);

impl Plans {
    /// No plans yet, on this device.
    #[must_use]
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        Self::asking(device, queue, Ask::Device)
    }

    /// No plans yet, on a device that is asked, or not.
    #[must_use]
    pub fn asking(device: &wgpu::Device, queue: &wgpu::Queue, ask: Ask) -> Self {
        Self { device: device.clone(), queue: queue.clone(), ask, firsts: Mutex::default() }
    }

    /// Another plan, as [`Plan::new`] makes it.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(&self, spec: &LossSpec) -> Result<Plan, Error> {
        self.with(spec, None, None)
    }

    /// Another plan, of this variant.
    ///
    /// # Errors
    /// As [`Plan::with_variant`].
    pub fn with_variant(&self, spec: &LossSpec, variant: Variant) -> Result<Plan, Error> {
        self.with(spec, Some(variant), None)
    }

    /// Another plan, of this variant or the default, and with this [`PlanOptions::built_in_f16`].
    ///
    /// # Errors
    /// As [`Plan::with_options`].
    pub fn with(&self, spec: &LossSpec, variant: Option<Variant>, built_in_f16: Option<bool>) -> Result<Plan, Error> {
        let mut firsts = self.firsts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (variant, built_in_f16);
        if let Some((_, first)) = firsts.iter().find(|(of, _)| *of == key) {
            return first.sibling(spec);
        }
        let ask = firsts.first().map_or(self.ask, |(_, first)| Ask::Answered(first.answers()));
        let options = PlanOptions { variant, ask, built_in_f16, ..PlanOptions::default() };
        let plan = Plan::with_options(&self.device, &self.queue, spec, options)?;
        firsts.push((key, plan.clone()));
        Ok(plan)
    }
}
