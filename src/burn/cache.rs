//! Plans, kept by specification.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::plan::Plan;
use crate::plan::options::{PlanOptions, PlanSettings};
use crate::spec::LossSpec;

/// How many plans are kept: enough for a few shapes.
const KEPT: usize = 16;

/// The last few plans, most recently used first. All are siblings: they share pipelines.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    settings: PlanSettings,
    kept: Arc<Mutex<VecDeque<Plan>>>,
}

impl Plans {
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue, options: PlanOptions) -> Result<Self, Error> {
        Ok(Self { settings: PlanSettings::new(device, queue, options)?, kept: Arc::default() })
    }

    /// The plan of this specification: a kept one, or a new one.
    pub fn plan(&self, device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec) -> Result<Plan, Error> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = {
            let mut kept = kept();
            let at = kept.iter().position(|plan| plan.spec() == spec);
            at.and_then(|at| kept.remove(at)).inspect(|plan| kept.push_front(plan.clone()))
        };
        if let Some(plan) = found {
            return Ok(plan);
        }
        // without the lock, since compiling takes long
        let plan = Plan::make(device, queue, spec, &self.settings)?;
        let mut kept = kept();
        kept.push_front(plan.clone());
        kept.truncate(KEPT);
        Ok(plan)
    }

    pub fn memory(&self) -> u64 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Plan::memory).sum()
    }
}
