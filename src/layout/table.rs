//! The table of heads, as the shaders read it.

use bytemuck::{Pod, Zeroable};

use super::{HeadLayout, words};
use crate::spec::{ClassValues, ClassWeighting, Empty, Head, LossSpec, MeanOver, PixelKind, Reduction, Target};

/// A head's row: mirrors `Head` of shaders/shared/heads.wgsl, field by field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[allow(missing_docs, reason = "documented at the struct that it mirrors")]
pub(crate) struct HeadRow {
    pub items: u32,
    pub classes: u32,
    pub voxels: u32,
    pub group: u32,

    pub logits_slot: u32,
    pub logits_first: u32,
    pub target_slot: u32,
    pub target_first: u32,
    pub gradient_slot: u32,
    pub gradient_first: u32,
    pub mask_slot: u32,
    pub mask_first: u32,
    pub weight_map_slot: u32,
    pub weight_map_first: u32,
    pub sample_mask_slot: u32,
    pub sample_mask_first: u32,
    pub voxel_losses_slot: u32,
    pub voxel_losses_first: u32,
    pub upstream: u32,

    pub first_workgroup: u32,
    pub tiles: u32,
    pub first_column: u32,

    pub partials: u32,
    pub statistics: u32,
    pub coefficients: u32,
    pub kappa_row: u32,
    pub slopes: u32,
    pub slope_row: u32,
    pub report: u32,
    pub class_columns: u32,
    pub item_words: u32,
    pub hard_counts: u32,
    pub item_counts: u32,
    pub overlap_losses: u32,
    pub check_finite: u32,
    pub weights: u32,

    pub has_ignore_index: u32,
    pub ignore_index: u32,
    pub target_voxels: u32,
    pub axes: u32,
    pub axis_parameters: u32,
    pub label_table: u32,
    pub table_labels: u32,
    pub table_words: u32,
    pub has_labels: u32,
    pub counts: u32,

    pub has_pixel: u32,
    pub pixel_reduction: u32,
    pub on_target: f32,
    pub off_target: f32,
    pub bend: f32,
    pub bends: u32,
    pub has_class_parameters: u32,
    pub class_parameters: u32,
    pub pixel_first_class: u32,
    pub pixel_denominator: u32,
    pub pixel_classes: f32,
    pub empty: u32,
    pub top_k: u32,
    pub losses: u32,
    pub selection: u32,
    pub first_loss_run: u32,
    pub loss_runs: u32,
    pub top_coefficients: u32,

    pub overlap_kind: u32,
    pub overlap_reduction: u32,
    pub first_class: u32,
    pub batch: u32,
    pub smooth_nr: f32,
    pub smooth_dr: f32,
    pub denominator_floor: f32,
    pub form: u32,
    pub form_gamma: f32,
    pub eps: f32,
    pub alpha: f32,
    pub beta: f32,
    pub class_weighting: u32,
    pub micro: u32,
    pub absent: u32,
    pub power_of_mean: f32,
    pub taking_part: u32,
    pub mean_terms: f32,
    pub has_class_numbers: u32,
    pub class_numbers: u32,
    pub masked_samples: u32,
    pub rows: u32,
    pub all_items: u32,
    pub first_item: u32,
}

/// Weights per head in the weights buffer: its own, of its overlap term, of its pixel term.
pub(crate) const HEAD_WEIGHTS: u32 = 3;

/// The rows of all heads, before anything is bound: slots, first elements, groups and workgroups are still 0.
pub(crate) fn rows(spec: &LossSpec, layouts: &[HeadLayout]) -> Vec<HeadRow> {
    let mut rows: Vec<HeadRow> = spec.heads.iter().zip(layouts).map(|(head, layout)| row(head, layout)).collect();
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    for (first, row) in (0..).step_by(HEAD_WEIGHTS as usize).zip(&mut rows) {
        (row.weights, row.rows) = (first, count);
    }
    rows
}

/// The weights of all heads, as the specification has them; 0 for a term that a head lacks.
pub(crate) fn weights(spec: &LossSpec) -> Vec<f32> {
    let of_head = |head: &Head| {
        let overlap = head.loss.overlap.as_ref().map_or(0.0, |overlap| overlap.weight);
        let pixel = head.loss.pixel.as_ref().map_or(0.0, |pixel| pixel.weight);
        [head.weight, overlap, pixel]
    };
    spec.heads.iter().flat_map(of_head).collect()
}

fn row(head: &Head, layout: &HeadLayout) -> HeadRow {
    let has_labels = matches!(head.target, Target::Labels(_));
    let mut row = HeadRow {
        items: layout.items,
        all_items: layout.items,
        classes: layout.classes,
        voxels: layout.voxels,
        tiles: layout.tiles,
        first_column: layout.first_column,
        partials: layout.partials,
        statistics: layout.statistics,
        coefficients: layout.coefficients,
        kappa_row: layout.kappa_row,
        slopes: layout.slopes,
        slope_row: layout.slope_row,
        report: layout.report,
        class_columns: layout.class_columns,
        item_words: layout.item_words,
        hard_counts: layout.outputs.hard_counts,
        item_counts: layout.outputs.item_counts,
        overlap_losses: layout.outputs.overlap_losses,
        check_finite: head.check_finite.into(),
        has_ignore_index: head.ignore_bits().is_some().into(),
        ignore_index: head.ignore_bits().unwrap_or(0),
        target_voxels: layout.target_voxels,
        axes: layout.axes,
        axis_parameters: layout.axis_parameters,
        label_table: layout.label_table.first,
        table_labels: layout.label_table.labels,
        table_words: layout.label_table.words,
        has_labels: has_labels.into(),
        counts: head.t_is_count().into(),
        masked_samples: head.sample_mask.into(),
        top_k: layout.top.count,
        losses: layout.top.losses,
        selection: layout.top.selection,
        first_loss_run: layout.top.first_run,
        loss_runs: layout.top.runs,
        top_coefficients: layout.top.coefficients,
        ..HeadRow::default()
    };
    pixel(&mut row, head, layout);
    overlap(&mut row, head, layout);
    row
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "few classes; computed in f64, rounded once"
)]
fn pixel(row: &mut HeadRow, head: &Head, layout: &HeadLayout) {
    let Some(pixel) = &head.loss.pixel else { return };
    let epsilon = f64::from(pixel.label_smoothing);
    let off_target = match pixel.kind {
        PixelKind::CrossEntropy | PixelKind::PolyCrossEntropy { .. } | PixelKind::GeneralizedCrossEntropy { .. } => {
            epsilon / f64::from(layout.classes)
        }
        PixelKind::BinaryCrossEntropy { .. } => epsilon / 2.0,
        PixelKind::Focal { .. } => 0.0,
    };
    row.bend = match &pixel.kind {
        PixelKind::CrossEntropy | PixelKind::BinaryCrossEntropy { .. } => 0.0,
        PixelKind::PolyCrossEntropy { epsilon } => *epsilon,
        PixelKind::GeneralizedCrossEntropy { q } => *q,
        PixelKind::Focal { gamma, .. } => gamma.at(0),
    };
    row.bends = layout.bends;
    let weights = pixel.class_weights.as_ref().filter(|_| pixel.reduction == Reduction::WeightedMean);
    let classes = head.classes() - pixel.first_class(head.classes());
    let sum = weights.map(|weights| weights.iter().copied().map(f64::from).sum::<f64>());
    row.pixel_classes = if pixel.mean_over == MeanOver::Voxels { 1.0 } else { sum.unwrap_or(classes as f64) as f32 };
    row.has_pixel = 1;
    row.pixel_denominator = words::pixel_denominator(pixel, row.has_labels != 0 && head.regions.is_none());
    row.off_target = off_target as f32;
    row.on_target = (1.0 - epsilon) as f32;
    row.pixel_reduction = words::reduction(pixel.reduction);
    row.has_class_parameters = layout.has_class_parameters.into();
    row.class_parameters = layout.class_parameters;
    row.pixel_first_class = pixel.first_class(head.classes()) as u32;
    row.empty = match pixel.empty {
        Empty::Zero => 0.0_f32,
        Empty::Nan => f32::NAN,
    }
    .to_bits();
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "few classes; a sum that is rounded once"
)]
fn overlap(row: &mut HeadRow, head: &Head, layout: &HeadLayout) {
    let Some(overlap) = &head.loss.overlap else { return };
    let taking_part = overlap.count_taking_part(head.classes());
    let weights = overlap.weights_that_count(head.classes()).filter(|_| overlap.reduction == Reduction::WeightedMean);
    let sum = weights.map(|weights| weights.iter().copied().map(f64::from).sum::<f64>());
    row.overlap_kind = words::overlap_kind(&overlap.kind);
    [row.alpha, row.beta] = overlap.kind.parameters();
    row.class_weighting = words::class_weighting(overlap.kind.class_weighting().unwrap_or(ClassWeighting::Uniform));
    row.overlap_reduction = words::reduction(overlap.reduction);
    row.first_class = overlap.first_class(head.classes()) as u32;
    row.batch = overlap.batch.into();
    row.smooth_nr = overlap.smooth_nr;
    row.smooth_dr = overlap.smooth_dr;
    row.denominator_floor = overlap.denominator_floor.unwrap_or(f32::MIN);
    row.form = words::form(overlap.form);
    row.form_gamma = match overlap.gamma {
        Some(ClassValues::Same(gamma)) => gamma,
        _ => 1.0,
    };
    row.eps = overlap.eps;
    row.micro = overlap.is_micro().into();
    row.absent = words::absent(overlap.absent);
    row.power_of_mean = overlap.power_of_mean.unwrap_or(1.0);
    row.taking_part = taking_part as u32;
    row.mean_terms = if overlap.is_micro() { 1.0 } else { sum.unwrap_or(taking_part as f64) as f32 };
    row.has_class_numbers = layout.has_class_numbers.into();
    row.class_numbers = layout.class_numbers;
}
