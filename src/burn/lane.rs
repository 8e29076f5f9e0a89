//! Results of one forward at a time, and the dispatches that were bound to them before.
//!
//! burn's memory pool places the tensors of each training step in the same few buffers, but not at the same offsets. So a
//! dispatch is bound to whole buffers, and a lane keeps one per set of buffers: a step at rest makes no pipeline and no bind group,
//! and writes the tables of the dispatches whose tensors have moved. What is kept holds wgpu's buffers, which live as long, but
//! nothing of burn's: burn may use their memory for other tensors.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::gpu::device::checked;
use crate::gpu::dispatch::{Dispatch, Stage};
use crate::layout::slots::DispatchText;
use crate::layout::split::DispatchSlots;
use crate::layout::tensors::HeadTensors;
use crate::plan::Plan;
use crate::plan::stages::HeadStages;
use crate::step::Step;

/// Sets of buffers that a lane keeps, of each half.
const BUFFER_SETS: usize = 16;
/// Losses of the bridge after which a dispatch that none of them used is let go.
const IDLE: u64 = 64;

/// Taken by one loss at a time, from its forward to its backward.
#[derive(Debug)]
pub(super) struct Lane {
    stages: Arc<HeadStages>,
    kept: Mutex<Vec<Kept>>,
}

/// A dispatch, where its tensors lie, and when it was used last.
#[derive(Debug)]
struct Kept {
    half: Stage,
    dispatch: Arc<Dispatch>,
    slots: DispatchSlots,
    text: DispatchText,
    used: u64,
}

/// Counts the losses of a bridge.
#[derive(Debug, Default)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    pub fn tick(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Lane {
    pub fn new(plan: &Plan) -> Result<Self, Error> {
        let shared = &plan.shared;
        let stages = checked(&shared.device, "binding tensors", || HeadStages::new(shared, None))?;
        Ok(Self { stages: Arc::new(stages), kept: Mutex::default() })
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One half of a step on these tensors: of kept dispatches where there are some, and the others are kept.
    pub fn step(&self, plan: &Plan, half: Stage, tensors: &[HeadTensors<'_>], clock: &Clock) -> Result<Step, Error> {
        let now = clock.now();
        let mut kept = self.kept();
        let find = |slots: &DispatchSlots| {
            let text = slots.text();
            let is_bound = |kept: &&mut Kept| {
                kept.half == half && kept.slots.bound.bindings == slots.bound.bindings && kept.text == text
            };
            let found = kept.iter_mut().find(is_bound)?;
            let has_moved = found.slots != *slots;
            if has_moved {
                found.slots = slots.clone();
            }
            found.used = now;
            Some((Arc::clone(&found.dispatch), has_moved))
        };
        let step = plan.bind_half(half, tensors, &self.stages, find)?;
        let dispatches = match half {
            Stage::Forward => &step.statistics,
            Stage::Backward => &step.gradient,
        };
        for dispatch in dispatches {
            if !kept.iter().any(|kept| Arc::ptr_eq(&kept.dispatch, dispatch)) {
                let slots = dispatch.slots.as_deref().expect("it reads tensors").clone();
                kept.push(Kept { half, dispatch: Arc::clone(dispatch), text: slots.text(), slots, used: now });
            }
        }
        // the least recently used are let go; those of this step are the most recent
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.used));
        let mut left = BUFFER_SETS * dispatches.len();
        kept.retain(|kept| {
            let is_kept = kept.half != half || left > 0;
            left = left.saturating_sub(usize::from(kept.half == half));
            is_kept
        });
        Ok(step)
    }

    /// Lets go of what no loss used for a while; whether nothing is left.
    pub fn let_go_of_idle(&self, clock: &Clock) -> bool {
        let now = clock.now();
        let mut kept = self.kept();
        // another thread may have used it since
        kept.retain(|kept| now.saturating_sub(kept.used) <= IDLE);
        kept.is_empty()
    }

    /// Bytes of GPU memory of its own: the results of a forward, and the tables of its dispatches.
    pub fn bytes(&self) -> u64 {
        self.stages.bytes() + self.kept().iter().map(|kept| kept.dispatch.bytes()).sum::<u64>()
    }
}
