//! A step's report: the total, every term, every class's soft Dice, and the voxels that counted.

use super::pending::{Arrives, Mailbox, Pending};
use crate::error::Error;
use crate::layout::HeadLayout;
use crate::layout::heads::Heads;
use crate::layout::words::{self, NO_VOXEL};
use crate::spec::{HardCounts, Head};

/// A loss term of a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The term itself.
    pub value: f32,
    /// What it adds to the total: the value times the head's weight and the term's. Exactly 0 where one of the weights
    /// is 0, even if the value is NaN.
    pub weighted: f32,
}

/// A voxel of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoxelPosition {
    /// The sample.
    pub item: u32,
    /// The row-major index among the sample's voxels.
    pub voxel: u32,
}

/// Hits and misses of a class, in voxels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// TP: voxels of this class that are predicted as it.
    pub true_positives: u32,
    /// FP: voxels of other classes that are predicted as this class.
    pub false_positives: u32,
    /// FN: voxels of this class that are predicted as another.
    pub false_negatives: u32,
    /// TN: all other voxels that count.
    pub true_negatives: u32,
}

impl ClassCounts {
    fn ratio(part: u64, whole: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "below 2^53: exact")]
        let ratio = part as f64 / whole as f64;
        ratio
    }

    /// TP, FP and FN, which sums over many reports may have as well.
    pub(crate) fn counts(self) -> [u64; 3] {
        [self.true_positives, self.false_positives, self.false_negatives].map(u64::from)
    }

    /// `2 TP / (2 TP + FP + FN)`; NaN for a class that is neither in the target nor predicted.
    #[must_use]
    pub fn dice(self) -> f64 {
        Self::dice_of(self.counts())
    }

    pub(crate) fn dice_of([tp, fp, r#fn]: [u64; 3]) -> f64 {
        Self::ratio(2 * tp, 2 * tp + fp + r#fn)
    }

    /// `TP / (TP + FP + FN)`; NaN for a class that is neither in the target nor predicted.
    #[must_use]
    pub fn iou(self) -> f64 {
        Self::iou_of(self.counts())
    }

    pub(crate) fn iou_of([tp, fp, r#fn]: [u64; 3]) -> f64 {
        Self::ratio(tp, tp + fp + r#fn)
    }

    /// `TP / (TP + FP)`; NaN for a class that is not predicted.
    #[must_use]
    pub fn precision(self) -> f64 {
        let [tp, fp, _] = self.counts();
        Self::ratio(tp, tp + fp)
    }

    /// `TP / (TP + FN)`; NaN for a class that is not in the target.
    #[must_use]
    pub fn recall(self) -> f64 {
        let [tp, _, r#fn] = self.counts();
        Self::ratio(tp, tp + r#fn)
    }
}

/// Hits and misses of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemCounts {
    /// One per class.
    pub classes: Vec<ClassCounts>,
    /// Voxels of the item that counted.
    pub counted: u32,
}

/// Whether logits and gradient of a head are finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// Voxels with a logit that is NaN or infinite, voxels that do not count included.
    pub logits: u32,
    /// Whether the gradient, as stored in its type, has a NaN or an infinity. Covers the backward that ran between the
    /// step's forward and the copy of this report; `false` where none did.
    pub gradient: bool,
}

/// The results of a head.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadReport {
    /// The overlap term, if the head has one.
    pub overlap: Option<Term>,
    /// The pixel term, if the head has one.
    pub pixel: Option<Term>,
    /// The soft Dice `2I / (P + T)` of each class over the whole batch, class 0 included, without smoothing constants.
    /// Every head has it, whatever its terms. With `squared`, P is a sum of squares. NaN where no voxel counts.
    pub soft_dice: Vec<f32>,
    /// Hits and misses of each class over the whole batch, where the head has [`hard_counts`](Head::hard_counts).
    pub hard_counts: Option<Vec<ClassCounts>>,
    /// The same per item, where [`hard_counts`](Head::hard_counts) is [`HardCounts::Item`].
    pub item_counts: Option<Vec<ItemCounts>>,
    /// The overlap term before its reduction, where the head is [`unreduced`](Head::unreduced): one list per row (an
    /// item, or with `batch` the whole batch), with one number per class that takes part, its class weight included;
    /// for generalized Dice one number per row. NaN where a row or class takes no part in the mean.
    pub overlap_losses: Option<Vec<Vec<f32>>>,
    /// Whether logits and gradient are finite, where the head has [`check_finite`](Head::check_finite).
    pub non_finite: Option<NonFinite>,
    /// Voxels that counted.
    pub counted: u32,
    /// Voxels with the ignore label.
    pub ignored: u32,
    /// Voxels whose label is neither a class nor the ignore label. They count nowhere, and hint at a wrong label map.
    pub out_of_range: u32,
    /// The first voxel whose label is out of range.
    pub first_out_of_range: Option<VoxelPosition>,
    /// The derivative of the total by the head's weight. For a head of weight 0 it may be NaN, as its terms may.
    pub d_weight: f32,
    /// The derivative of the total by the weight of the overlap term; 0 where the head lacks the term, or has weight 0.
    pub d_overlap_weight: f32,
    /// The derivative of the total by the weight of the pixel term; 0 where the head lacks the term, or has weight 0.
    pub d_pixel_weight: f32,
}

/// The total loss of a step, and its parts.
///
/// With a batch over several machines ([`PlanOptions::distributed`](crate::PlanOptions::distributed)), every rank's
/// report is that of the whole batch, except for what belongs to the rank's own items and voxels: `item_counts`, the
/// `overlap_losses` of items, `first_out_of_range`, and whether the gradient is finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Σ over heads of the weighted terms.
    pub total: f32,
    /// One per head, in the order of the specification.
    pub heads: Vec<HeadReport>,
}

fn head_report(all: &[u32], head: &Head, layout: &HeadLayout) -> HeadReport {
    let classes = head.classes();
    let word = |place: u32| all[(layout.report + place) as usize];
    let float = |place| f32::from_bits(word(place));
    let term = |value, weighted| Term { value: float(value), weighted: float(weighted) };
    let soft_dice = all[(layout.report + words::REPORT_WORDS) as usize..].iter().take(classes);
    let counted = word(words::REPORT_COUNTED);
    let first = VoxelPosition { item: word(words::REPORT_FIRST_ITEM), voxel: word(words::REPORT_FIRST_VOXEL) };
    let outputs = |first: u32| &all[first as usize..];
    let of_item =
        |words: &[u32]| ItemCounts { classes: class_counts(words, words[3 * classes]), counted: words[3 * classes] };
    let items =
        || outputs(layout.outputs.item_counts).chunks(3 * classes + 1).take(head.items()).map(of_item).collect();
    HeadReport {
        overlap: (head.loss.overlap.is_some()).then(|| term(words::REPORT_OVERLAP, words::REPORT_WEIGHTED_OVERLAP)),
        pixel: head.loss.pixel.is_some().then(|| term(words::REPORT_PIXEL, words::REPORT_WEIGHTED_PIXEL)),
        soft_dice: soft_dice.map(|&word| f32::from_bits(word)).collect(),
        hard_counts: (head.hard_counts != HardCounts::None)
            .then(|| class_counts(&outputs(layout.outputs.hard_counts)[..3 * classes], counted)),
        item_counts: (head.hard_counts == HardCounts::Item).then(items),
        overlap_losses: (head.unreduced && head.loss.overlap.is_some())
            .then(|| overlap_losses(outputs(layout.outputs.overlap_losses), head)),
        non_finite: head.check_finite.then(|| NonFinite {
            logits: word(words::REPORT_NON_FINITE_LOGITS),
            gradient: word(words::REPORT_NON_FINITE_GRADIENT) != 0,
        }),
        counted,
        ignored: word(words::REPORT_IGNORED),
        out_of_range: word(words::REPORT_OUT_OF_RANGE),
        first_out_of_range: (first.item != NO_VOXEL).then_some(first),
        d_weight: float(words::REPORT_D_WEIGHT),
        d_overlap_weight: float(words::REPORT_D_OVERLAP_WEIGHT),
        d_pixel_weight: float(words::REPORT_D_PIXEL_WEIGHT),
    }
}

/// TP of each class, then FP, then FN.
fn class_counts(words: &[u32], counted: u32) -> Vec<ClassCounts> {
    let classes = words.len() / 3;
    let of_class = |c: usize| {
        let [tp, fp, r#fn] = [words[c], words[classes + c], words[2 * classes + c]];
        ClassCounts {
            true_positives: tp,
            false_positives: fp,
            false_negatives: r#fn,
            true_negatives: counted - tp - fp - r#fn,
        }
    };
    (0..classes).map(of_class).collect()
}

fn overlap_losses(words: &[u32], head: &Head) -> Vec<Vec<f32>> {
    let Some(overlap) = &head.loss.overlap else { return Vec::new() };
    let rows = if overlap.batch { 1 } else { head.items() };
    words
        .chunks(overlap.losses_of_row(head.classes()))
        .take(rows)
        .map(|row| row.iter().map(|&word| f32::from_bits(word)).collect())
        .collect()
}

impl Arrives for Report {
    fn from_words(all: &[u32], of: &Heads) -> Result<Self, Error> {
        if all[words::REPORT_WRITTEN as usize] == 0 {
            return Err(Self::lost(
                "no forward ran since the last report: its submission failed, or it was never submitted".to_owned(),
            ));
        }
        let heads = of.spec.heads.iter().zip(&of.layout.heads);
        let heads = heads.map(|(head, layout)| head_report(all, head, layout)).collect();
        Ok(Self { total: f32::from_bits(all[words::REPORT_TOTAL as usize]), heads })
    }

    fn lost(message: String) -> Error {
        Error::ReportLost { message }
    }

    fn unread(ring: usize) -> Error {
        Error::ReportsUnread { ring }
    }
}

impl Mailbox<Report> {
    /// Encodes the copy of the report, which finish.wgsl and gradient.wgsl write, to a staging buffer.
    pub(crate) fn encode(
        &self,
        report: &wgpu::Buffer,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<PendingReport, Error> {
        self.copy(encoder, |encoder, staging| {
            encoder.copy_buffer_to_buffer(report, 0, staging, 0, report.size());
            // or else the earlier report could be read again after a forward whose submission failed
            encoder.clear_buffer(report, 4 * u64::from(words::REPORT_WRITTEN), Some(4));
        })
    }
}

/// A report on its way to the host.
pub type PendingReport = Pending<Report>;
