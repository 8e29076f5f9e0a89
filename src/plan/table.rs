//! The table of heads, as the shaders read it.

use bytemuck::{Pod, Zeroable};

use super::layout::HeadLayout;
use crate::spec::{Empty, Form, OverlapKind, PixelKind, Reduction};
use crate::{Head, LossSpec};

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
    pub upstream: u32,

    pub first_workgroup: u32,
    pub tiles: u32,
    pub first_column: u32,

    pub partials: u32,
    pub statistics: u32,
    pub coefficients: u32,
    pub coefficient_row: u32,
    pub report: u32,

    pub has_ignore_index: u32,
    pub ignore_index: u32,

    pub pixel_kind: u32,
    pub pixel_reduction: u32,
    pub pixel_weight: f32,
    pub on_label: f32,
    pub off_label: f32,
    pub weighted_classes: u32,
    pub class_weights: u32,
    pub class_weight_sum: f32,
    pub empty: u32,

    pub overlap_kind: u32,
    pub overlap_reduction: u32,
    pub overlap_weight: f32,
    pub first_class: u32,
    pub batch: u32,
    pub smooth_nr: f32,
    pub smooth_dr: f32,
    pub denominator_floor: f32,
    pub form: f32,
    pub weighted_overlap: u32,
    pub overlap_class_weights: u32,
    /// A row in a uniform buffer takes a multiple of 16 bytes.
    pub padding: [u32; 3],
}

/// The rows of all heads, before anything is bound: slots, first elements, groups and workgroups are still 0.
pub(crate) fn rows(spec: &LossSpec, layouts: &[HeadLayout]) -> Vec<HeadRow> {
    spec.heads.iter().zip(layouts).map(|(head, layout)| row(head, layout)).collect()
}

fn row(head: &Head, layout: &HeadLayout) -> HeadRow {
    let mut row = HeadRow {
        items: layout.items,
        classes: layout.classes,
        voxels: layout.voxels,
        tiles: layout.tiles,
        first_column: layout.first_column,
        partials: layout.partials,
        statistics: layout.statistics,
        coefficients: layout.coefficients,
        coefficient_row: layout.coefficient_row,
        report: layout.report,
        has_ignore_index: head.ignore_bits().is_some().into(),
        ignore_index: head.ignore_bits().unwrap_or(0),
        ..HeadRow::default()
    };
    pixel(&mut row, head, layout);
    overlap(&mut row, head, layout);
    row
}

#[expect(clippy::cast_possible_truncation, reason = "computed in f64, rounded once")]
fn pixel(row: &mut HeadRow, head: &Head, layout: &HeadLayout) {
    let Some(pixel) = &head.loss.pixel else { return };
    let epsilon = f64::from(pixel.label_smoothing);
    let weights = pixel.class_weights.as_deref();
    row.pixel_kind = match pixel.kind {
        PixelKind::CrossEntropy => 1,
    };
    row.pixel_reduction = reduction(pixel.reduction);
    row.pixel_weight = (f64::from(head.weight) * f64::from(pixel.weight)) as f32;
    row.on_label = (1.0 - epsilon) as f32;
    row.off_label = (epsilon / f64::from(layout.classes)) as f32;
    row.weighted_classes = weights.is_some().into();
    row.class_weights = layout.pixel_class_weights;
    row.class_weight_sum =
        weights.map_or(f64::from(layout.classes), |w| w.iter().map(|&w| f64::from(w)).sum::<f64>()) as f32;
    row.empty = match pixel.empty {
        Empty::Zero => 0.0_f32,
        Empty::Nan => f32::NAN,
    }
    .to_bits();
}

#[expect(clippy::cast_possible_truncation, reason = "computed in f64, rounded once; the first class is 0 or 1")]
fn overlap(row: &mut HeadRow, head: &Head, layout: &HeadLayout) {
    let Some(overlap) = &head.loss.overlap else { return };
    row.overlap_kind = match overlap.kind {
        OverlapKind::Dice => 1,
        OverlapKind::Jaccard => 2,
    };
    row.overlap_reduction = reduction(overlap.reduction);
    row.overlap_weight = (f64::from(head.weight) * f64::from(overlap.weight)) as f32;
    row.first_class = overlap.first_class(head.classes()) as u32;
    row.batch = overlap.batch.into();
    row.smooth_nr = overlap.smooth_nr;
    row.smooth_dr = overlap.smooth_dr;
    row.denominator_floor = overlap.denominator_floor.unwrap_or(f32::MIN);
    row.form = match overlap.form {
        Form::OneMinus => 1.0,
        Form::Negative => 0.0,
    };
    row.weighted_overlap = overlap.class_weights.is_some().into();
    row.overlap_class_weights = layout.overlap_class_weights;
}

fn reduction(reduction: Reduction) -> u32 {
    match reduction {
        Reduction::Mean => 1,
        Reduction::Sum => 0,
    }
}
