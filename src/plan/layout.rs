//! Where each head's work and scratch lie: a pure function of shapes and settings.

use super::variant::Variant;
use crate::{Error, Head, LossSpec};

/// Words of a head's report before its per-class part: `REPORT_WORDS` of finish.wgsl.
pub(crate) const REPORT_WORDS: u32 = 9;

/// What decides the text of a head's arithmetic. Heads that agree in it share the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the shader's text")]
pub(crate) struct Arithmetic {
    pub classes: u32,
    pub overlap: bool,
    pub squared: bool,
    pub cross_entropy: bool,
    pub smoothing: bool,
    pub class_weights: bool,
}

/// One head's share of the work and of the scratch buffers, in words.
#[derive(Clone, Debug)]
pub(crate) struct HeadLayout {
    pub items: u32,
    pub classes: u32,
    pub voxels: u32,
    pub tiles: u32,
    pub first_column: u32,
    pub partials: u32,
    pub statistics: u32,
    pub coefficients: u32,
    pub coefficient_row: u32,
    pub report: u32,
    pub arithmetic: Arithmetic,
    pub pixel_class_weights: u32,
    pub overlap_class_weights: u32,
}

/// All heads, and the sizes of the scratch buffers in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub heads: Vec<HeadLayout>,
    pub columns: u32,
    pub partials: u32,
    pub statistics: u32,
    pub coefficients: u32,
    pub report: u32,
    pub class_weights: Vec<f32>,
}

impl Layout {
    /// Fails where an index would not fit in 32 bits.
    pub(crate) fn new(spec: &LossSpec, variant: Variant) -> Result<Self, Error> {
        // word 0 of the report is the total
        let mut layout = Self { report: 1, ..Self::default() };
        for (index, head) in spec.heads.iter().enumerate() {
            layout.push(index, head, variant)?;
        }
        if layout.class_weights.is_empty() {
            // a binding is never empty
            layout.class_weights.push(1.0);
        }
        Ok(layout)
    }

    fn push(&mut self, index: usize, head: &Head, variant: Variant) -> Result<(), Error> {
        let word = |what: &str, needed: u64| {
            u32::try_from(needed).map_err(|_| Error::Limit {
                head: Some(index),
                what: what.to_owned(),
                limit: "range of a 32-bit index",
                needed,
                available: u32::MAX.into(),
            })
        };
        let (items, classes, voxels) = (head.items() as u64, head.classes() as u64, head.voxels() as u64);
        // one tile and one quad more, so that stepping past the end cannot wrap
        word("a row of voxels", voxels.saturating_add(u64::from(variant.tile) + 4))?;
        word("the logits", items.saturating_mul(classes).saturating_mul(voxels).saturating_add(4))?;
        let tiles = voxels.div_ceil(variant.tile.into());
        let statistics_words = (3 * classes + 4).saturating_add(items.saturating_mul(3 * classes));
        let rows = if head.loss.overlap.as_ref().is_some_and(|o| o.batch) { 1 } else { items };
        let coefficient_words = 1 + classes + rows * 2 * classes;
        let partial_words = (3 * classes + 3).saturating_mul(items * tiles);

        let overlap = head.loss.overlap.as_ref();
        let pixel = head.loss.pixel.as_ref();
        let pixel_class_weights = self.weights(pixel.and_then(|p| p.class_weights.as_deref()), index)?;
        let overlap_class_weights = self.weights(overlap.and_then(|o| o.class_weights.as_deref()), index)?;
        let classes_word = word("the classes", classes)?;
        self.heads.push(HeadLayout {
            items: word("the items", items)?,
            classes: classes_word,
            voxels: word("the voxels", voxels)?,
            tiles: word("the tiles", tiles)?,
            first_column: self.columns,
            partials: self.partials,
            statistics: self.statistics,
            coefficients: self.coefficients,
            coefficient_row: if rows == items && items > 1 { word("the coefficients", 2 * classes)? } else { 0 },
            report: self.report,
            arithmetic: Arithmetic {
                classes: classes_word,
                overlap: overlap.is_some(),
                squared: overlap.is_some_and(|o| o.squared),
                cross_entropy: pixel.is_some(),
                smoothing: pixel.is_some_and(|p| p.label_smoothing > 0.0),
                class_weights: pixel.is_some_and(|p| p.class_weights.is_some()),
            },
            pixel_class_weights,
            overlap_class_weights,
        });
        self.columns = word("the columns of partial sums", u64::from(self.columns) + 3 * classes + 3)?;
        self.partials = word("the partial sums", u64::from(self.partials).saturating_add(partial_words))?;
        self.statistics = word("the statistics", u64::from(self.statistics).saturating_add(statistics_words))?;
        self.coefficients = word("the coefficients", u64::from(self.coefficients) + coefficient_words)?;
        self.report = word("the report", u64::from(self.report) + u64::from(REPORT_WORDS) + classes)?;
        Ok(())
    }

    /// Appends class weights, and says where they begin.
    fn weights(&mut self, weights: Option<&[f32]>, head: usize) -> Result<u32, Error> {
        let first = u32::try_from(self.class_weights.len()).map_err(|_| Error::Limit {
            head: Some(head),
            what: "the class weights".to_owned(),
            limit: "range of a 32-bit index",
            needed: self.class_weights.len() as u64,
            available: u32::MAX.into(),
        })?;
        self.class_weights.extend(weights.unwrap_or_default());
        Ok(first)
    }
}
