//! Random tensors of a head.

use std::collections::BTreeMap;

use crate::host;
use crate::reference::{HeadData, TargetData};
use crate::spec::{FloatType, Head, Target};

/// The tensors of a head on the host; those that the head lacks are empty.
#[derive(Clone, Debug, Default)]
pub struct Tensors<F = f32> {
    /// `[N, C, *spatial]`; rounded to the head's type.
    pub logits: Vec<F>,
    /// `[N, *spatial]`, where the target is labels.
    pub labels: Vec<i64>,
    /// `[N, C, *spatial]`, where the target is probabilities.
    pub probabilities: Vec<F>,
    /// `[N, *spatial]`.
    pub mask: Vec<u8>,
    /// `[N, *spatial]`.
    pub weight_map: Vec<F>,
    /// `[N]`.
    pub sample_mask: Vec<u8>,
}

impl Tensors {
    /// Random logits in ± `spread`, and a random target: labels, among them the ignore label where the head has one; or
    /// probabilities, of which one in three is 0 or 1.
    #[must_use]
    pub fn random(head: &Head, spread: f32, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let (items, classes, voxels) = (head.items(), head.classes(), head.items() * head.voxels());
        let logits: Vec<f32> = (0..voxels * classes).map(|_| spread * (random.f32() * 2.0 - 1.0)).collect();
        let mut tensors = Self { logits: rounded(&logits, head.logits), ..Self::default() };
        match head.target {
            Target::Labels(_) => {
                let mapped = head.label_map.iter().flat_map(BTreeMap::keys);
                let tabled: Vec<u32> = mapped.chain(head.regions.iter().flat_map(BTreeMap::keys)).copied().collect();
                let mut label = || match head.ignore_index {
                    Some(ignored) if random.u8(0..4) == 0 => ignored,
                    _ if !tabled.is_empty() => tabled[random.usize(0..tabled.len())].into(),
                    // one channel has two labels: background and class
                    _ => i64::try_from(random.usize(0..classes.max(2))).unwrap_or(0),
                };
                tensors.labels = (0..head.target_elements()).map(|_| label()).collect();
            }
            Target::Probabilities(float) => {
                let mut probability = || match random.u8(0..6) {
                    0 => 0.0,
                    1 => 1.0,
                    _ => random.f32(),
                };
                let probabilities: Vec<f32> = (0..head.target_elements()).map(|_| probability()).collect();
                tensors.probabilities = rounded(&probabilities, float);
            }
        }
        let size = |wanted: bool, size: usize| if wanted { size } else { 0 };
        tensors.mask = (0..size(head.mask, voxels)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
        tensors.weight_map = (0..size(head.weight_map, voxels)).map(|_| random.f32() * 2.0).collect();
        tensors.sample_mask = (0..size(head.sample_mask, items)).map(|_| u8::from(random.u8(0..4) > 0)).collect();
        tensors
    }

    /// The same numbers in f64, for the reference.
    #[must_use]
    pub fn wide(&self) -> Tensors<f64> {
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect();
        Tensors {
            logits: wide(&self.logits),
            labels: self.labels.clone(),
            probabilities: wide(&self.probabilities),
            mask: self.mask.clone(),
            weight_map: wide(&self.weight_map),
            sample_mask: self.sample_mask.clone(),
        }
    }
}

impl<F> Tensors<F> {
    /// As a step and the reference take them.
    #[must_use]
    pub fn data(&self) -> HeadData<'_, F> {
        HeadData {
            logits: &self.logits,
            target: some(&self.probabilities).map_or(TargetData::Labels(&self.labels), TargetData::Probabilities),
            mask: some(&self.mask),
            weight_map: some(&self.weight_map),
            sample_mask: some(&self.sample_mask),
        }
    }
}

/// The numbers rounded to a type.
fn rounded(values: &[f32], float: FloatType) -> Vec<f32> {
    let mut held = host::floats_of_bytes(&host::float_bytes(values, float), float);
    held.truncate(values.len());
    held
}

fn some<T>(values: &[T]) -> Option<&[T]> {
    (!values.is_empty()).then_some(values)
}
