//! Tensors whose elements follow from their indices by one integer hash, so that a device can fill them by itself: a tensor of
//! any size, and no byte of it to be sent.

use super::Tensors;
use crate::error::Tensor;
use crate::spec::{Activation, FloatType, Head, Target};

/// The WGSL that fills a tensor: the twin of [`Tensors::hashed`], bit for bit. Its uniform buffer has the first word of the bound
/// window, the number of words, and a [`fill`].
pub const FILL: &str = include_str!("fill.wgsl");

const LOGITS: u32 = 0;
const LABELS: u32 = 1;
const PROBABILITIES: u32 = 2;
const MASK: u32 = 3;
const WEIGHT_MAP: u32 = 4;
const PLAIN_LOGITS: u32 = 5;

/// What distinguishes the tensors of a seed, and seeds from each other: hashed, so that indices do not overlap visibly.
fn of_tensor(seed: u32, kind: u32) -> u32 {
    hash(seed * 8 + kind)
}

/// The hash of a number, as `fill.wgsl` and the page's `bytes.mjs` have it.
#[must_use]
pub fn hash(number: u32) -> u32 {
    let mut h = number;
    h ^= h >> 16;
    h = h.wrapping_mul(0x7feb_352d);
    h ^= h >> 15;
    h = h.wrapping_mul(0x846c_a68b);
    h ^ (h >> 16)
}

/// The hash as a part of 1, exact in the type.
#[expect(clippy::cast_precision_loss, reason = "at most 24 bits")]
fn part(h: u32, float: FloatType) -> f32 {
    if float == FloatType::F32 { (h >> 8) as f32 / 16_777_216.0 } else { (h >> 24) as f32 / 256.0 }
}

impl Tensors {
    /// Logits in ±4, or in [0.25, 0.75) where they are probabilities, and a target and weights as [`Tensors::random`] has them; each
    /// element by its index and the seed alone.
    /// Numbers of 16 bits have at most 8 significant ones.
    #[must_use]
    pub fn hashed(head: &Head, seed: u32) -> Self {
        let (voxels, classes) = (head.items() * head.voxels(), head.classes());
        let hashes = |kind: u32, elements: usize| {
            let seed = of_tensor(seed, kind);
            (0..elements).map(move |index| {
                #[expect(clippy::cast_possible_truncation, reason = "the shader's indices have 32 bits")]
                let index = index as u32;
                hash(index.wrapping_add(seed))
            })
        };
        let bytes = |wanted: bool, kind, elements| {
            hashes(kind, if wanted { elements } else { 0 }).map(|h| u8::from(h & 3 != 0)).collect()
        };
        let kind = logits_kind(head);
        let logit = |h: u32| match kind {
            // one bit less, so that the sum is exact
            PLAIN_LOGITS => part(h & 0xfeff_feff, head.logits) * 0.5 + 0.25,
            _ => part(h, head.logits) * 8.0 - 4.0,
        };
        let logits = hashes(kind, voxels * classes).map(logit).collect();
        let mut tensors = Self { logits, ..Self::default() };
        match head.target {
            Target::Labels(_) => {
                let label = |h: u32| match head.ignore_index {
                    Some(ignored) if h.is_multiple_of(4) => ignored,
                    _ => i64::from((h >> 2) % label_count(head)),
                };
                tensors.labels = hashes(LABELS, head.target_elements()).map(label).collect();
            }
            Target::Probabilities(float) => {
                let probability = |h: u32| match h & 7 {
                    0 => 0.0,
                    1 => 1.0,
                    _ => part(h, float),
                };
                tensors.probabilities = hashes(PROBABILITIES, head.target_elements()).map(probability).collect();
            }
        }
        tensors.mask = bytes(head.mask, MASK, voxels);
        let weights = if head.weight_map { voxels } else { 0 };
        tensors.weight_map = hashes(WEIGHT_MAP, weights).map(|h| part(h, FloatType::F32) * 2.0).collect();
        // a mask of few items: not all may be left out
        tensors.sample_mask =
            (0..if head.sample_mask { head.items() } else { 0 }).map(|i| u8::from(i % 3 != 1)).collect();
        tensors
    }
}

/// Without activation, logits are probabilities.
fn logits_kind(head: &Head) -> u32 {
    if head.loss.activation == Activation::None { PLAIN_LOGITS } else { LOGITS }
}

/// One channel has two labels: background and class.
fn label_count(head: &Head) -> u32 {
    u32::try_from(head.classes().max(2)).unwrap_or(u32::MAX)
}

/// What [`FILL`] has to know of a tensor of [`Tensors::hashed`]; `None` for a tensor that it does not fill.
#[must_use]
pub fn fill(head: &Head, tensor: Tensor, seed: u32) -> Option<[u32; 10]> {
    let voxels = head.items() * head.voxels();
    let floats = |float| match float {
        FloatType::F32 => (32, 0),
        FloatType::F16 => (16, 1),
        FloatType::Bf16 => (16, 2),
    };
    let (kind, (bits, float_type), elements) = match (tensor, head.target) {
        (Tensor::Logits, _) => (logits_kind(head), floats(head.logits), voxels * head.classes()),
        (Tensor::Target, Target::Labels(label_type)) => (LABELS, (label_type.bits(), 0), head.target_elements()),
        (Tensor::Target, Target::Probabilities(float)) => (PROBABILITIES, floats(float), head.target_elements()),
        (Tensor::Mask, _) => (MASK, (8, 0), voxels),
        (Tensor::WeightMap, _) => (WEIGHT_MAP, floats(FloatType::F32), voxels),
        _ => return None,
    };
    let ignored = head.ignore_index.unwrap_or(0).to_le_bytes();
    let [low, high] = [0, 4].map(|i| u32::from_le_bytes([ignored[i], ignored[i + 1], ignored[i + 2], ignored[i + 3]]));
    let has_ignored = u32::from(head.ignore_index.is_some());
    let elements = u32::try_from(elements).ok()?;
    let seed = of_tensor(seed, kind);
    Some([kind, bits, float_type, elements, seed, label_count(head), has_ignored, low, high, 0])
}
