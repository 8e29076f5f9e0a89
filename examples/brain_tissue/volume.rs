//! The MNI152 volume: T1 image, and tissue labels from the tissue probabilities.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nifti::{InMemNiftiObject, NiftiObject as _, NiftiVolume as _, ReaderOptions};

pub const TISSUES: [&str; 4] = ["background", "CSF and other", "grey matter", "white matter"];

/// A probability of one half, where 255 is 1.
const HALF: f32 = 127.5;
/// T1 intensities above this are inside the head; outside they are 0.
const INSIDE: f32 = 20.0;

pub struct Volume {
    /// Voxels along x, y, z; x is contiguous.
    pub shape: [usize; 3],
    pub t1: Vec<f32>,
    tissue: Vec<u8>,
}

impl Volume {
    pub fn read(folder: &Path) -> Result<Self> {
        let (shape, t1) = read(&folder.join("t1_2mm.nii.gz"))?;
        let (grey_shape, grey) = read(&folder.join("gm_2mm.nii.gz"))?;
        let (white_shape, white) = read(&folder.join("wm_2mm.nii.gz"))?;
        ensure!(shape == grey_shape && shape == white_shape, "the volumes differ in shape");
        let tissue = t1.iter().zip(&grey).zip(&white).map(|((&t1, &grey), &white)| match () {
            () if white > HALF => 3,
            () if grey > HALF => 2,
            () if t1 > INSIDE => 1,
            () => 0,
        });
        Ok(Self { shape, tissue: tissue.collect(), t1 })
    }

    /// Axial slices.
    pub fn slices(&self) -> usize {
        self.shape[2]
    }

    /// Rows and columns of a slice, divided by `scale`.
    pub fn slice_shape(&self, scale: usize) -> [usize; 2] {
        [self.shape[1] / scale, self.shape[0] / scale]
    }

    /// The labels of a slice, at the centre of each of its pixels; with two classes, brain against background.
    pub fn labels(&self, slice: usize, scale: usize, classes: usize) -> Vec<u8> {
        let [rows, columns] = self.slice_shape(scale);
        let at = |row: usize, column: usize| {
            let (y, x) = (row * scale + scale / 2, column * scale + scale / 2);
            let tissue = self.tissue[(slice * self.shape[1] + y) * self.shape[0] + x];
            if classes == 2 { tissue.min(1) } else { tissue }
        };
        (0..rows).flat_map(|row| (0..columns).map(move |column| at(row, column))).collect()
    }
}

fn read(path: &Path) -> Result<([usize; 3], Vec<f32>)> {
    let volume = ReaderOptions::new()
        .read_file(path)
        .map(InMemNiftiObject::into_volume)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let shape: Vec<usize> = volume.dim().iter().map(|&length| length.into()).collect();
    let shape = shape.try_into().map_err(|shape| anyhow::anyhow!("expected three axes, got {shape:?}"))?;
    let values: Vec<u8> = volume.into_nifti_typed_data()?;
    Ok((shape, values.into_iter().map(f32::from).collect()))
}
