//! What each word of a report is, by the name of its field: for a reader that has the words alone.

use crate::layout::heads::Heads;
use crate::layout::{HeadLayout, words};
use crate::spec::{HardCounts, Head};

/// Where a step's report is on the device, and what its words are.
#[derive(Clone, Debug)]
pub struct ReportWords {
    /// The buffer that finish.wgsl writes, and gradient.wgsl where it looks for what is not finite.
    pub buffer: wgpu::Buffer,
    /// The words that have a name, the first head's after the total.
    pub words: Vec<ReportWord>,
}

/// A word of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportWord {
    /// Its index in the buffer.
    pub index: u32,
    /// Its place in a [`Report`](crate::Report): `total`, `heads[0].overlap`, `heads[0].soft_dice[2]`, ….
    pub name: String,
    /// Whether it is an f32; else it is a u32.
    pub is_float: bool,
}

impl ReportWords {
    pub(crate) fn new(buffer: &wgpu::Buffer, of: &Heads) -> Self {
        let total = ReportWord { index: words::REPORT_TOTAL, name: "total".to_owned(), is_float: true };
        let heads = of.spec.heads.iter().zip(&of.layout.heads).enumerate();
        let heads = heads.flat_map(|(index, (head, layout))| of_head(index, head, layout));
        Self { buffer: buffer.clone(), words: std::iter::once(total).chain(heads).collect() }
    }
}

/// The counts of a class, in the order of their words.
const COUNTS: [&str; 3] = ["true_positives", "false_positives", "false_negatives"];

fn of_head(index: usize, head: &Head, layout: &HeadLayout) -> Vec<ReportWord> {
    let mut all = Vec::new();
    let mut push = |index_of_word: u32, is_float: bool, name: String| {
        all.push(ReportWord { index: index_of_word, name: format!("heads[{index}].{name}"), is_float });
    };
    let (overlap, pixel) = (head.loss.overlap.is_some(), head.loss.pixel.is_some());
    let non_finite = head.check_finite;
    for (has, place, is_float, name) in [
        (overlap, words::REPORT_OVERLAP, true, "overlap"),
        (overlap, words::REPORT_WEIGHTED_OVERLAP, true, "overlap.weighted"),
        (pixel, words::REPORT_PIXEL, true, "pixel"),
        (pixel, words::REPORT_WEIGHTED_PIXEL, true, "pixel.weighted"),
        (true, words::REPORT_COUNTED, false, "counted"),
        (true, words::REPORT_IGNORED, false, "ignored"),
        (true, words::REPORT_OUT_OF_RANGE, false, "out_of_range"),
        (true, words::REPORT_FIRST_ITEM, false, "first_out_of_range.item"),
        (true, words::REPORT_FIRST_VOXEL, false, "first_out_of_range.voxel"),
        (true, words::REPORT_D_WEIGHT, true, "d_weight"),
        (true, words::REPORT_D_OVERLAP_WEIGHT, true, "d_overlap_weight"),
        (true, words::REPORT_D_PIXEL_WEIGHT, true, "d_pixel_weight"),
        (non_finite, words::REPORT_NON_FINITE_LOGITS, false, "non_finite.logits"),
        (non_finite, words::REPORT_NON_FINITE_GRADIENT, false, "non_finite.gradient"),
    ] {
        if has {
            push(layout.report + place, is_float, name.to_owned());
        }
    }
    let classes = to_u32(head.classes());
    for class in 0..classes {
        push(layout.report + words::REPORT_WORDS + class, true, format!("soft_dice[{class}]"));
    }
    if head.hard_counts != HardCounts::None {
        for (name, first) in COUNTS.iter().zip(0..) {
            for class in 0..classes {
                let word = layout.outputs.hard_counts + first * classes + class;
                push(word, false, format!("hard_counts[{class}].{name}"));
            }
        }
    }
    if head.hard_counts == HardCounts::Item {
        for item in 0..to_u32(head.items()) {
            let begin = layout.outputs.item_counts + item * (3 * classes + 1);
            for (name, first) in COUNTS.iter().zip(0..) {
                for class in 0..classes {
                    push(begin + first * classes + class, false, format!("item_counts[{item}][{class}].{name}"));
                }
            }
            push(begin + 3 * classes, false, format!("item_counts[{item}].counted"));
        }
    }
    if let (true, Some(overlap)) = (head.unreduced, &head.loss.overlap) {
        let (rows, columns) = (if overlap.batch { 1 } else { head.items() }, overlap.losses_of_row(head.classes()));
        for loss in 0..rows * columns {
            let name = format!("overlap_losses[{}][{}]", loss / columns, loss % columns);
            push(layout.outputs.overlap_losses + to_u32(loss), true, name);
        }
    }
    all
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).expect("a report of few words")
}
