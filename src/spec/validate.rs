//! Every way in which a setting can be wrong.

use super::{Activation, Alpha, HardCounts, Head, Overlap, OverlapKind, Pixel, PixelKind, Product, Reduction, Target};
use crate::error::Error;

/// Longer axes could not be looked up in f32 numbers.
const LONGEST_AXIS: usize = 1 << 24;
/// The kernels compare classes as f32 numbers.
const MOST_CLASSES: usize = 1 << 24;

pub(super) fn head(index: usize, head: &Head) -> Result<(), Error> {
    let check = Check { head: index };
    let shape = || format!("{:?}", head.shape);
    if head.shape.len() < 2 {
        return check.refuse("shape", "at least two axes, [N, C, *spatial]", shape());
    }
    if head.classes() == 0 {
        return check.refuse("shape", "at least one class", shape());
    }
    if head.classes() > MOST_CLASSES {
        return check.refuse("shape", &format!("at most {MOST_CLASSES} classes"), shape());
    }
    if head.shape.contains(&0) {
        return check.refuse("shape", "no axis of length 0", shape());
    }
    if head.shape.iter().try_fold(1_usize, |size, &axis| size.checked_mul(axis)).is_none() {
        return check.refuse("shape", "a size that fits in memory", shape());
    }
    if let Target::Labels(labels) = head.target {
        let (name, range) = (labels.name(), labels.range());
        let largest = i64::try_from(head.classes() - 1).unwrap_or(i64::MAX);
        if !range.contains(&largest) {
            return check.refuse("target", &format!("a label type that names {} classes", head.classes()), name);
        }
        if let Some(label) = head.ignore_index.filter(|label| !range.contains(label)) {
            let expected = format!("a label of {name}, {} to {}", range.start(), range.end());
            return check.refuse("ignore_index", &expected, label);
        }
    }
    if let Some(spatial) = &head.resample {
        let given = format!("{spatial:?}");
        let axes = head.shape.len() - 2;
        if spatial.len() != axes || spatial.contains(&0) {
            return check.refuse("resample", &format!("{axes} axes of at least one voxel, as the logits"), given);
        }
        if spatial.iter().any(|&length| length > LONGEST_AXIS) {
            return check.refuse("resample", &format!("axes of at most {LONGEST_AXIS} voxels"), given);
        }
        if matches!(head.target, Target::Probabilities(_)) {
            return check.refuse("resample", "none, since the target is probabilities", given);
        }
    }
    if matches!(head.target, Target::Probabilities(_))
        && let Some(label) = head.ignore_index
    {
        return check.refuse("ignore_index", "none, since the target is probabilities", label);
    }
    check.not_negative("weight", head.weight)?;
    if head.loss.overlap.is_none() && head.loss.pixel.is_none() {
        return check.refuse("loss", "an overlap term, a pixel term, or both", "neither");
    }
    check.softmax_of_one(head)?;
    if let Some(overlap) = &head.loss.overlap {
        check.overlap(overlap, head.classes())?;
    }
    if let Some(pixel) = &head.loss.pixel {
        check.pixel(pixel, head)?;
    }
    Ok(())
}

struct Check {
    head: usize,
}

impl Check {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and literals")]
    fn refuse<T>(&self, setting: &'static str, expected: &str, given: impl ToString) -> Result<T, Error> {
        Err(Error::Spec { head: self.head, setting, expected: expected.to_owned(), given: given.to_string() })
    }

    fn not_negative(&self, setting: &'static str, value: f32) -> Result<(), Error> {
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        self.refuse(setting, "a finite number, not negative", value)
    }

    fn class_weights(&self, setting: &'static str, weights: &[f32], expected: usize) -> Result<(), Error> {
        if weights.len() != expected {
            let given = format!("{} weights", weights.len());
            return self.refuse(setting, &format!("{expected} weights, one per class that takes part"), given);
        }
        weights.iter().try_for_each(|&weight| self.not_negative(setting, weight))
    }

    /// A softmax over one class is 1 whatever the logits are: a loss of it is constant, and trains nothing.
    fn softmax_of_one(&self, head: &Head) -> Result<(), Error> {
        let (classes, softmax) = (head.classes(), head.loss.activation == Activation::Softmax);
        let pixel = head.loss.pixel.as_ref();
        let taking_part = pixel.map_or(classes, |pixel| classes - pixel.first_class(classes));
        match pixel.map(|pixel| &pixel.kind) {
            Some(PixelKind::CrossEntropy | PixelKind::TopKCrossEntropy { .. }) if classes == 1 => {
                let expected =
                    "binary_cross_entropy or a sigmoid focal for one class, of which the softmax is always 1";
                return self.refuse("pixel.kind", expected, "a softmax cross-entropy");
            }
            Some(PixelKind::Focal { .. }) if softmax && classes > 1 && taking_part == 1 => {
                let expected = "true for two classes, since the softmax of the one that is left is always 1; \
                                alpha = [0, 1] leaves class 0 out after the softmax";
                return self.refuse("pixel.include_background", expected, "false");
            }
            _ => {}
        }
        let focal = matches!(pixel, Some(Pixel { kind: PixelKind::Focal { .. }, .. }));
        let used = head.loss.overlap.is_some() || focal || head.hard_counts != HardCounts::None;
        if softmax && classes == 1 && used {
            return self.refuse(
                "activation",
                "sigmoid or none for one class, of which the softmax is always 1",
                "softmax",
            );
        }
        Ok(())
    }

    fn overlap(&self, overlap: &Overlap, classes: usize) -> Result<(), Error> {
        if overlap.reduction == Reduction::SumOfItemMeans {
            return self.refuse("overlap.reduction", "mean or sum: the others are of pixel terms", "sum_of_item_means");
        }
        self.not_negative("overlap.weight", overlap.weight)?;
        self.not_negative("overlap.smooth_nr", overlap.smooth_nr)?;
        self.not_negative("overlap.smooth_dr", overlap.smooth_dr)?;
        if let Some(floor) = overlap.denominator_floor {
            self.not_negative("overlap.denominator_floor", floor)?;
        }
        match overlap.kind {
            OverlapKind::Dice | OverlapKind::Jaccard => {}
            OverlapKind::Tversky { alpha, beta } => {
                self.not_negative("overlap.alpha", alpha)?;
                self.not_negative("overlap.beta", beta)?;
            }
            OverlapKind::GeneralizedDice { .. } => {
                if overlap.class_weights.is_some() {
                    return self.refuse("overlap.class_weights", "none, since no class axis is left", "weights");
                }
                if overlap.present_classes_only {
                    return self.refuse("overlap.present_classes_only", "false, since no class axis is left", "true");
                }
            }
        }
        if overlap.squared && !matches!(overlap.kind, OverlapKind::Dice | OverlapKind::Jaccard) {
            return self.refuse("overlap.squared", "false, except for dice and jaccard", "true");
        }
        if overlap.squared && overlap.product == Product::Minimum {
            return self.refuse("overlap.squared", "false, with the minimum as product", "true");
        }
        let taking_part = classes - overlap.first_class(classes);
        let weights = overlap.weights_that_count(classes);
        weights.iter().try_for_each(|w| self.class_weights("overlap.class_weights", w, taking_part))
    }

    fn pixel(&self, pixel: &Pixel, head: &Head) -> Result<(), Error> {
        let classes = head.classes();
        self.not_negative("pixel.weight", pixel.weight)?;
        if !(0.0..=1.0).contains(&pixel.label_smoothing) {
            return self.refuse("pixel.label_smoothing", "a number in [0, 1]", pixel.label_smoothing);
        }
        let of_voxels = matches!(pixel.kind, PixelKind::CrossEntropy | PixelKind::TopKCrossEntropy { .. });
        if pixel.mean_over_voxels && of_voxels {
            let expected = "false, except for binary_cross_entropy and focal";
            return self.refuse("pixel.mean_over_voxels", expected, "true");
        }
        let taking_part = classes - pixel.first_class(classes);
        match &pixel.kind {
            PixelKind::CrossEntropy => {}
            PixelKind::TopKCrossEntropy { k_percent } => {
                let given = || format!("{k_percent} of {} voxels", head.items() * head.voxels());
                if !(*k_percent > 0.0 && *k_percent <= 100.0) {
                    return self.refuse("pixel.k_percent", "a number in (0, 100]", k_percent);
                }
                if pixel.reduction == Reduction::SumOfItemMeans {
                    return self.refuse(
                        "pixel.reduction",
                        "mean or sum, for a top-k of the batch",
                        "sum_of_item_means",
                    );
                }
                if pixel.top_k(head.items() * head.voxels()) == Some(0) {
                    return self.refuse("pixel.k_percent", "enough for one voxel", given());
                }
            }
            PixelKind::BinaryCrossEntropy { pos_weight } => {
                pos_weight.iter().try_for_each(|w| self.class_weights("pixel.pos_weight", w, classes))?;
                if pixel.class_weights.is_some() {
                    return self.refuse("pixel.class_weights", "none: binary_cross_entropy has pos_weight", "weights");
                }
            }
            PixelKind::Focal { gamma, alpha, .. } => {
                self.not_negative("pixel.gamma", *gamma)?;
                if pixel.label_smoothing > 0.0 {
                    return self.refuse("pixel.label_smoothing", "0, for focal", pixel.label_smoothing);
                }
                if head.loss.activation == Activation::None {
                    return self.refuse("activation", "softmax or sigmoid, for focal", "none");
                }
                match alpha {
                    Alpha::None => {}
                    Alpha::Scalar(alpha) if (0.0..=1.0).contains(alpha) => {}
                    Alpha::Scalar(alpha) => return self.refuse("pixel.alpha", "a number in [0, 1]", alpha),
                    Alpha::PerClass(alpha) => self.class_weights("pixel.alpha", alpha, taking_part)?,
                }
            }
        }
        pixel.class_weights.iter().try_for_each(|w| self.class_weights("pixel.class_weights", w, taking_part))
    }
}
