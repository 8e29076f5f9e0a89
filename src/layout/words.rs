//! Every number that host and shaders share, by its name in both: the shaders have them as constants, declared before their
//! text ([`declared`]).

use crate::spec::{Absent, ClassWeighting, Form, MeanOver, OverlapKind, Pixel, Reduction};

/// A shared number, as WGSL writes it.
trait Word {
    fn wgsl(self) -> String;
}

impl Word for u32 {
    fn wgsl(self) -> String {
        format!("{self}u")
    }
}

impl Word for f32 {
    fn wgsl(self) -> String {
        format!("{self:?}")
    }
}

macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $value:expr;)*) => {
        $($(#[doc = $doc])* #[allow(dead_code, reason = "some are the shaders' alone, and stand beside their like")]
        pub(crate) const $name: $type = $value;)*

        /// Each word's name, and its value as WGSL writes it.
        pub(crate) fn all() -> impl Iterator<Item = (&'static str, String)> {
            [$((stringify!($name), Word::wgsl($name))),*].into_iter()
        }
    };
}

words! {
    /// What a device is asked: the words of its answers.
    ASKED_SUM: u32 = 0;
    ASKED_TREE: u32 = 1;
    ASKED_SUBGROUP_SUM: u32 = 2;
    ASKED_SUBGROUP_LEAST: u32 = 3;
    ASKED_OUT_OF_ORDER: u32 = 4;
    /// Four digits of a histogram.
    ASKED_DIGITS: u32 = 5;
    /// Words before the halves.
    ANSWERS: u32 = 9;

    /// The word of the coefficients that has the upstream gradient.
    UPSTREAM: u32 = 0;

    /// The kinds of overlap term.
    DICE: u32 = 1;
    JACCARD: u32 = 2;
    TVERSKY: u32 = 3;
    GENERALIZED_DICE: u32 = 4;
    MCC: u32 = 5;

    /// The weights of generalized Dice: 1/T², 1/T, 1.
    SQUARE: u32 = 1;
    SIMPLE: u32 = 2;
    UNIFORM: u32 = 3;

    /// What is made of an overlap term's ratio.
    ONE_MINUS: u32 = 1;
    NEGATIVE: u32 = 2;
    LOG: u32 = 3;
    IDENTITY: u32 = 4;
    LOG_COSH: u32 = 5;

    /// What an overlap term's class does that its row's target lacks; 0 where it counts as any other.
    SKIP_ABSENT: u32 = 1;
    ZERO_ABSENT: u32 = 2;

    /// Numbers per class of an overlap term that not all classes share: weight, exponent, and the place among those that
    /// take part, -1 for a class that does not.
    CLASS_WEIGHT: u32 = 0;
    CLASS_GAMMA: u32 = 1;
    CLASS_PLACE: u32 = 2;
    CLASS_NUMBERS: u32 = 3;
    /// The place of a class that does not take part.
    NO_PLACE: u32 = u32::MAX;

    /// What a mean of the pixel term divides by.
    BY_CLASS_WEIGHT: u32 = 1;
    BY_VOXEL: u32 = 2;
    BY_VOXEL_AND_CLASS: u32 = 3;
    BY_ALL: u32 = 4;
    BY_ALL_AND_CLASS: u32 = 5;

    /// How a term becomes one number.
    MEAN: u32 = 1;
    SUMMED: u32 = 2;
    SUM_OF_ITEM_MEANS: u32 = 3;
    WEIGHTED_MEAN: u32 = 4;

    /// A head's three weights: its own, of its overlap term, of its pixel term.
    HEAD_WEIGHT: u32 = 0;
    OVERLAP_WEIGHT: u32 = 1;
    PIXEL_WEIGHT: u32 = 2;

    /// Numbers per axis of resampled labels: its length in the logits, its stride in the labels, where its table begins.
    AXIS_LENGTH: u32 = 0;
    AXIS_STRIDE: u32 = 1;
    AXIS_TABLE: u32 = 2;
    AXIS_WORDS: u32 = 3;

    /// What a label table has of a label that counts nowhere, and of one that it lacks; else a class, or 0. The bits of a
    /// label's channels follow, sixteen per word: f32 holds them exactly.
    IGNORED_LABEL: f32 = -1.0;
    UNKNOWN_LABEL: f32 = -2.0;
    CHANNELS_PER_WORD: u32 = 16;

    /// Columns of a tile that belong to no class, behind those that do. The first out of range is a place in the tile.
    TILE_COLUMNS: u32 = 6;
    FIRST_OUT_OF_RANGE: u32 = 5;
    /// Past every place in a tile. f32 counts exactly up to this number, so no tile has more voxels.
    NOWHERE: f32 = 16_777_216.0;

    /// Words of the global sums that belong to no class, behind those that do: Σ m ℓ, Σ m, voxels counted, out of range, with
    /// a logit that is not finite (up to here as in a tile), the item and the voxel of the first out of range, the items,
    /// those that take part in a mean over items, and what `row_sums` leaves.
    PIXEL_SUM: u32 = 0;
    MASS: u32 = 1;
    COUNTED: u32 = 2;
    OUT_OF_RANGE: u32 = 3;
    NON_FINITE: u32 = 4;
    FIRST_ITEM: u32 = 5;
    FIRST_VOXEL: u32 = 6;
    ITEMS: u32 = 7;
    COUNTING_ITEMS: u32 = 8;
    OVERLAP_SUM: u32 = 9;
    GLOBAL_WORDS: u32 = 10;
    /// The item and the voxel of the first out of range, where there is none.
    NO_VOXEL: u32 = u32::MAX;

    /// The most tiles of an item that one invocation of `combine` adds up alone, and the items or tiles of a run.
    COMBINE_RUN: u32 = 16;

    /// Losses of voxels per workgroup of the top-k.
    LOSS_RUN: u32 = 4096;
    /// Words of a selection before its partial sums: four, and a histogram of 256.
    SELECTION_WORDS: u32 = 260;

    /// Words of a head's coefficients before κ: 1 where the overlap term is switched on, and where the pixel term is.
    OVERLAP_SWITCH: u32 = 0;
    PIXEL_SWITCH: u32 = 1;
    SWITCHES: u32 = 2;
    /// Words of a row that `finish` keeps for itself.
    ROW_WORDS: u32 = 5;
    /// The top-k's threshold, and the share of a loss at it.
    TOP_THRESHOLD: u32 = 0;
    TOP_SHARE: u32 = 1;

    /// Words of the report before the first head's: the total, and a 1 that finish writes and the copy of the report clears.
    REPORT_TOTAL: u32 = 0;
    REPORT_WRITTEN: u32 = 1;
    /// Words of a head's report before its soft Dice.
    REPORT_OVERLAP: u32 = 0;
    REPORT_WEIGHTED_OVERLAP: u32 = 1;
    REPORT_PIXEL: u32 = 2;
    REPORT_WEIGHTED_PIXEL: u32 = 3;
    REPORT_COUNTED: u32 = 4;
    REPORT_IGNORED: u32 = 5;
    REPORT_OUT_OF_RANGE: u32 = 6;
    REPORT_FIRST_ITEM: u32 = 7;
    REPORT_FIRST_VOXEL: u32 = 8;
    REPORT_D_WEIGHT: u32 = 9;
    REPORT_D_OVERLAP_WEIGHT: u32 = 10;
    REPORT_D_PIXEL_WEIGHT: u32 = 11;
    REPORT_NON_FINITE_LOGITS: u32 = 12;
    REPORT_NON_FINITE_GRADIENT: u32 = 13;
    REPORT_WORDS: u32 = 14;
}

pub(crate) fn overlap_kind(kind: &OverlapKind) -> u32 {
    match kind {
        OverlapKind::Dice => DICE,
        OverlapKind::Jaccard => JACCARD,
        OverlapKind::Tversky { .. } => TVERSKY,
        OverlapKind::GeneralizedDice { .. } => GENERALIZED_DICE,
        OverlapKind::Mcc { .. } => MCC,
    }
}

pub(crate) fn class_weighting(weighting: ClassWeighting) -> u32 {
    match weighting {
        ClassWeighting::Square => SQUARE,
        ClassWeighting::Simple => SIMPLE,
        ClassWeighting::Uniform => UNIFORM,
    }
}

pub(crate) fn form(form: Form) -> u32 {
    match form {
        Form::OneMinus => ONE_MINUS,
        Form::Negative => NEGATIVE,
        Form::Identity => IDENTITY,
        Form::Log => LOG,
        Form::LogCosh => LOG_COSH,
    }
}

pub(crate) fn absent(absent: Absent) -> u32 {
    match absent {
        Absent::Count => 0,
        Absent::Skip => SKIP_ABSENT,
        Absent::Zero => ZERO_ABSENT,
    }
}

/// What the mean of a pixel term divides by.
pub(crate) fn pixel_denominator(pixel: &Pixel, one_class_per_voxel: bool) -> u32 {
    match (pixel.mean_over, pixel.kind.is_cross_entropy(), one_class_per_voxel) {
        (MeanOver::Valid, true, true) => BY_CLASS_WEIGHT,
        (MeanOver::Valid, true, false) | (MeanOver::Voxels, ..) => BY_VOXEL,
        (MeanOver::Valid, false, _) => BY_VOXEL_AND_CLASS,
        (MeanOver::All, true, _) => BY_ALL,
        (MeanOver::All, false, _) => BY_ALL_AND_CLASS,
    }
}

pub(crate) fn reduction(reduction: Reduction) -> u32 {
    match reduction {
        Reduction::Mean => MEAN,
        Reduction::Sum => SUMMED,
        Reduction::SumOfItemMeans => SUM_OF_ITEM_MEANS,
        Reduction::WeightedMean => WEIGHTED_MEAN,
    }
}

/// The declarations of those words that a text uses.
pub(crate) fn declared(text: &str) -> String {
    let names: std::collections::HashSet<&str> = identifiers(text).collect();
    let used = all().filter(|(name, _)| names.contains(name));
    used.fold(String::new(), |text, (name, value)| text + &format!("const {name} = {value};\n"))
}

/// Every identifier of a text, comments included.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shaders' text without comments and stand-ins.
    fn shaders() -> String {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let files = [root.clone(), root.join("shared")].map(|folder| std::fs::read_dir(folder).expect("a folder"));
        let paths = files.into_iter().flatten().map(|entry| entry.expect("readable").path());
        let texts = paths.filter(|path| path.extension().is_some_and(|e| e == "wgsl")).map(|path| {
            let text = std::fs::read_to_string(path).expect("readable");
            let mut inside = false;
            let lines = text.lines().filter(|line| {
                let begins = line.starts_with("//# stand-in");
                let ends = inside && line.starts_with("//# end");
                inside = (inside || begins) && !ends;
                !inside && !ends
            });
            lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
        });
        texts.collect()
    }

    #[test]
    fn every_word_is_used_by_a_shader_and_declared_by_none() {
        let text = shaders();
        let names: std::collections::HashSet<&str> = identifiers(&text).collect();
        for (name, _) in all() {
            assert!(names.contains(name), "no shader uses {name}");
            assert!(!text.contains(&format!("const {name} ")), "a shader declares {name} itself");
        }
    }

    #[test]
    fn a_text_declares_the_words_that_it_uses() {
        let text = "let x = TVERSKY; // not REPORT_WORDS_2";
        assert_eq!(declared(text), "const TVERSKY = 3u;\n");
    }
}
