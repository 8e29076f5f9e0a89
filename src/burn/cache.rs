//! Plans by specification: each is lent to one loss at a time, from its forward to its backward.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::plan::Making;
use crate::{Error, LossSpec, Plan};

/// Plans that are kept while nobody has them: enough for a few shapes, each in two losses of one graph.
const KEPT: usize = 16;

/// The plans that are free, the one that was used last in front. All are siblings: they share pipelines.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    making: Making,
    free: Arc<Mutex<VecDeque<Plan>>>,
}

impl Plans {
    pub fn new(device: &wgpu::Device) -> Self {
        Self { making: Making::for_device(device), free: Arc::default() }
    }

    /// A plan of this specification that no other loss has: its scratch stands between forward and backward.
    pub fn take(&self, device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec) -> Result<Lease, Error> {
        let free = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let at = free.iter().position(|plan| plan.spec() == spec);
            at.and_then(|at| free.remove(at))
        };
        let plan = free.map_or_else(|| Plan::make(device, queue, spec, &self.making), Ok)?;
        Ok(Lease { plan, home: self.clone() })
    }

    pub fn memory(&self) -> u64 {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Plan::memory).sum()
    }
}

/// A plan on loan; it goes home when this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    plan: Plan,
    home: Plans,
}

impl Lease {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut free = self.home.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push_front(self.plan.clone());
        free.truncate(KEPT);
    }
}
