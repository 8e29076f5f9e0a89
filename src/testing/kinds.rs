//! One of every kind. The matches are exhaustive, so that a new kind has to be added here and is tested.

use std::iter::successors;

use crate::spec::{
    Alpha, ClassWeighting, Head, LabelType, Loss, LossSpec, Overlap, OverlapKind, Pixel, PixelKind, Reduction,
};

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
            ClassWeighting::Uniform => Some(OverlapKind::Mcc { smooth_counts: 0.0 }),
        },
        OverlapKind::Mcc { smooth_counts } if *smooth_counts == 0.0 => Some(OverlapKind::Mcc { smooth_counts: 0.5 }),
        OverlapKind::Mcc { .. } => None,
    })
}

/// Every pixel kind, a focal term of γ = 2, and a top-k of one half.
pub fn pixel_kinds() -> impl Iterator<Item = Pixel> {
    let kinds = successors(Some(Pixel::cross_entropy()), |pixel| match pixel.kind {
        PixelKind::CrossEntropy => Some(Pixel::poly_cross_entropy(2.0)),
        PixelKind::PolyCrossEntropy { .. } => Some(Pixel::generalized_cross_entropy(0.5)),
        PixelKind::GeneralizedCrossEntropy { .. } => Some(Pixel::binary_cross_entropy()),
        PixelKind::BinaryCrossEntropy { .. } => Some(Pixel::focal(2.0, Alpha::None)),
        PixelKind::Focal { .. } => None,
    });
    kinds.chain([Pixel::top_k_cross_entropy(50.0)])
}

/// Every reduction.
pub fn reductions() -> impl Iterator<Item = Reduction> {
    successors(Some(Reduction::Mean), |reduction| match reduction {
        Reduction::Mean => Some(Reduction::Sum),
        Reduction::Sum => Some(Reduction::SumOfItemMeans),
        Reduction::SumOfItemMeans => Some(Reduction::WeightedMean),
        Reduction::WeightedMean => None,
    })
}

/// Eight heads: few classes and many, even rows and odd ones, labels of several types.
#[must_use]
pub fn eight_heads() -> LossSpec {
    let types = [LabelType::U8, LabelType::U16, LabelType::I32, LabelType::U32];
    let shapes = [
        vec![2, 4, 8, 8, 8],
        vec![1, 3, 7, 5],
        vec![3, 2, 9],
        vec![2, 14, 4, 4, 4],
        vec![1, 40, 3, 11],
        vec![2, 5, 1],
        vec![1, 2, 16, 16],
        vec![2, 21, 6, 6],
    ];
    let heads = shapes.into_iter().zip(types.into_iter().cycle()).zip(1_u8..);
    let heads = heads.map(|((shape, labels), weight)| {
        let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1));
        Head::new(shape, loss).labels(labels).weight(0.25 * f32::from(weight))
    });
    LossSpec { heads: heads.collect() }
}
