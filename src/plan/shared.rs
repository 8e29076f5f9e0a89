//! What a plan and its steps share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::head_pipelines::HeadPipelines;
use super::options::PlanSettings;
use super::scratch::PlanScratch;
use crate::gpu::device::Access;
use crate::gpu::pipelines::Compiled;
use crate::layout::heads::Heads;
use crate::layout::slots::DispatchText;
use crate::layout::variant::Variant;
use crate::report::{GlobalSums, Mailbox, Report};

/// All that the pipeline of a dispatch depends on within a plan: stage, text, accesses.
type DispatchKey = (&'static str, DispatchText, Vec<Access>);

/// What all steps of a plan share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub heads: Arc<Heads>,
    pub variant: Variant,
    pub limits: wgpu::Limits,
    pub scratch: PlanScratch,
    pub(super) pipelines: HeadPipelines,
    pub settings: PlanSettings,
    /// The pipelines of dispatches that were bound before: for an equal dispatch the text is not composed again.
    pub(super) dispatches: Mutex<HashMap<DispatchKey, Compiled>>,
    pub reports: Mailbox<Report>,
    /// `None` where the batch is not distributed.
    pub global_sums: Option<Mailbox<GlobalSums>>,
}

impl Shared {
    /// Whether the batch is spread over several machines.
    pub(crate) fn distributed(&self) -> bool {
        self.global_sums.is_some()
    }

    /// The pipeline of a dispatch; its text is composed once.
    pub(crate) fn compiled(
        &self,
        stage: &'static str,
        text: DispatchText,
        accesses: Vec<Access>,
        compose: impl FnOnce(&DispatchText) -> String,
    ) -> Compiled {
        let mut dispatches = self.dispatches.lock().unwrap_or_else(PoisonError::into_inner);
        let compile = |(stage, text, accesses): &DispatchKey| {
            let heads: Vec<usize> = text.heads.iter().map(|head| head.head).collect();
            let (text, unchecked) = (compose(text).into(), self.variant.unchecked);
            self.settings.pipelines.pipeline(text, stage, &heads, accesses.clone(), unchecked)
        };
        dispatches.entry((stage, text, accesses)).or_insert_with_key(compile).clone()
    }

    /// Forgets the pipelines, after a call that wgpu refused.
    pub(crate) fn forget(&self) {
        self.dispatches.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.settings.pipelines.forget();
    }
}
