//! The constants of the heads, which begin the coefficients: numbers of classes, label tables, tables of resampled axes.

use super::words;
use crate::spec::{Alpha, ClassValues, Head, Overlap, Pixel, PixelKind, ScalarAlpha};

/// The two numbers of each class that the pixel term takes, on and off: see terms.wgsl. Empty where all are 1.
pub(super) fn class_parameters(pixel: &Pixel, classes: usize, softmax: bool) -> Vec<f32> {
    let first = pixel.first_class(classes);
    let weight = |c: usize| match &pixel.class_weights {
        Some(weights) if c >= first => weights[c - first],
        _ => 1.0,
    };
    let of_class = |c: usize| match &pixel.kind {
        PixelKind::CrossEntropy | PixelKind::PolyCrossEntropy { .. } | PixelKind::GeneralizedCrossEntropy { .. } => {
            [weight(c), 1.0]
        }
        PixelKind::BinaryCrossEntropy { pos_weight } => [pos_weight.as_ref().map_or(1.0, |w| w[c]), 1.0],
        PixelKind::Focal { alpha, scalar_alpha, .. } => {
            let ignored = *scalar_alpha == ScalarAlpha::IgnoredWithoutBackground && softmax && first > 0;
            let [on, off] = match alpha {
                Alpha::Scalar(_) if ignored => [1.0, 1.0],
                Alpha::Scalar(alpha) if softmax && c == first => [1.0 - alpha, 1.0],
                Alpha::Scalar(alpha) if softmax => [*alpha, 1.0],
                Alpha::Scalar(alpha) => [*alpha, 1.0 - alpha],
                Alpha::PerClass(alpha) if c >= first => [alpha[c - first], 1.0],
                Alpha::None | Alpha::PerClass(_) => [1.0, 1.0],
            };
            [on * weight(c), off * weight(c)]
        }
    };
    let parameters: Vec<f32> = (0..classes).flat_map(of_class).collect();
    if parameters.iter().all(|&parameter| parameter.to_bits() == 1.0_f32.to_bits()) { Vec::new() } else { parameters }
}

/// γ of each class, where it differs.
pub(super) fn exponents(pixel: &Pixel, classes: usize) -> Vec<f32> {
    let first = pixel.first_class(classes);
    match &pixel.kind {
        PixelKind::Focal { gamma: gamma @ ClassValues::Each(_), .. } => {
            (0..classes).map(|c| if c < first { 0.0 } else { gamma.at(c - first) }).collect()
        }
        _ => Vec::new(),
    }
}

/// Weight, exponent and place of each class of an overlap term. Empty where all that take part follow from the first.
#[expect(clippy::cast_precision_loss, reason = "at most 2^24 classes")]
pub(super) fn class_numbers(overlap: &Overlap, classes: usize) -> Vec<f32> {
    let weights = overlap.weights_that_count(classes);
    let exponents = overlap.gamma.as_ref().filter(|gamma| matches!(gamma, ClassValues::Each(_)));
    if weights.is_none() && exponents.is_none() && overlap.classes.is_none() {
        return Vec::new();
    }
    let gamma = |place: usize| overlap.gamma.as_ref().map_or(1.0, |gamma| gamma.at(place));
    let mut numbers = [1.0, 1.0, -1.0].repeat(classes);
    for (place, class) in overlap.taking_part(classes).into_iter().enumerate() {
        let of_class = [weights.map_or(1.0, |weights| weights[place]), gamma(place), place as f32];
        numbers[words::CLASS_NUMBERS as usize * class..][..of_class.len()].copy_from_slice(&of_class);
    }
    numbers
}

/// The table of labels up to the largest, and its words per label: the class of `label_map`, or the bits of the channels of
/// `regions` behind a word that says whether the label counts.
#[expect(clippy::cast_precision_loss, reason = "classes below 2^24, and sixteen bits")]
pub(super) fn label_table(head: &Head) -> (Vec<f32>, u32) {
    let entries = |largest: Option<&u32>| largest.map_or(0, |&largest| largest as usize + 1);
    if let Some(table) = &head.label_map {
        let mut words = vec![words::UNKNOWN_LABEL; entries(table.keys().max())];
        for (&label, class) in table {
            words[label as usize] = class.map_or(words::IGNORED_LABEL, |class| class as f32);
        }
        return (words, 1);
    }
    let Some(table) = &head.regions else { return (Vec::new(), 1) };
    let per_word = words::CHANNELS_PER_WORD as usize;
    let per_label = 1 + head.classes().div_ceil(per_word);
    let mut words = vec![0.0; per_label * entries(table.keys().max())];
    words.iter_mut().step_by(per_label).for_each(|counts| *counts = words::UNKNOWN_LABEL);
    for (&label, channels) in table {
        let of_label = &mut words[label as usize * per_label..][..per_label];
        of_label[0] = if channels.is_some() { 0.0 } else { words::IGNORED_LABEL };
        let mut bits = vec![0_u16; per_label - 1];
        for &channel in channels.iter().flatten() {
            bits[channel as usize / per_word] |= 1 << (channel as usize % per_word);
        }
        of_label[1..].iter_mut().zip(bits).for_each(|(word, bits)| *word = bits.into());
    }
    (words, u32::try_from(per_label).unwrap_or(u32::MAX))
}

/// Where labels of another spatial shape are read: three numbers per axis, last axis first (its length in the logits, its
/// stride in the labels, where its table begins), then the tables. `first` is the place of all this among the parameters.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "PyTorch computes the index in f32")]
pub(super) fn axis_parameters(spatial: &[usize], labels: &[usize], first: usize) -> Vec<f32> {
    let axes = spatial.len();
    let (mut heads, mut tables) = (Vec::new(), Vec::new());
    let mut stride = 1_usize;
    for (&length, &source) in spatial.iter().zip(labels).rev() {
        heads.extend([length as f32, stride as f32, (first + words::AXIS_WORDS as usize * axes + tables.len()) as f32]);
        let scale = source as f32 / length as f32;
        let pick = |i: usize| ((i as f64 + 0.5) * f64::from(scale)) as f32;
        tables.extend((0..length).map(|i| pick(i).floor().min((source - 1) as f32)));
        stride *= source;
    }
    heads.extend(tables);
    heads
}
