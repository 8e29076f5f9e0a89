//! Many plans on one device.

use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::layout::variant::Variant;
use crate::plan::Plan;
use crate::spec::LossSpec;

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
