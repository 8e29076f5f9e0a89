//! The head of a case, and the head of the specification that it describes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::numbers::{CaseTensor, Number};
use crate::spec::{Activation, Empty, FloatType, Head, LabelType, Loss, Overlap, Pixel, Target};

/// A head of a case. Settings that only some cases have stay JSON until [`to_head`](CaseHead::to_head) reads them, so
/// that a setting which this crate lacks makes its case unsupported and not the file unreadable.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseHead {
    /// `[N, C, *spatial]`.
    pub shape: Vec<usize>,
    /// Row-major.
    pub logits: Vec<Number>,
    /// The type of logits and gradient; f32 if absent.
    #[serde(default)]
    dtype: Option<FloatType>,
    /// The targets.
    pub targets: Vec<CaseTarget>,
    terms: Vec<Map<String, Value>>,
    /// Voxels that count.
    pub mask: Option<CaseTensor<u8>>,
    /// The weight of each voxel.
    pub weight_map: Option<CaseTensor<f32>>,
    /// Items that count.
    pub sample_mask: Option<CaseTensor<u8>>,
    class_mask: Option<Value>,
    components: Option<Value>,
    metrics: Option<Metrics>,
    weight: f32,
}

/// What the metrics of a head are of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metrics {
    target: usize,
    activation: Value,
    #[serde(default, rename = "num_bins")]
    _num_bins: Option<u32>,
    #[serde(default, rename = "right")]
    _right: Option<bool>,
}

/// A target of a head.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseTarget {
    kind: String,
    /// The type of probabilities; f32 if absent. Labels take the smallest type that holds them.
    #[serde(default)]
    dtype: Option<FloatType>,
    /// `[N, *spatial]` of labels, the logits' shape of probabilities.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<Number>,
    ignore_index: Option<i64>,
    resample: Option<String>,
    label_map: Option<BTreeMap<u32, Option<u32>>>,
    regions: Option<BTreeMap<u32, Option<Vec<u32>>>>,
}

/// Whether a term is one of the overlap, by its name; `linear` and Wasserstein's are, too.
fn is_overlap(kind: &str) -> bool {
    ["dice", "jaccard", "tversky", "generalized_dice", "mcc", "linear", "generalized_wasserstein_dice"].contains(&kind)
}

/// Reads a setting, or adds what this crate lacks for it to `lacks`.
fn setting<T: DeserializeOwned>(name: &str, value: &Value, lacks: &mut Vec<String>) -> Option<T> {
    T::deserialize(value).map_err(|error| lacks.push(format!("{name}: {error}"))).ok()
}

impl CaseHead {
    /// For each term, whether it is the overlap term.
    pub(super) fn are_overlaps(&self) -> Vec<bool> {
        self.terms.iter().map(|term| is_overlap(term.get("kind").and_then(Value::as_str).unwrap_or_default())).collect()
    }

    /// What the head asks of the whole of it, and this crate lacks.
    fn lacking(&self) -> Vec<String> {
        let of_overlap = self.are_overlaps().iter().filter(|&&is_overlap| is_overlap).count();
        let of_target = |lacks: fn(&CaseTarget) -> bool| self.targets.iter().any(lacks);
        let unknown = self
            .targets
            .iter()
            .map(|target| &target.kind)
            .find(|kind| !["labels", "probabilities"].contains(&kind.as_str()));
        let lacks = [
            ("several targets", self.targets.len() > 1),
            ("several overlap terms", of_overlap > 1),
            ("several pixel terms", self.terms.len() - of_overlap > 1),
            ("class_mask", self.class_mask.is_some()),
            ("components", self.components.is_some()),
            ("resample", of_target(|target| target.resample.as_ref().is_some_and(|by| by != "nearest-exact"))),
            (
                "ignore_index of probabilities",
                of_target(|target| target.kind != "labels" && target.ignore_index.is_some()),
            ),
        ];
        let lacks = lacks.iter().filter(|(_, lacks)| *lacks).map(|(what, _)| (*what).to_owned());
        lacks.chain(unknown.map(|kind| format!("target {kind}"))).collect()
    }

    /// The head of the specification.
    ///
    /// # Errors
    /// Everything that the head needs and this crate lacks, one phrase each.
    pub fn to_head(&self) -> Result<Head, Vec<String>> {
        let mut lacks = self.lacking();
        let Some(target) = self.targets.first() else { return Err(vec!["a head without a target".to_owned()]) };
        let (mut overlap, mut pixel): (Option<Overlap>, Option<Pixel>) = (None, None);
        // the head's one activation: every term that has one, and the metrics, agree in it
        let mut activations: Vec<Value> = Vec::new();
        activations.extend(self.metrics.as_ref().map(|metrics| metrics.activation.clone()));
        if self.metrics.as_ref().is_some_and(|metrics| metrics.target != 0) {
            lacks.push("metrics of another target".to_owned());
        }
        for term in &self.terms {
            let mut term: Map<String, Value> =
                term.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
            term.remove("target");
            activations.extend(term.remove("activation"));
            let kind = term.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
            with_defaults(&kind, &mut term);
            if is_overlap(&kind) {
                overlap = setting("overlap", &Value::Object(term), &mut lacks);
            } else {
                pixel = setting("pixel", &Value::Object(term), &mut lacks);
            }
        }
        activations.dedup();
        if activations.len() > 1 {
            lacks.push("terms and metrics of several activations".to_owned());
        }
        let activation = activations.first().cloned().unwrap_or_else(|| json!("softmax"));
        let activation: Option<Activation> = setting("activation", &activation, &mut lacks);
        let of_labels = match target.kind.as_str() {
            "labels" => Target::Labels(self.label_type(target)),
            _ => Target::Probabilities(target.dtype.unwrap_or(FloatType::F32)),
        };
        let (Some(activation), true) = (activation, lacks.is_empty()) else { return Err(lacks) };
        // the published implementations' mean over no voxel is NaN
        let pixel = pixel.map(|pixel| pixel.empty(Empty::Nan));
        Ok(Head {
            logits: self.dtype.unwrap_or(FloatType::F32),
            target: of_labels,
            resample: target.resample.as_ref().map(|_| target.shape[1..].to_vec()),
            mask: self.mask.is_some(),
            weight_map: self.weight_map.is_some(),
            sample_mask: self.sample_mask.is_some(),
            ignore_index: target.ignore_index,
            label_map: target.label_map.clone(),
            regions: target.regions.clone(),
            ..Head::new(self.shape.clone(), Loss { activation, overlap, pixel }).weight(self.weight)
        })
    }

    /// The labels of the first target as integers.
    #[must_use]
    pub fn labels(&self) -> Vec<i64> {
        self.targets.first().map(CaseTarget::labels).unwrap_or_default()
    }

    /// The smallest type that holds the classes, the labels and the ignore label.
    fn label_type(&self, target: &CaseTarget) -> LabelType {
        let largest = self.shape.get(1).and_then(|&classes| i64::try_from(classes).ok()).unwrap_or(0) - 1;
        let mapped = target.label_map.iter().flat_map(BTreeMap::keys);
        let tabled = mapped.chain(target.regions.iter().flat_map(BTreeMap::keys)).map(|&label| label.into());
        let given = target.labels().into_iter().chain(target.ignore_index);
        let labels: Vec<i64> = given.chain(tabled).chain([largest]).collect();
        let holds = |label_type: &LabelType| labels.iter().all(|label| label_type.range().contains(label));
        let small = [LabelType::U8, LabelType::I8, LabelType::U16, LabelType::I16];
        small.into_iter().find(holds).unwrap_or(LabelType::I32)
    }
}

impl CaseTarget {
    #[expect(clippy::cast_possible_truncation, reason = "labels are small integers")]
    fn labels(&self) -> Vec<i64> {
        self.values.iter().map(|value| value.0 as i64).collect()
    }
}

/// Fills in the defaults of the schema where they are not those of the specification's text.
fn with_defaults(kind: &str, term: &mut Map<String, Value>) {
    let default = |term: &mut Map<String, Value>, name: &str, value: Value| {
        term.entry(name).or_insert(value);
    };
    if is_overlap(kind) {
        default(term, "smooth_nr", json!(0.0));
        default(term, "smooth_dr", json!(0.0));
        // published classes have an eps, whether anything sees it or not
        if term.get("form") != Some(&json!("log")) && !term.contains_key("gamma") && !term.contains_key("power_of_mean")
        {
            term.remove("eps");
        }
    }
    match kind {
        "generalized_dice" => default(term, "class_weighting", json!("uniform")),
        "focal" => default(term, "scalar_alpha", json!("ignored_without_background")),
        _ => {}
    }
}
