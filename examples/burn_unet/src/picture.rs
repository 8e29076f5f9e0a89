//! A held-out slice: image, labels, prediction, errors, side by side.

use std::path::Path;

use anyhow::{Context as _, Result};
use burn::data::dataloader::batcher::Batcher as _;
use burn::tensor::Device;
use image::{Rgb, RgbImage};

use crate::data::{COLUMNS, Picture, Pictures, ROWS};
use crate::unet::UNet;
use crate::volume::TISSUES;

/// Pixels of the picture per voxel, and pixels between the panels.
const ZOOM: usize = 3;
const GAP: usize = 9;
const COLOURS: [[u8; 3]; TISSUES.len()] = [[16, 16, 20], [64, 132, 214], [226, 112, 82], [244, 222, 160]];
const WRONG: [u8; 3] = [255, 40, 120];

pub fn write(path: &Path, model: &UNet, slice: &Picture, device: &Device) -> Result<()> {
    let batch = Pictures.batch(vec![slice.clone()], device);
    let predicted = model.forward(batch.images).swap_remove(0).argmax(1);
    let predicted: Vec<i32> = predicted.into_data().try_to_vec()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a saturating cast is wanted")]
    let grey: Vec<[u8; 3]> = slice.image.iter().map(|x| [((x + 1.0) * 128.0) as u8; 3]).collect();
    let coloured = |classes: &[i32]| -> Vec<[u8; 3]> {
        classes.iter().map(|&class| usize::try_from(class).map_or(WRONG, |class| COLOURS[class])).collect()
    };
    let error = |at: usize| if predicted[at] == slice.labels[at] { grey[at].map(|x| x / 2) } else { WRONG };
    let errors = (0..ROWS * COLUMNS).map(error).collect();
    let panels = [grey.clone(), coloured(&slice.labels), coloured(&predicted), errors];

    let width = (COLUMNS * ZOOM + GAP) * panels.len() - GAP;
    let mut picture = RgbImage::from_pixel(width.try_into()?, (ROWS * ZOOM).try_into()?, Rgb([255; 3]));
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        let (x, y) = (x as usize, y as usize);
        let (panel, x) = (x / (COLUMNS * ZOOM + GAP), x % (COLUMNS * ZOOM + GAP) / ZOOM);
        if x < COLUMNS {
            // the volume's y axis runs from back to front, and the front is drawn at the top
            *pixel = Rgb(panels[panel][(ROWS - 1 - y / ZOOM) * COLUMNS + x]);
        }
    }
    picture.save(path).with_context(|| format!("cannot write {}", path.display()))
}
