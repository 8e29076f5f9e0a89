//! A held-out slice: image, labels, prediction, side by side.

use std::path::Path;

use anyhow::{Context as _, Result};
use image::{Rgb, RgbImage};

use crate::classifier::{Classifier, Features, predict};
use crate::volume::{TISSUES, Volume};

/// Pixels of the picture per voxel, and pixels between the panels.
const ZOOM: u32 = 4;
const GAP: u32 = 12;
const COLOURS: [[u8; 3]; TISSUES.len()] = [[16, 16, 20], [64, 132, 214], [226, 112, 82], [244, 222, 160]];

pub fn write(path: &Path, volume: &Volume, features: &Features, classifier: &Classifier, slice: usize) -> Result<()> {
    let [rows, columns] = volume.slice_shape(1);
    let first = slice * rows * columns;
    // T1 intensities are 0 to 255
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a saturating cast is wanted")]
    let grey: Vec<[u8; 3]> = volume.t1[first..first + rows * columns].iter().map(|&t| [t as u8; 3]).collect();
    let colours = |classes: Vec<u8>| classes.into_iter().map(|class| COLOURS[usize::from(class)]).collect();
    let labels: Vec<[u8; 3]> = colours(volume.labels(slice, 1, TISSUES.len()));
    let predicted: Vec<[u8; 3]> =
        colours(predict(&classifier.logits(features.of(slice, 1)), TISSUES.len(), rows * columns));

    let (rows, columns) = (u32::try_from(rows)?, u32::try_from(columns)?);
    let mut picture = RgbImage::from_pixel((columns * ZOOM + GAP) * 3 - GAP, rows * ZOOM, Rgb([255; 3]));
    for (panel, pixels) in (0..).zip([grey, labels, predicted]) {
        let left = panel * (columns * ZOOM + GAP);
        for (x, y) in (0..columns * ZOOM).flat_map(|x| (0..rows * ZOOM).map(move |y| (x, y))) {
            // the volume's y axis runs from back to front, and the front is drawn at the top
            let row = rows - 1 - y / ZOOM;
            picture.put_pixel(left + x, y, Rgb(pixels[(row * columns + x / ZOOM) as usize]));
        }
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    picture.save(path).with_context(|| format!("cannot write {}", path.display()))
}
