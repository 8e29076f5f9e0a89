//! The tensors of a head on the host, in f32 for a device and in f64 for the reference.

/// The tensors of a head on the host.
#[derive(Clone, Copy, Debug)]
pub struct HeadData<'a, F = f64> {
    /// `[N, C, *spatial]`. A device gets them in the head's type, rounded to nearest.
    pub logits: &'a [F],
    /// The target.
    pub target: TargetData<'a, F>,
    /// `[N, *spatial]`, where the head has a mask.
    pub mask: Option<&'a [u8]>,
    /// `[N, *spatial]`, where the head has a weight map.
    pub weight_map: Option<&'a [F]>,
    /// `[N]`, where the head has a sample mask.
    pub sample_mask: Option<&'a [u8]>,
}

/// The target of a head on the host.
#[derive(Clone, Copy, Debug)]
pub enum TargetData<'a, F = f64> {
    /// `[N, *spatial]`; signed, as an `i32` tensor reads. A device gets each in the head's label type.
    Labels(&'a [i64]),
    /// `[N, C, *spatial]`.
    Probabilities(&'a [F]),
}

impl<'a, F> HeadData<'a, F> {
    /// Logits and labels, without masks.
    #[must_use]
    pub fn labels(logits: &'a [F], labels: &'a [i64]) -> Self {
        Self { logits, target: TargetData::Labels(labels), mask: None, weight_map: None, sample_mask: None }
    }

    /// Logits and probabilities, without masks.
    #[must_use]
    pub fn probabilities(logits: &'a [F], probabilities: &'a [F]) -> Self {
        let target = TargetData::Probabilities(probabilities);
        Self { logits, target, mask: None, weight_map: None, sample_mask: None }
    }
}
