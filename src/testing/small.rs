//! A small copy of a specification, because the reference is slow.

use crate::spec::{Head, LossSpec};

/// The specification with its axes shortened until it has at most `most` logits or nothing can be shortened. Whether
/// the number of voxels is a multiple of 4 does not change, because the kernels' loads depend on it.
#[must_use]
pub fn small_copy(spec: &LossSpec, most: usize) -> LossSpec {
    let logits = |head: &Head| head.items() * head.classes() * head.voxels();
    let mut small = spec.clone();
    while small.heads.iter().map(logits).sum::<usize>() > most {
        let largest = small.heads.iter_mut().filter(|head| shorter(head).is_some()).max_by_key(|head| logits(head));
        let Some(largest) = largest else { break };
        if let Some((axis, length)) = shorter(largest) {
            largest.shape[axis] = length;
        }
    }
    small
}

/// The axis that can be shortened most, and its new length.
fn shorter(head: &Head) -> Option<(usize, usize)> {
    let aligned = head.voxels().is_multiple_of(4);
    let half = |(axis, &length): (usize, &usize)| {
        let half = length.div_ceil(2);
        let half = match axis {
            0 => half,
            _ if aligned => half.next_multiple_of(4),
            _ => half | 1,
        };
        (axis, half, length.saturating_sub(half))
    };
    let axes = head.shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(half);
    let best = axes.max_by_key(|(_, _, less)| *less)?;
    (best.2 > 0).then_some((best.0, best.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Loss;

    #[test]
    fn a_small_copy_has_the_same_classes_and_rows_that_are_loaded_alike() {
        for shape in
            [vec![2, 4, 128, 128, 128], vec![3, 14, 95, 97, 99], vec![1, 300, 7], vec![4096, 5], vec![1, 2, 1 << 20]]
        {
            let spec = LossSpec::new().head(Head::new(shape.clone(), Loss::monai_dice_ce()));
            let small = small_copy(&spec, 1 << 14);
            let head = &small.heads[0];
            assert!(head.shape.iter().product::<usize>() <= 1 << 14, "{:?}", head.shape);
            assert_eq!(head.classes(), shape[1]);
            assert_eq!(head.voxels().is_multiple_of(4), spec.heads[0].voxels().is_multiple_of(4), "{:?}", head.shape);
        }
    }
}
