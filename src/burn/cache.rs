//! Plans, kept by specification, and the lanes of each.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lane::{Clock, Lane};
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::options::{PlanOptions, PlanSettings};
use crate::spec::LossSpec;

/// How many plans are kept: enough for a few shapes.
const PLANS: usize = 16;
/// How many lanes of a plan are kept: as many losses of one specification may be between forward and backward without
/// being bound anew.
const LANES: usize = 4;

/// The last few plans, most recently used first. All are siblings: they share pipelines.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    settings: PlanSettings,
    kept: Arc<Mutex<VecDeque<Kept>>>,
    pub clock: Arc<Clock>,
}

#[derive(Debug)]
struct Kept {
    plan: Plan,
    lanes: Vec<Arc<Lane>>,
}

impl Kept {
    fn let_go_of_idle(&mut self, clock: &Clock) {
        self.lanes.retain(|lane| !lane.let_go_of_idle(clock) || Arc::strong_count(lane) > 1);
    }

    /// A lane that no loss has.
    fn free_lane(&self) -> Option<Arc<Lane>> {
        self.lanes.iter().find(|lane| Arc::strong_count(lane) == 1).cloned()
    }
}

impl Plans {
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue, options: PlanOptions) -> Result<Self, Error> {
        let settings = PlanSettings::new(device, queue, options)?;
        Ok(Self { settings, kept: Arc::default(), clock: Arc::default() })
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan of this specification, and a lane of it for one loss: kept ones, or new ones.
    pub fn plan(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        spec: &LossSpec,
    ) -> Result<(Plan, Arc<Lane>), Error> {
        self.clock.tick();
        let found = {
            let mut kept = self.kept();
            kept.iter_mut().for_each(|kept| kept.let_go_of_idle(&self.clock));
            let at = kept.iter().position(|kept| kept.plan.spec() == spec);
            at.and_then(|at| kept.remove(at)).map(|found| {
                let (plan, lane) = (found.plan.clone(), found.free_lane());
                kept.push_front(found);
                (plan, lane)
            })
        };
        // without the lock, since compiling takes long
        let plan = match found {
            Some((plan, Some(lane))) => return Ok((plan, lane)),
            Some((plan, None)) => plan,
            None => {
                let plan = Plan::make(device, queue, spec, &self.settings)?;
                let mut kept = self.kept();
                kept.push_front(Kept { plan: plan.clone(), lanes: Vec::new() });
                kept.truncate(PLANS);
                plan
            }
        };
        let lane = Arc::new(Lane::new(&plan)?);
        let mut kept = self.kept();
        let of_plan = kept.iter_mut().find(|kept| Arc::ptr_eq(&kept.plan.shared, &plan.shared));
        if let Some(of_plan) = of_plan.filter(|of_plan| of_plan.lanes.len() < LANES) {
            of_plan.lanes.push(Arc::clone(&lane));
        }
        drop(kept);
        Ok((plan, lane))
    }

    /// Lets go of all lanes, and of all that is bound.
    pub fn release(&self) {
        self.kept().iter_mut().for_each(|kept| kept.lanes.clear());
    }

    pub fn memory(&self) -> u64 {
        let of = |kept: &Kept| kept.plan.memory() + kept.lanes.iter().map(|lane| lane.bytes()).sum::<u64>();
        self.kept().iter().map(of).sum()
    }
}
