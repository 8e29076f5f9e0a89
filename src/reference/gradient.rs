//! dtotal/dz of every logit; see shaders/gradient.wgsl.

use super::data::HeadData;
use super::finish::Finished;
use super::terms::{activate, activation_slope, pixel, product};
use super::voxels::{Voxel, element, gather, voxel};
use crate::spec::Head;

/// As the logits lie; exactly 0 where a voxel does not count.
pub(super) fn gradient(head: &Head, data: &HeadData<'_>, finished: &Finished, upstream: f64) -> Vec<f64> {
    let (items, classes, voxels) = (head.items(), head.classes(), head.voxels());
    let overlap = head.loss.overlap.as_ref();
    let squared = overlap.is_some_and(|o| o.squared);
    let mut dz = vec![0.0; data.logits.len()];
    if !finished.overlap_is_on && !finished.pixel_is_on {
        return dz;
    }
    let (mut z, mut t) = (Vec::new(), Vec::new());
    for item in 0..items {
        for v in 0..voxels {
            let Voxel::Counts(m) = voxel(head, data, item, v, &mut t) else { continue };
            if m == 0.0 {
                continue;
            }
            gather(head, data.logits, item, v, &mut z);
            let p = activate(head.loss.activation, &z);
            // ∂total/∂p of the overlap term
            let g: Vec<f64> = (0..classes)
                .map(|c| {
                    let by_p = finished.by_p[item][c] * if squared { 2.0 * p[c] } else { 1.0 };
                    finished.by_i[item][c] * product(overlap, p[c], t[c]).1 + by_p
                })
                .collect();
            let overlap_slope = activation_slope(head.loss.activation, &p, &g);
            let (_, pixel_slope) = pixel(head, &z, &t);
            let kappa = finished.kappa[item] * finished.shares[item * voxels + v];
            for c in 0..classes {
                // a term that is switched off adds nothing, whatever it is
                let of_overlap = if finished.overlap_is_on { overlap_slope[c] } else { 0.0 };
                let of_pixel = if finished.pixel_is_on { kappa * pixel_slope[c] } else { 0.0 };
                dz[element(head, item, c, v)] = upstream * m * (of_overlap + of_pixel);
            }
        }
    }
    dz
}
