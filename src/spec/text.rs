//! A specification as text: JSON, TOML, whatever serde writes. Here is the head; each term has its text beside it.
//!
//! The field names are those of the settings, and of the case files (`tests/cases/SCHEMA.md`); `dtype` is PyTorch's word for
//! an element's type. A setting that is left out has the value that its builder gives it. An unknown one, one that its kind
//! does not take, or one that its kind lacks, is an error that names it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::head::{HardCounts, Head, Loss};
use super::overlap::Overlap;
use super::pixel::Pixel;
use super::types::{Activation, FloatType, LabelType, MemoryFormat, Target};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "as the settings that it writes")]
pub(super) struct HeadFields {
    shape: Vec<usize>,
    #[serde(default = "f32_type")]
    dtype: FloatType,
    #[serde(default)]
    memory_format: MemoryFormat,
    #[serde(default)]
    target: TargetFields,
    #[serde(default)]
    mask: bool,
    #[serde(default)]
    weight_map: bool,
    #[serde(default)]
    sample_mask: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignore_index: Option<i64>,
    #[serde(default = "no_counts")]
    hard_counts: HardCounts,
    #[serde(default)]
    unreduced: bool,
    #[serde(default)]
    check_finite: bool,
    #[serde(default = "softmax")]
    activation: Activation,
    #[serde(default = "one")]
    weight: f32,
    // tables last, as TOML asks
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<Overlap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pixel: Option<Pixel>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetFields {
    kind: TargetKind,
    /// u8 of labels, f32 of probabilities, where it is left out.
    dtype: Option<String>,
    /// The labels' spatial shape, where it is not that of the logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    spatial: Option<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resample: Option<Resample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_map: Option<BTreeMap<String, Option<Entry<u32>>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<BTreeMap<String, Option<Entry<Vec<u32>>>>>,
}

/// What a label table has of a label: a label that counts nowhere is `"ignore"`, or null where a format has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry<T> {
    Counts(T),
    Word(Ignore),
}

#[derive(Serialize, Deserialize)]
enum Ignore {
    #[serde(rename = "ignore")]
    Ignore,
}

/// A table from its text; `name` is its setting.
fn table_of<T>(
    name: &str,
    fields: Option<BTreeMap<String, Option<Entry<T>>>>,
) -> Result<Option<BTreeMap<u32, Option<T>>>, String> {
    let label = |key: String| {
        key.parse::<u32>().map_err(|_| format!("target.{name}: expected labels, integers not below 0, got {key}"))
    };
    let entry = |entry: Option<Entry<T>>| match entry {
        Some(Entry::Counts(value)) => Some(value),
        Some(Entry::Word(Ignore::Ignore)) | None => None,
    };
    fields.map(|table| table.into_iter().map(|(key, value)| Ok((label(key)?, entry(value)))).collect()).transpose()
}

fn text_of<T>(table: Option<BTreeMap<u32, Option<T>>>) -> Option<BTreeMap<String, Option<Entry<T>>>> {
    let entry = |value: Option<T>| Some(value.map_or(Entry::Word(Ignore::Ignore), Entry::Counts));
    table.map(|table| table.into_iter().map(|(label, value)| (label.to_string(), entry(value))).collect())
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TargetKind {
    Labels,
    Probabilities,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Resample {
    #[serde(rename = "nearest-exact")]
    NearestExact,
}

impl Default for TargetFields {
    fn default() -> Self {
        Self { kind: TargetKind::Labels, dtype: None, spatial: None, resample: None, label_map: None, regions: None }
    }
}

fn f32_type() -> FloatType {
    FloatType::F32
}

fn no_counts() -> HardCounts {
    HardCounts::None
}

fn softmax() -> Activation {
    Activation::Softmax
}

fn one() -> f32 {
    1.0
}

const FLOAT_TYPES: [FloatType; 3] = [FloatType::F32, FloatType::F16, FloatType::Bf16];

fn named<T: Copy>(name: &str, types: &[T], name_of: fn(T) -> &'static str) -> Result<T, String> {
    types.iter().copied().find(|known| name_of(*known) == name).ok_or_else(|| {
        let known: Vec<_> = types.iter().copied().map(name_of).collect();
        format!("target.dtype: expected one of {}, got {name}", known.join(", "))
    })
}

impl TryFrom<HeadFields> for Head {
    type Error = String;

    fn try_from(fields: HeadFields) -> Result<Self, String> {
        let TargetFields { kind, dtype, spatial, resample, label_map, regions } = fields.target;
        let target = match kind {
            TargetKind::Labels => {
                Target::Labels(named(dtype.as_deref().unwrap_or("u8"), &LabelType::ALL, LabelType::name)?)
            }
            TargetKind::Probabilities => {
                Target::Probabilities(named(dtype.as_deref().unwrap_or("f32"), &FLOAT_TYPES, FloatType::name)?)
            }
        };
        if spatial.is_some() != resample.is_some() {
            return Err("target: expected spatial and resample together, got one of them".to_owned());
        }
        Ok(Self {
            shape: fields.shape,
            logits: fields.dtype,
            memory_format: fields.memory_format,
            target,
            resample: spatial,
            label_map: table_of("label_map", label_map)?,
            regions: table_of("regions", regions)?,
            mask: fields.mask,
            weight_map: fields.weight_map,
            sample_mask: fields.sample_mask,
            ignore_index: fields.ignore_index,
            hard_counts: fields.hard_counts,
            unreduced: fields.unreduced,
            check_finite: fields.check_finite,
            loss: Loss { activation: fields.activation, overlap: fields.overlap, pixel: fields.pixel },
            weight: fields.weight,
        })
    }
}

impl From<Head> for HeadFields {
    fn from(head: Head) -> Self {
        let (kind, dtype) = match head.target {
            Target::Labels(labels) => (TargetKind::Labels, labels.name()),
            Target::Probabilities(float) => (TargetKind::Probabilities, float.name()),
        };
        let resample = head.resample.is_some().then_some(Resample::NearestExact);
        Self {
            shape: head.shape,
            dtype: head.logits,
            memory_format: head.memory_format,
            target: TargetFields {
                kind,
                dtype: Some(dtype.to_owned()),
                spatial: head.resample,
                resample,
                label_map: text_of(head.label_map),
                regions: text_of(head.regions),
            },
            mask: head.mask,
            weight_map: head.weight_map,
            sample_mask: head.sample_mask,
            ignore_index: head.ignore_index,
            hard_counts: head.hard_counts,
            unreduced: head.unreduced,
            check_finite: head.check_finite,
            activation: head.loss.activation,
            weight: head.weight,
            overlap: head.loss.overlap,
            pixel: head.loss.pixel,
        }
    }
}
