//! Axial slices of the volume, and patches of them, for burn's data loader.

use burn::data::dataloader::batcher::Batcher;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::volume::{TISSUES, Volume};

/// Pixels of a slice along each axis: the volume's, cut so that they can be halved four times.
pub const ROWS: usize = 112;
pub const COLUMNS: usize = 96;
/// Pixels of a patch along each axis.
pub const PATCH: usize = 48;
/// Patches per slice.
const PATCHES: usize = 8;

/// A slice or a patch: image and labels, row-major.
#[derive(Clone, Debug)]
pub struct Picture {
    pub rows: usize,
    pub columns: usize,
    pub image: Vec<f32>,
    pub labels: Vec<i32>,
}

/// `[N, 1, rows, columns]` and `[N, rows, columns]`.
#[derive(Clone, Debug)]
pub struct Batch {
    pub images: Tensor<4>,
    pub labels: Tensor<3, Int>,
}

/// Of every five slices: patches of four for training, and the fifth as held out.
pub fn read(volume: &Volume) -> (Vec<Picture>, Vec<Picture>) {
    let (training, held_out): (Vec<usize>, Vec<usize>) = (0..volume.slices()).partition(|slice| slice % 5 != 2);
    let mut random = fastrand::Rng::with_seed(1);
    let training = training.into_iter().map(|index| slice(volume, index));
    let patches = training.flat_map(|slice| (0..PATCHES).map(|_| patch(&slice, &mut random)).collect::<Vec<_>>());
    (patches.collect(), held_out.into_iter().map(|index| slice(volume, index)).collect())
}

fn slice(volume: &Volume, index: usize) -> Picture {
    let [rows, columns] = volume.slice_shape(1);
    let labels = volume.labels(index, 1, TISSUES.len());
    let of = |at: usize| (volume.t1[index * rows * columns + at], labels[at]);
    let [top, left] = [(rows - ROWS) / 2, (columns - COLUMNS) / 2];
    let pixels = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (top + row) * columns + left + column));
    // T1 intensities are 0 to 255
    let (image, labels) = pixels.map(of).map(|(t1, label)| (t1 / 128.0 - 1.0, i32::from(label))).unzip();
    Picture { rows: ROWS, columns: COLUMNS, image, labels }
}

/// A patch around a random pixel, of the foreground if a few tries find one; mirrored in half of the cases.
fn patch(slice: &Picture, random: &mut fastrand::Rng) -> Picture {
    let corner = |middle: usize, length: usize| middle.saturating_sub(PATCH / 2).min(length - PATCH);
    let mut at = 0;
    for _ in 0..8 {
        at = random.usize(0..slice.labels.len());
        if slice.labels[at] > 0 {
            break;
        }
    }
    let (top, left) = (corner(at / slice.columns, slice.rows), corner(at % slice.columns, slice.columns));
    let mirrored = random.bool();
    let pixel = |i: usize| {
        let column = if mirrored { PATCH - 1 - i % PATCH } else { i % PATCH };
        (top + i / PATCH) * slice.columns + left + column
    };
    let (image, labels) = (0..PATCH * PATCH).map(pixel).map(|pixel| (slice.image[pixel], slice.labels[pixel])).unzip();
    Picture { rows: PATCH, columns: PATCH, image, labels }
}

/// Collects pictures of one size in a batch.
#[derive(Clone)]
pub struct Pictures;

impl Batcher<Picture, Batch> for Pictures {
    fn batch(&self, pictures: Vec<Picture>, device: &Device) -> Batch {
        let (items, rows, columns) = (pictures.len(), pictures[0].rows, pictures[0].columns);
        let images: Vec<f32> = pictures.iter().flat_map(|picture| picture.image.iter().copied()).collect();
        let labels: Vec<i32> = pictures.iter().flat_map(|picture| picture.labels.iter().copied()).collect();
        Batch {
            images: Tensor::from_data(TensorData::new(images, [items, 1, rows, columns]), device),
            labels: Tensor::from_data(TensorData::new(labels, [items, rows, columns]), device),
        }
    }
}
