//! Axial slices of the volume, for burn's data loader.

use burn::data::dataloader::batcher::Batcher;
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::volume::{TISSUES, Volume};

/// Pixels of a slice: the volume's, cut so that they halve four times.
pub const ROWS: usize = 112;
pub const COLUMNS: usize = 96;

/// One slice in two: image and labels, row-major.
#[derive(Clone, Debug)]
pub struct Slice {
    pub image: Vec<f32>,
    pub labels: Vec<i32>,
}

/// `[N, 1, ROWS, COLUMNS]` and `[N, ROWS, COLUMNS]`.
#[derive(Clone, Debug)]
pub struct Batch {
    pub images: Tensor<4>,
    pub labels: Tensor<3, Int>,
}

/// Every fifth slice is held out; the others train.
pub fn slices(volume: &Volume) -> (Vec<Slice>, Vec<Slice>) {
    let (training, held_out): (Vec<usize>, Vec<usize>) = (0..volume.slices()).partition(|slice| slice % 5 != 2);
    let read = |slices: Vec<usize>| slices.into_iter().map(|slice| read(volume, slice)).collect();
    (read(training), read(held_out))
}

fn read(volume: &Volume, slice: usize) -> Slice {
    let [rows, columns] = volume.slice_shape(1);
    let (top, left) = ((rows - ROWS) / 2, (columns - COLUMNS) / 2);
    let inside = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (top + row) * columns + left + column));
    let labels = volume.labels(slice, 1, TISSUES.len());
    Slice {
        // T1 intensities are 0 to 255
        image: inside.clone().map(|at| volume.t1[slice * rows * columns + at] / 128.0 - 1.0).collect(),
        labels: inside.map(|at| i32::from(labels[at])).collect(),
    }
}

#[derive(Clone)]
pub struct Slices;

impl Batcher<Slice, Batch> for Slices {
    fn batch(&self, slices: Vec<Slice>, device: &Device) -> Batch {
        let items = slices.len();
        let images: Vec<f32> = slices.iter().flat_map(|slice| slice.image.iter().copied()).collect();
        let labels: Vec<i32> = slices.iter().flat_map(|slice| slice.labels.iter().copied()).collect();
        Batch {
            images: Tensor::from_data(TensorData::new(images, [items, 1, ROWS, COLUMNS]), device),
            labels: Tensor::from_data(TensorData::new(labels, [items, ROWS, COLUMNS]), device),
        }
    }
}
