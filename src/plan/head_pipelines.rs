//! The pipelines of the stages that read none of the caller's tensors: a plan compiles them once.

use std::sync::Arc;

use crate::gpu::device::Access;
use crate::gpu::pipelines::{Compiled, Pipelines};
use crate::kernels::compose;
use crate::layout::variant::Variant;
use crate::layout::{HeadLayout, Layout};
use crate::spec::{Head, LossSpec};

/// The pipelines of these stages.
#[derive(Debug)]
pub(super) struct HeadPipelines {
    pub combine: Compiled,
    /// Sums over a rank's own rows and items, where the batch is distributed and a head has such sums.
    pub row_sums: Option<Compiled>,
    /// `begin`, `histogram`, `pick` and `sum_top`, where a head has a top-k.
    pub top_k: Option<[Compiled; 4]>,
    pub finish: Compiled,
}

impl HeadPipelines {
    pub fn new(spec: &LossSpec, layout: &Layout, variant: Variant, distributed: bool, pipelines: &Pipelines) -> Self {
        let heads = layout.heads.len();
        let compile = |text: &Arc<str>, entry, accesses: &[Access]| {
            let accesses = std::iter::once(Access::Uniform).chain(accesses.iter().copied()).collect();
            pipelines.pipeline(Arc::clone(text), entry, &[], accesses, variant.unchecked)
        };
        let combine = compose::combine(heads, variant).into();
        let top_k = layout.has_top_k().then(|| {
            let text = compose::top_k(heads, variant).into();
            ["begin", "histogram", "pick", "sum_top"]
                .map(|entry| compile(&text, entry, &[Access::Read, Access::ReadWrite]))
        });
        let finish = compose::finish(layout, variant, distributed).into();
        let accesses = finish_accesses(distributed, top_k.is_some());
        let own_rows = |(head, layout): (&Head, &HeadLayout)| {
            layout.item_means || head.loss.overlap.as_ref().is_some_and(|overlap| !overlap.batch)
        };
        Self {
            combine: compile(&combine, "combine", &[Access::Read, Access::ReadWrite]),
            row_sums: (distributed && spec.heads.iter().zip(&layout.heads).any(own_rows))
                .then(|| compile(&finish, "row_sums", &accesses)),
            top_k,
            finish: compile(&finish, "finish", &accesses),
        }
    }
}

/// The accesses of finish: statistics, coefficients, report, weights, and the selection where there is one.
pub(super) fn finish_accesses(distributed: bool, selection: bool) -> Vec<Access> {
    let statistics = if distributed { Access::ReadWrite } else { Access::Read };
    let mut accesses = vec![statistics, Access::ReadWrite, Access::ReadWrite, Access::Read];
    accesses.extend(selection.then_some(Access::Read));
    accesses
}
