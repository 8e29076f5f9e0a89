//! One of every kind. The matches are exhaustive, so that a new kind has to be added here and is tested.

use std::iter::successors;

use crate::spec::{Alpha, ClassWeighting, OverlapKind, PixelKind, Reduction, ScalarAlpha};

/// Every overlap kind; generalized Dice with each of its weightings.
pub fn overlap_kinds() -> impl Iterator<Item = OverlapKind> {
    let generalized = |class_weighting| Some(OverlapKind::GeneralizedDice { class_weighting });
    successors(Some(OverlapKind::Dice), move |kind| match kind {
        OverlapKind::Dice => Some(OverlapKind::Jaccard),
        OverlapKind::Jaccard => Some(OverlapKind::Tversky { alpha: 0.25, beta: 0.75 }),
        OverlapKind::Tversky { .. } => generalized(ClassWeighting::Square),
        OverlapKind::GeneralizedDice { class_weighting } => match class_weighting {
            ClassWeighting::Square => generalized(ClassWeighting::Simple),
            ClassWeighting::Simple => generalized(ClassWeighting::Uniform),
            ClassWeighting::Uniform => None,
        },
    })
}

/// Every pixel kind: a top-k of one half, a focal term of γ = 2.
pub fn pixel_kinds() -> impl Iterator<Item = PixelKind> {
    successors(Some(PixelKind::CrossEntropy), |kind| match kind {
        PixelKind::CrossEntropy => Some(PixelKind::TopKCrossEntropy { k_percent: 50.0 }),
        PixelKind::TopKCrossEntropy { .. } => Some(PixelKind::BinaryCrossEntropy { pos_weight: None }),
        PixelKind::BinaryCrossEntropy { .. } => Some(PixelKind::Focal {
            gamma: 2.0,
            alpha: Alpha::None,
            scalar_alpha: ScalarAlpha::FirstClass,
            include_background: true,
        }),
        PixelKind::Focal { .. } => None,
    })
}

/// Every reduction.
pub fn reductions() -> impl Iterator<Item = Reduction> {
    successors(Some(Reduction::Mean), |reduction| match reduction {
        Reduction::Mean => Some(Reduction::Sum),
        Reduction::Sum => Some(Reduction::SumOfItemMeans),
        Reduction::SumOfItemMeans => None,
    })
}
