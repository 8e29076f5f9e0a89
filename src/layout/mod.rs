//! Where each head's work and scratch lie: a pure function of shapes and settings.

pub(crate) mod answers;
pub(crate) mod bindings;
pub(crate) mod defaults;
pub(crate) mod driver;
pub(crate) mod heads;
pub(crate) mod iterations;
mod parameters;
pub(crate) mod slots;
pub(crate) mod split;
pub(crate) mod table;
pub(crate) mod tensors;
pub(crate) mod variant;
pub(crate) mod words;

use parameters::{axis_parameters, class_numbers, class_parameters, exponents, label_table};
use variant::Variant;

use crate::error::{Bound, Error};
use crate::spec::{
    Absent, Activation, Alpha, ClassValues, HardCounts, Head, LossSpec, OverlapKind, PixelKind, Product, Reduction,
    Target,
};

/// How many elements a tensor may begin behind the start of its binding, and a quad more.
const SLACK: u64 = 1024;
/// Words of the report before the first head's.
const REPORT_HEADS: u32 = 2;
/// Words of the top-k's threshold and share.
const TOP_WORDS: u64 = 2;

/// What decides the text of a head's arithmetic. Heads that agree in it share the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Arithmetic {
    pub classes: u32,
    /// The flags of `//# if`, and whether they are set.
    pub flags: Vec<(&'static str, bool)>,
}

impl Arithmetic {
    fn new(head: &Head, classes: u32) -> Self {
        let overlap = head.loss.overlap.as_ref();
        let pixel = head.loss.pixel.as_ref();
        let kind = pixel.map(|pixel| &pixel.kind);
        let softmax = head.loss.activation == Activation::Softmax;
        let top_k = pixel.is_some_and(|pixel| pixel.k_percent.is_some());
        let cross_entropy = matches!(kind, Some(PixelKind::CrossEntropy));
        let poly = matches!(kind, Some(PixelKind::PolyCrossEntropy { .. }));
        let generalized = matches!(kind, Some(PixelKind::GeneralizedCrossEntropy { .. }));
        let of_softmax = kind.is_some_and(PixelKind::is_cross_entropy);
        let focal = matches!(kind, Some(PixelKind::Focal { .. }));
        let binary = matches!(kind, Some(PixelKind::BinaryCrossEntropy { .. }));
        let alpha_list = matches!(kind, Some(PixelKind::Focal { alpha: Alpha::PerClass(_), .. }));
        let class_parameters =
            pixel.is_some_and(|pixel| !class_parameters(pixel, classes as usize, softmax).is_empty());
        let labels = matches!(head.target, Target::Labels(_));
        let minimum = overlap.is_some_and(|overlap| match overlap.product {
            Product::Product => false,
            Product::Minimum => true,
        });
        let flags = [
            ("overlap", overlap.is_some()),
            ("overlap_softmax", overlap.is_some() && softmax),
            ("softmax", softmax || of_softmax),
            ("sigmoid", head.loss.activation == Activation::Sigmoid),
            ("identity", head.loss.activation == Activation::None),
            ("squared", overlap.is_some_and(|o| o.squared)),
            ("minimum", minimum),
            // two terms that do not share one softmax
            ("apart", overlap.is_some() && pixel.is_some() && !(softmax && cross_entropy)),
            ("cross_entropy", cross_entropy),
            ("smoothing", of_softmax && pixel.is_some_and(|p| p.label_smoothing > 0.0)),
            ("top_k", top_k),
            ("binary", binary || focal && !softmax),
            ("binary_cross_entropy", binary),
            ("focal_sigmoid", focal && !softmax),
            ("focal_softmax", focal && softmax),
            ("poly", poly),
            ("generalized", generalized),
            // a slope u per class; focal has a softmax of its own, since it may lack class 0
            ("bent", poly || generalized || focal && softmax),
            ("bends", matches!(kind, Some(PixelKind::Focal { gamma: ClassValues::Each(_), .. }))),
            ("alpha_list", alpha_list),
            ("class_parameters", class_parameters),
            ("channels_last", head.channels_last()),
            ("labels", labels),
            ("unweighted_labels", cross_entropy && labels && head.regions.is_none() && !class_parameters),
            ("label_table", head.label_map.is_some() || head.regions.is_some()),
            ("label_map", head.label_map.is_some()),
            ("regions", head.regions.is_some()),
            ("probabilities", matches!(head.target, Target::Probabilities(_))),
            ("resample", head.resample.is_some()),
            ("mask", head.mask),
            ("weight_map", head.weight_map),
            ("sample_mask", head.sample_mask),
            ("hard_counts", head.hard_counts != HardCounts::None),
            ("check_finite", head.check_finite),
            ("voxel_losses", head.voxel_losses()),
        ];
        Self { classes, flags: flags.to_vec() }
    }

    pub fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|(name, set)| *name == flag && *set)
    }
}

/// One head's share of the work and of the scratch buffers, in words.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a part of the text or of the table that a head has or lacks"
)]
pub(crate) struct HeadLayout {
    pub items: u32,
    pub classes: u32,
    pub voxels: u32,
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
    /// Whether the pixel term takes the mean of each item.
    pub item_means: bool,
    /// Whether the overlap term needs a pass over each row's classes before the rest.
    pub row_notes: bool,
    pub outputs: OptionalOutputs,
    pub arithmetic: Arithmetic,
    pub has_class_parameters: bool,
    pub class_parameters: u32,
    pub bends: u32,
    pub has_class_numbers: bool,
    pub class_numbers: u32,
    pub axes: u32,
    pub axis_parameters: u32,
    pub label_table: LabelTable,
    pub target_voxels: u32,
    pub top: TopK,
}

impl HeadLayout {
    /// Words of the head's global sums, which are the first of its statistics.
    pub(crate) fn global_words(&self) -> u32 {
        self.class_columns + words::GLOBAL_WORDS
    }
}

/// Where a head's label table is among the parameters; without labels where it has none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LabelTable {
    pub first: u32,
    pub labels: u32,
    /// Words per label.
    pub words: u32,
}

/// A head's share of the top-k: all 0 where it has none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TopK {
    pub count: u32,
    pub losses: u32,
    pub selection: u32,
    pub first_run: u32,
    pub runs: u32,
    pub coefficients: u32,
}

/// Where the report has what a head asks for: the first word of each, 0 where the head does not ask for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OptionalOutputs {
    /// TP, FP, FN of each class.
    pub hard_counts: u32,
    /// The same per item, and the item's voxels that counted.
    pub item_counts: u32,
    /// The overlap term per row, and per class that takes part.
    pub overlap_losses: u32,
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
    /// Words of the top-k: all losses, the selections, and runs of losses. 0 where no head has one.
    pub losses: u32,
    pub selection: u32,
    pub loss_runs: u32,
    /// The upstream gradient, and constants of the heads: the start of the coefficients.
    pub parameters: Vec<f32>,
}

impl Layout {
    /// Fails where an index would not fit in 32 bits.
    pub(crate) fn new(spec: &LossSpec, variant: Variant) -> Result<Self, Error> {
        // word 0 of the report is the total; the upstream gradient is 1 unless the caller has one
        let mut layout = Self { report: REPORT_HEADS, parameters: vec![1.0], ..Self::default() };
        for (index, head) in spec.heads.iter().enumerate() {
            layout.push(index, head, variant)?;
        }
        // the parameters come first, and all heads' coefficients behind them
        let parameters = word(None, "the parameters", layout.parameters.len() as u64)?;
        word(None, "the coefficients", u64::from(layout.coefficients) + u64::from(parameters))?;
        layout.coefficients += parameters;
        for head in &mut layout.heads {
            head.coefficients += parameters;
            head.slopes += parameters;
            head.top.coefficients += parameters;
        }
        Ok(layout)
    }

    /// Storage bindings of the statistics stage besides the slots: coefficients, partials, and the losses where a head has a
    /// top-k. Binding 0 is the table, and the slots follow.
    pub(crate) fn statistics_bindings(&self) -> u32 {
        2 + u32::from(self.has_top_k())
    }

    /// Storage bindings of the gradient stage besides the slots: coefficients, the upstream gradient where it is read from the
    /// caller's buffer, the losses where a head has a top-k, and the report where a head asks whether its gradient is finite.
    pub(crate) fn gradient_bindings(&self, upstream_bound: bool) -> u32 {
        1 + u32::from(upstream_bound) + u32::from(self.has_top_k()) + u32::from(self.checks_finite())
    }

    /// Whether any head asks whether its gradient is finite.
    pub(crate) fn checks_finite(&self) -> bool {
        self.heads.iter().any(|head| head.arithmetic.is("check_finite"))
    }

    /// Whether any head's pixel term takes the mean of each item.
    pub(crate) fn has_item_means(&self) -> bool {
        self.heads.iter().any(|head| head.item_means)
    }

    /// Whether any head has a top-k: then statistics keeps the losses, and a selection runs before finish.
    pub(crate) fn has_top_k(&self) -> bool {
        self.heads.iter().any(|head| head.top.count > 0)
    }

    fn push(&mut self, index: usize, head: &Head, variant: Variant) -> Result<(), Error> {
        let word = |what: &str, needed: u64| word(Some(index), what, needed);
        let (items, classes, voxels) = (head.items() as u64, head.classes() as u64, head.voxels() as u64);
        // with a margin, so that neither a step past the end nor an offset inside the binding can wrap
        word("a row of voxels", voxels.saturating_add(u64::from(variant.tile) + SLACK))?;
        word("the labels", items.saturating_mul(head.target_voxels() as u64).saturating_add(SLACK))?;
        word("the logits", items.saturating_mul(classes).saturating_mul(voxels).saturating_add(SLACK))?;
        let tiles = voxels.div_ceil(variant.tile.into());
        let class_columns = if head.hard_counts == HardCounts::None { 3 * classes } else { 6 * classes };
        let item_means = head.loss.pixel.as_ref().is_some_and(|p| p.reduction == Reduction::SumOfItemMeans);
        let item_mass =
            head.loss.overlap.as_ref().is_some_and(|o| !o.batch && matches!(o.kind, OverlapKind::Mcc { .. }));
        // the class columns, the voxels counted, and Σ m ℓ and Σ m where the mean or the overlap of an item needs them
        let item_words = class_columns + if item_means || item_mass { 3 } else { 1 };
        let statistics_words =
            (class_columns + u64::from(words::GLOBAL_WORDS)).saturating_add(items.saturating_mul(item_words));
        let rows = if head.loss.overlap.as_ref().is_some_and(|o| o.batch) { 1 } else { items };
        let kappa_words = 2 * classes * if item_means { items } else { 1 };
        let slopes = u64::from(self.coefficients) + u64::from(words::SWITCHES) + kappa_words;
        let coefficient_words =
            u64::from(words::SWITCHES) + kappa_words + rows * (2 * classes + u64::from(words::ROW_WORDS)) + TOP_WORDS;
        let partial_words = (class_columns + u64::from(words::TILE_COLUMNS)).saturating_mul(items * tiles);

        let overlap = head.loss.overlap.as_ref();
        let pixel = head.loss.pixel.as_ref();
        let softmax = head.loss.activation == Activation::Softmax;
        let of_classes = pixel.map_or_else(Vec::new, |pixel| class_parameters(pixel, head.classes(), softmax));
        let has_class_parameters = !of_classes.is_empty();
        let class_parameters = self.parameters(&of_classes, index)?;
        let bends = self.parameters(&pixel.map_or_else(Vec::new, |pixel| exponents(pixel, head.classes())), index)?;
        let numbers = overlap.map_or_else(Vec::new, |overlap| class_numbers(overlap, head.classes()));
        let has_class_numbers = !numbers.is_empty();
        let class_numbers = self.parameters(&numbers, index)?;
        let first = self.parameters.len();
        let of_axes = head.resample.as_ref().map(|labels| axis_parameters(&head.shape[2..], labels, first));
        let axis_parameters = self.parameters(of_axes.as_deref().unwrap_or_default(), index)?;
        let (table, words) = label_table(head);
        let label_table = LabelTable {
            first: self.parameters(&table, index)?,
            labels: word("the label table", table.len() as u64)? / words,
            words,
        };
        let end = u64::from(self.coefficients) + coefficient_words;
        let top = match pixel.and_then(|pixel| pixel.top_k(head.items() * head.voxels())) {
            Some(count) => self.top_k(index, count, items * voxels, end - TOP_WORDS)?,
            None => TopK::default(),
        };
        let classes_word = word("the classes", classes)?;
        let (outputs, report_end) = self.outputs(index, head, rows)?;
        self.heads.push(HeadLayout {
            items: word("the items", items)?,
            classes: classes_word,
            voxels: word("the voxels", voxels)?,
            tiles: word("the tiles", tiles)?,
            first_column: self.columns,
            partials: self.partials,
            statistics: self.statistics,
            coefficients: self.coefficients,
            kappa_row: if item_means { word("the coefficients", 2 * classes)? } else { 0 },
            slopes: word("the coefficients", slopes)?,
            slope_row: if rows == items && items > 1 { word("the coefficients", 2 * classes)? } else { 0 },
            report: self.report,
            class_columns: word("the columns of partial sums", class_columns)?,
            item_words: word("the words of an item", item_words)?,
            item_means,
            row_notes: overlap.is_some_and(|o| o.absent == Absent::Skip || o.is_micro()),
            outputs,
            arithmetic: Arithmetic::new(head, classes_word),
            has_class_parameters,
            class_parameters,
            bends,
            has_class_numbers,
            class_numbers,
            axes: head.resample.as_ref().map_or(Ok(0), |labels| word("the axes", labels.len() as u64))?,
            axis_parameters,
            label_table,
            target_voxels: word("the labels of an item", head.target_voxels() as u64)?,
            top,
        });
        self.columns = word(
            "the columns of partial sums",
            u64::from(self.columns) + class_columns + u64::from(words::TILE_COLUMNS),
        )?;
        self.partials = word("the partial sums", u64::from(self.partials).saturating_add(partial_words))?;
        self.statistics = word("the statistics", u64::from(self.statistics).saturating_add(statistics_words))?;
        self.coefficients = word("the coefficients", u64::from(self.coefficients) + coefficient_words)?;
        self.report = report_end;
        Ok(())
    }

    /// Where the report has what a head asks for, and where the head's report ends.
    fn outputs(&self, index: usize, head: &Head, rows: u64) -> Result<(OptionalOutputs, u32), Error> {
        let (items, classes) = (head.items() as u64, head.classes() as u64);
        let mut end = u64::from(self.report) + u64::from(words::REPORT_WORDS) + classes;
        let mut place = |wanted: bool, words: u64| {
            let first = end;
            end = if wanted { end.saturating_add(words) } else { end };
            word(Some(index), "the report", if wanted { first } else { 0 })
        };
        let overlap = head.loss.overlap.as_ref().filter(|_| head.unreduced);
        let of_row = overlap.map_or(0, |overlap| overlap.losses_of_row(head.classes()) as u64);
        let outputs = OptionalOutputs {
            hard_counts: place(head.hard_counts != HardCounts::None, 3 * classes)?,
            item_counts: place(head.hard_counts == HardCounts::Item, items.saturating_mul(3 * classes + 1))?,
            overlap_losses: place(overlap.is_some(), rows.saturating_mul(of_row))?,
        };
        Ok((outputs, word(Some(index), "the report", end)?))
    }

    /// Appends a head's share of the top-k.
    fn top_k(&mut self, head: usize, count: usize, voxels: u64, coefficients: u64) -> Result<TopK, Error> {
        let word = |what: &str, needed: u64| word(Some(head), what, needed);
        let runs = word("the runs of losses", voxels.div_ceil(words::LOSS_RUN.into()))?;
        let top = TopK {
            count: word("the top-k", count as u64)?,
            losses: self.losses,
            selection: self.selection,
            first_run: self.loss_runs,
            runs,
            coefficients: word("the coefficients", coefficients)?,
        };
        self.losses = word("the losses of voxels", u64::from(self.losses) + voxels)?;
        self.selection =
            word("the selection", u64::from(self.selection) + u64::from(words::SELECTION_WORDS) + u64::from(runs))?;
        self.loss_runs = word("the runs of losses", u64::from(self.loss_runs) + u64::from(runs))?;
        Ok(top)
    }

    /// Appends parameters, and returns where they begin. Tables are found by f32 numbers, which are exact up to 2^24.
    fn parameters(&mut self, parameters: &[f32], head: usize) -> Result<u32, Error> {
        let first = self.parameters.len();
        self.parameters.extend(parameters);
        let needed = self.parameters.len() as u64;
        if needed > 1 << 24 {
            let what = "the parameters of classes and axes".to_owned();
            return Err(Error::Limit { head: Some(head), what, bound: Bound::ExactFloat, needed, available: 1 << 24 });
        }
        word(Some(head), "the parameters", first as u64)
    }
}

fn word(head: Option<usize>, what: &str, needed: u64) -> Result<u32, Error> {
    u32::try_from(needed).map_err(|_| Error::Limit {
        head,
        what: what.to_owned(),
        bound: Bound::Index,
        needed,
        available: u32::MAX.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Loss;

    const VARIANT: Variant = Variant {
        invocations: 64,
        tile: 4096,
        register_classes: 16,
        register_classes_last: 16,
        split_classes: 8,
        streamed_gradient: u32::MAX,
        chunk: 8,
        fold_invocations: 64,
        wide: true,
        subgroups: false,
        unchecked: false,
        heads_per_dispatch: u32::MAX,
        subgroup_size: 0,
    };

    #[test]
    fn an_index_that_would_wrap_is_refused_and_one_that_would_not_is_taken() {
        let layout =
            |shape: [usize; 3]| Layout::new(&LossSpec::new().head(Head::new(shape, Loss::monai_dice_ce())), VARIANT);
        let most = (1_usize << 32) - 1 - 1024;
        assert!(layout([1, 1, most - 4096]).is_ok());
        assert!(layout([1, 5, most / 5]).is_ok());
        for shape in [[1, 1, most], [1, 1, 1 << 33], [1, 5, most / 5 + 1], [1 << 11, 1 << 11, 1 << 11]] {
            let refused = matches!(layout(shape), Err(Error::Limit { bound: Bound::Index, .. }));
            assert!(refused, "{shape:?}");
        }
    }

    #[test]
    fn resampled_axes_are_looked_up_where_nearest_exact_picks() {
        // floor((i + 0.5) · there/here); the second place of the last row is 5 exactly, where f32 rounds the product up to it
        for (there, here, expected) in [
            (8, 4_u16, vec![1.0, 3.0, 5.0, 7.0]),
            (5, 2, vec![1.0, 3.0]),
            (3, 5, vec![0.0, 0.0, 1.0, 2.0, 2.0]),
            (10, 3, vec![1.0, 5.0, 8.0]),
        ] {
            let parameters = axis_parameters(&[here.into()], &[there], 100);
            assert_eq!(parameters[..3], [f32::from(here), 1.0, 103.0]);
            assert_eq!(parameters[3..], expected);
        }
    }
}
