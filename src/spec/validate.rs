//! Every way in which a setting of a head can be wrong; those of a term are checked beside it.

use super::check::Check;
use super::head::{HardCounts, Head};
use super::pixel::{Pixel, PixelKind};
use super::types::{Activation, Target};
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
    label_tables(&check, head)?;
    if let Target::Labels(labels) = head.target {
        let (name, range) = (labels.name(), labels.range());
        let largest = i64::try_from(head.classes() - 1).unwrap_or(i64::MAX);
        if head.label_map.is_none() && head.regions.is_none() && !range.contains(&largest) {
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
    softmax_of_one(&check, head)?;
    if let Some(overlap) = &head.loss.overlap {
        overlap.check(&check, head.classes())?;
    }
    if let Some(pixel) = &head.loss.pixel {
        pixel.check(&check, head.loss.activation, head.classes(), head.items() * head.voxels())?;
    }
    Ok(())
}

/// Tables lie among the constants of the kernels, an entry per label up to the largest.
const LARGEST_LABEL: u32 = u16::MAX as u32;

fn label_tables(check: &Check, head: &Head) -> Result<(), Error> {
    if head.label_map.is_some() && head.regions.is_some() {
        return check.refuse("label_map", "none beside regions", "a table");
    }
    let classes = head.classes();
    if let Some(table) = &head.label_map {
        // of one channel there are two
        let most = classes.max(2);
        let wrong = table.iter().find(|(_, class)| class.is_some_and(|class| class as usize >= most));
        if let Some((label, Some(class))) = wrong {
            let expected = format!("a class below {most} of each label");
            return check.refuse("label_map", &expected, format!("{class} of label {label}"));
        }
        label_table(check, head, "label_map", table.keys())?;
    }
    if let Some(table) = &head.regions {
        let outside = |channels: &Vec<u32>| channels.iter().find(|&&channel| channel as usize >= classes).copied();
        let wrong = table.iter().find_map(|(label, channels)| Some((label, channels.as_ref().and_then(outside)?)));
        if let Some((label, channel)) = wrong {
            let expected = format!("channels below {classes} of each label");
            return check.refuse("regions", &expected, format!("{channel} of label {label}"));
        }
        label_table(check, head, "regions", table.keys())?;
    }
    Ok(())
}

fn label_table<'a>(
    check: &Check,
    head: &Head,
    setting: &'static str,
    labels: impl Iterator<Item = &'a u32>,
) -> Result<(), Error> {
    let Target::Labels(label_type) = head.target else {
        return check.refuse(setting, "none, since the target is probabilities", "a table");
    };
    let Some(&largest) = labels.max() else {
        return check.refuse(setting, "at least one label", "an empty table");
    };
    if largest > LARGEST_LABEL {
        return check.refuse(setting, &format!("labels up to {LARGEST_LABEL}"), largest);
    }
    if !label_type.range().contains(&largest.into()) {
        return check.refuse(setting, &format!("labels that {} holds", label_type.name()), largest);
    }
    Ok(())
}

/// A softmax over one class is 1 whatever the logits are: a loss of it is constant, and trains nothing.
fn softmax_of_one(check: &Check, head: &Head) -> Result<(), Error> {
    let (classes, softmax) = (head.classes(), head.loss.activation == Activation::Softmax);
    let pixel = head.loss.pixel.as_ref();
    let taking_part = pixel.map_or(classes, |pixel| classes - pixel.first_class(classes));
    match pixel.map(|pixel| &pixel.kind) {
        Some(kind) if kind.is_cross_entropy() && classes == 1 => {
            let expected = "binary_cross_entropy or a sigmoid focal for one class, of which the softmax is always 1";
            return check.refuse("pixel.kind", expected, "a softmax cross-entropy");
        }
        Some(PixelKind::Focal { .. }) if softmax && classes > 1 && taking_part == 1 => {
            let expected = "true for two classes, since the softmax of the one that is left is always 1; \
                            alpha = [0, 1] leaves class 0 out after the softmax";
            return check.refuse("pixel.include_background", expected, "false");
        }
        _ => {}
    }
    let focal = matches!(pixel, Some(Pixel { kind: PixelKind::Focal { .. }, .. }));
    let used = head.loss.overlap.is_some() || focal || head.hard_counts != HardCounts::None;
    if softmax && classes == 1 && used {
        return check.refuse(
            "activation",
            "sigmoid or none for one class, of which the softmax is always 1",
            "softmax",
        );
    }
    Ok(())
}
