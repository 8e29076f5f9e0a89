//! The tensors of one voxel: its logits, its target, and whether it counts.

use super::data::{HeadData, TargetData};
use crate::spec::{Head, MemoryFormat};

/// What a voxel's target and masks say.
pub(super) enum Voxel {
    /// It counts with this weight.
    Counts(f64),
    Ignored,
    OutOfRange,
}

/// Fills `t`, the target of each class, and says whether the voxel counts.
pub(super) fn voxel(head: &Head, data: &HeadData<'_>, item: usize, voxel: usize, t: &mut Vec<f64>) -> Voxel {
    let at = item * head.voxels() + voxel;
    let classes = head.classes();
    t.clear();
    t.resize(classes, 0.0);
    if data.sample_mask.is_some_and(|mask| mask[item] == 0) || data.mask.is_some_and(|mask| mask[at] == 0) {
        return Voxel::Ignored;
    }
    match data.target {
        TargetData::Labels(labels) => {
            let label = labels[item * head.target_voxels() + source(head, voxel)];
            if head.ignore_index == Some(label) {
                return Voxel::Ignored;
            }
            if let Some(regions) = &head.regions {
                return match u32::try_from(label).ok().and_then(|label| regions.get(&label)) {
                    None => Voxel::OutOfRange,
                    Some(None) => Voxel::Ignored,
                    Some(Some(channels)) => {
                        for &channel in channels {
                            t[channel as usize] = 1.0;
                        }
                        Voxel::Counts(data.weight_map.map_or(1.0, |map| map[at]))
                    }
                };
            }
            let label = match &head.label_map {
                None => label,
                Some(table) => match u32::try_from(label).ok().and_then(|label| table.get(&label)) {
                    None => return Voxel::OutOfRange,
                    Some(None) => return Voxel::Ignored,
                    Some(Some(class)) => (*class).into(),
                },
            };
            match usize::try_from(label) {
                // one channel: label 0 is the background, label 1 the class
                Ok(0) if classes == 1 => {}
                Ok(1) if classes == 1 => t[0] = 1.0,
                Ok(class) if classes > 1 && class < classes => t[class] = 1.0,
                _ => return Voxel::OutOfRange,
            }
        }
        TargetData::Probabilities(probabilities) => {
            t.iter_mut().enumerate().for_each(|(c, t)| *t = probabilities[element(head, item, c, voxel)]);
        }
    }
    Voxel::Counts(data.weight_map.map_or(1.0, |map| map[at]))
}

/// The label that a voxel reads: PyTorch's nearest-exact, `floor((i + 0.5) · in/out)` an axis, its scale and its index
/// rounded to f32 as there.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "PyTorch computes the index in f32"
)]
fn source(head: &Head, voxel: usize) -> usize {
    let Some(labels) = &head.resample else { return voxel };
    let (mut rest, mut stride, mut source) = (voxel, 1, 0);
    for (&length, &there) in head.shape[2..].iter().zip(labels).rev() {
        let scale = there as f32 / length as f32;
        let index = ((rest % length) as f64 + 0.5) * f64::from(scale);
        source += stride * ((index as f32).floor() as usize).min(there - 1);
        rest /= length;
        stride *= there;
    }
    source
}

/// The logits of one voxel, class by class.
pub(super) fn gather(head: &Head, logits: &[f64], item: usize, voxel: usize, z: &mut Vec<f64>) {
    z.clear();
    z.extend((0..head.classes()).map(|c| logits[element(head, item, c, voxel)]));
}

/// Where logits, probabilities and gradient have a class of a voxel.
pub(super) fn element(head: &Head, item: usize, class: usize, voxel: usize) -> usize {
    match head.memory_format {
        MemoryFormat::ContiguousFormat => (item * head.classes() + class) * head.voxels() + voxel,
        MemoryFormat::ChannelsLast => (item * head.voxels() + voxel) * head.classes() + class,
    }
}
