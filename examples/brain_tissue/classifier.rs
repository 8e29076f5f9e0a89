//! Softmax regression: logits are a linear function of a voxel's features, with the same weights at every resolution.

use crate::volume::Volume;
use crate::{BATCH, HEADS};

/// Knots of the piecewise linear features: of the image's intensity, and of its mean over 3 × 3 × 3 voxels.
const KNOTS: usize = 12;
const INTENSITIES: usize = 4;
const COORDINATES: usize = 9;
pub const FEATURES: usize = 1 + INTENSITIES + 2 * KNOTS + COORDINATES;

const LEARNING_RATE: f32 = 0.08;
/// Adam's decay of the mean and of the mean square.
const DECAY: [f32; 2] = [0.9, 0.99];

/// Which classifier each head belongs to: the first three share one.
const CLASSIFIER: [usize; HEADS.len()] = [0, 0, 0, 1];

/// Features of every slice at every scale: `[slice][scale]` is `[FEATURES, voxels]`.
pub struct Features {
    slices: Vec<[Vec<f32>; 3]>,
}

const SCALES: [usize; 3] = [1, 2, 4];

impl Features {
    /// Standardised by mean and deviation of the training slices.
    pub fn new(volume: &Volume, training: &[usize]) -> Self {
        let near = box_mean(volume, 1);
        let far = box_mean(volume, 3);
        let mut full: Vec<Vec<f32>> =
            (0..volume.slices()).map(|slice| slice_features(volume, &near, &far, slice)).collect();
        standardise(&mut full, training);
        let pooled = |full: Vec<f32>| {
            let [half, quarter] = [2, 4].map(|scale| pool(volume, &full, scale));
            [full, half, quarter]
        };
        Self { slices: full.into_iter().map(pooled).collect() }
    }

    pub fn of(&self, slice: usize, scale: usize) -> &[f32] {
        let at = SCALES.iter().position(|&s| s == scale).expect("one of the scales");
        &self.slices[slice][at]
    }
}

#[expect(clippy::cast_precision_loss, reason = "coordinates are small")]
fn slice_features(volume: &Volume, near: &[f32], far: &[f32], slice: usize) -> Vec<f32> {
    let [width, height, depth] = volume.shape;
    let voxels = width * height;
    let mut features = vec![0.0; FEATURES * voxels];
    for v in 0..voxels {
        let at = slice * voxels + v;
        let (t, mean, wide) = (volume.t1[at] / 255.0, near[at] / 255.0, far[at] / 255.0);
        let centred = |i: usize, n: usize| 2.0 * i as f32 / n as f32 - 1.0;
        let (x, y, z) = (centred(v % width, width).abs(), centred(v / width, height), centred(slice, depth));
        let bends = |of: f32| (0..KNOTS).map(move |k| (of - k as f32 / KNOTS as f32).max(0.0));
        let all = [1.0, t, mean, wide, (t - mean).abs()].into_iter().chain(bends(t)).chain(bends(mean)).chain([
            x,
            y,
            z,
            x * x,
            y * y,
            z * z,
            x * y,
            y * z,
            t * (x * x + y * y + z * z),
        ]);
        for (f, value) in all.enumerate() {
            features[f * voxels + v] = value;
        }
    }
    features
}

/// The mean over a cube of 2·radius + 1 voxels per side, cut at the border.
#[expect(clippy::cast_precision_loss, reason = "a window is small")]
fn box_mean(volume: &Volume, radius: usize) -> Vec<f32> {
    let mut values = volume.t1.clone();
    let mut stride = 1;
    for length in volume.shape {
        let previous = values.clone();
        for (at, value) in values.iter_mut().enumerate() {
            let i = at / stride % length;
            let (first, last) = (i.saturating_sub(radius), (i + radius).min(length - 1));
            let line = at - i * stride;
            *value = (first..=last).map(|j| previous[line + j * stride]).sum::<f32>() / (last - first + 1) as f32;
        }
        stride *= length;
    }
    values
}

/// Gives every feature but the constant mean 0 and deviation 1.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn standardise(slices: &mut [Vec<f32>], training: &[usize]) {
    let voxels = slices[0].len() / FEATURES;
    let count = (training.len() * voxels) as f32;
    for f in 1..FEATURES {
        let of = |slice: &Vec<f32>| slice[f * voxels..(f + 1) * voxels].to_vec();
        let mean = training.iter().map(|&s| of(&slices[s]).iter().sum::<f32>()).sum::<f32>() / count;
        let square = |slice: &usize| of(&slices[*slice]).iter().map(|x| (x - mean).powi(2)).sum::<f32>();
        let deviation = (training.iter().map(square).sum::<f32>() / count).sqrt().max(1e-6);
        for slice in slices.iter_mut() {
            slice[f * voxels..(f + 1) * voxels].iter_mut().for_each(|x| *x = (*x - mean) / deviation);
        }
    }
}

/// Down-samples by the mean of scale × scale pixels.
#[expect(clippy::cast_precision_loss, reason = "a scale is small")]
fn pool(volume: &Volume, full: &[f32], scale: usize) -> Vec<f32> {
    let [rows, columns] = volume.slice_shape(scale);
    let [height, width] = volume.slice_shape(1);
    let mut pooled = Vec::with_capacity(FEATURES * rows * columns);
    for feature in full.chunks_exact(height * width) {
        for row in 0..rows {
            for column in 0..columns {
                let block = (0..scale * scale).map(|i| (row * scale + i / scale) * width + column * scale + i % scale);
                pooled.push(block.map(|at| feature[at]).sum::<f32>() / (scale * scale) as f32);
            }
        }
    }
    pooled
}

/// Weights `[classes, FEATURES]`, and Adam's state.
pub struct Classifier {
    classes: usize,
    weights: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
    steps: i32,
}

impl Classifier {
    pub fn new(classes: usize) -> Self {
        let zeros = vec![0.0; classes * FEATURES];
        Self { classes, weights: zeros.clone(), mean: zeros.clone(), square: zeros, steps: 0 }
    }

    /// `[classes, voxels]` from `[FEATURES, voxels]`.
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let voxels = features.len() / FEATURES;
        let mut logits = vec![0.0; self.classes * voxels];
        for (row, weights) in logits.chunks_exact_mut(voxels).zip(self.weights.chunks_exact(FEATURES)) {
            for (feature, weight) in features.chunks_exact(voxels).zip(weights) {
                row.iter_mut().zip(feature).for_each(|(z, x)| *z += weight * x);
            }
        }
        logits
    }

    fn adam(&mut self, gradient: &[f32]) {
        self.steps += 1;
        let [correct_mean, correct_square] = DECAY.map(|decay| 1.0 - decay.powi(self.steps));
        for (i, g) in gradient.iter().enumerate() {
            self.mean[i] = DECAY[0] * self.mean[i] + (1.0 - DECAY[0]) * g;
            self.square[i] = DECAY[1] * self.square[i] + (1.0 - DECAY[1]) * g * g;
            let root = (self.square[i] / correct_square).sqrt() + 1e-8;
            self.weights[i] -= LEARNING_RATE * self.mean[i] / correct_mean / root;
        }
    }
}

/// The logits of every head, `[slices, classes, voxels]`.
pub fn forward(classifiers: &[Classifier; 2], features: &Features, slices: &[usize]) -> Vec<Vec<f32>> {
    let of_head = |head: usize| {
        let classifier = &classifiers[CLASSIFIER[head]];
        on_all_cores(slices, |&slice| classifier.logits(features.of(slice, HEADS[head].1))).concat()
    };
    (0..HEADS.len()).map(of_head).collect()
}

/// One step of Adam, from the gradient of every head's logits.
pub fn backward(classifiers: &mut [Classifier; 2], features: &Features, slices: &[usize], gradients: &[Vec<f32>]) {
    let mut sums = [0, 1].map(|i: usize| vec![0.0; classifiers[i].weights.len()]);
    for (head, gradient) in gradients.iter().enumerate() {
        let (_, scale, classes) = HEADS[head];
        let items: Vec<_> = slices.iter().zip(gradient.chunks_exact(gradient.len() / BATCH)).collect();
        let of_items = on_all_cores(&items, |(slice, gradient)| {
            let features = features.of(**slice, scale);
            let voxels = features.len() / FEATURES;
            let of_weight = |i: usize| {
                let dz = &gradient[i / FEATURES * voxels..][..voxels];
                let x = &features[i % FEATURES * voxels..][..voxels];
                dot(dz, x)
            };
            (0..classes * FEATURES).map(of_weight).collect::<Vec<f32>>()
        });
        for of_item in of_items {
            sums[CLASSIFIER[head]].iter_mut().zip(of_item).for_each(|(sum, g)| *sum += g);
        }
    }
    classifiers.iter_mut().zip(&sums).for_each(|(classifier, sum)| classifier.adam(sum));
}

/// A dot product as eight partial sums, so that the compiler can use vector instructions.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 8];
    for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += a * b);
    }
    let whole = a.len() / 8 * 8;
    sums.iter().sum::<f32>() + a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum::<f32>()
}

/// The most probable class of every voxel, `[slices, voxels]`.
pub fn predict(logits: &[f32], classes: usize, voxels: usize) -> Vec<u8> {
    let of_voxel = |item: &[f32], v: usize| {
        let class = (0..classes).max_by(|&a, &b| item[a * voxels + v].total_cmp(&item[b * voxels + v]));
        u8::try_from(class.expect("at least one class")).expect("few classes")
    };
    logits.chunks_exact(classes * voxels).flat_map(|item| (0..voxels).map(move |v| of_voxel(item, v))).collect()
}

/// Maps items in order, on as many threads as there are cores.
fn on_all_cores<T: Sync, R: Send>(items: &[T], map: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let chunks = items.chunks(items.len().div_ceil(threads));
        let workers: Vec<_> = chunks.map(|chunk| scope.spawn(|| chunk.iter().map(&map).collect::<Vec<R>>())).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    })
}
