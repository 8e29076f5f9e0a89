//! The document that a page or a Dawn replay reads, `segloss-page/1`: shaders, steps as data, and what they should compute.

use serde::Serialize;
use serde_json::Value;

pub const SCHEMA: &str = "segloss-page/1";

#[derive(Debug, Serialize)]
pub struct Document {
    pub schema: &'static str,
    /// The version and the commit of this crate.
    pub version: String,
    pub commit: String,
    /// Adapters that ran some of the steps natively; a step's `bits` are by their order.
    pub native: Vec<String>,
    /// Each line of WGSL once.
    pub lines: Vec<String>,
    pub shaders: Vec<Shader>,
    /// What fills tensors on the device.
    pub fill: String,
    pub losses: Vec<Loss>,
    pub steps: Vec<Step>,
    pub benches: Vec<Bench>,
    pub floors: Vec<Floor>,
}

/// A WGSL text.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Shader {
    /// Indices of the document's lines, each less the one before it: mostly 1, which packs well.
    pub lines: Vec<i32>,
    pub entry_point: &'static str,
    /// Whether it needs `enable subgroups;`, which WebGPU demands and wgpu 30 refuses.
    pub subgroups: bool,
}

/// A specification on tensors, and what the f64 reference or a published implementation computes.
#[derive(Debug, Serialize)]
pub struct Loss {
    pub name: String,
    pub heads: Vec<Head>,
    pub tolerance: Tolerance,
    /// What goes in.
    pub tensors: Vec<TensorData>,
    pub report: Vec<ExpectedWord>,
    pub outputs: Vec<Output>,
}

#[derive(Debug, Serialize)]
pub struct Head {
    pub shape: Vec<usize>,
    /// The names of its terms.
    pub terms: Vec<&'static str>,
    /// The type of its logits.
    pub dtype: &'static str,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tolerance {
    pub loss: f64,
    pub gradient: f64,
    pub soft_dice: f64,
}

/// A tensor of a head: its bytes, or how to fill it.
#[derive(Debug, Serialize)]
pub struct TensorData {
    pub head: usize,
    pub tensor: String,
    pub bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<[u32; 10]>,
}

/// A word of the report.
#[derive(Debug, Serialize)]
pub struct ExpectedWord {
    pub name: String,
    /// `loss`, `soft_dice` (numbers, each with its tolerance) or `count` (equal).
    pub kind: &'static str,
    /// A number, or `NaN` or `Infinity` as text.
    pub value: Value,
}

/// A tensor that a step writes. Of its elements those are compared whose index is a multiple of `stride`, and with `edges` the
/// first and the last of every row and tile.
#[derive(Debug, Serialize)]
pub struct Output {
    pub head: usize,
    /// `gradient` or `voxel_losses`.
    pub tensor: String,
    pub dtype: &'static str,
    pub elements: usize,
    pub columns: usize,
    pub tile: usize,
    pub edges: bool,
    pub stride: usize,
    /// f32, base64.
    pub samples: String,
    /// Σ and Σ|·| of all elements.
    pub sum: Value,
    pub sum_abs: Value,
    /// What a difference is relative to; 0: to max(1, |expected|).
    pub scale: f64,
    /// The rounding error of the type: relative, and the least absolute one.
    pub rounding: [f64; 2],
}

/// A loss as dispatches.
#[derive(Debug, Serialize)]
pub struct Step {
    pub set: &'static str,
    pub name: String,
    pub loss: usize,
    /// `hardware` or `software`.
    pub variant: &'static str,
    /// Whether only adapters of its variant's kind run it.
    pub own_kind_only: bool,
    pub needs: Needs,
    pub buffers: Vec<Buffer>,
    pub dispatches: Vec<Dispatch>,
    pub report: Report,
    /// In the order of the loss's outputs.
    pub outputs: Vec<Place>,
    /// Buffer, first byte and length of bytes that nothing may write to: all are `GUARD` before the step.
    pub guards: Vec<[usize; 3]>,
    /// Buffer, first byte and length of gradients that are zeros before the step, since it adds to them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zeros: Vec<[usize; 3]>,
    /// Whether a step overwrites what it reads, so that a replay needs the tensors again.
    pub restore: bool,
    /// A hash of report and outputs, per native adapter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bits: Vec<Option<u32>>,
}

/// What an adapter needs beyond WebGPU's default limits.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Needs {
    #[serde(skip_serializing_if = "is_zero")]
    pub storage_buffers: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub subgroups: bool,
    /// The size that every subgroup must have.
    #[serde(skip_serializing_if = "is_zero")]
    pub subgroup_size: u64,
    /// Exact conversion of f16 by built-in functions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub built_in_f16: bool,
    /// Of all its buffers.
    pub bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug, Serialize)]
pub struct Buffer {
    pub size: u64,
    /// What is in it: tensors by head, or the name of a buffer of the plan's.
    pub holds: String,
    /// A tensor's index, and its first byte.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<[usize; 2]>,
    /// Its first bytes, base64; the rest is zeros.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// Whether it is the caller's.
    pub is_tensor: bool,
}

#[derive(Debug, Serialize)]
pub struct Dispatch {
    pub shader: usize,
    pub stage: &'static str,
    /// `u` (uniform), `r` (read) or `w` (`read_write`), the buffer, its first byte, and how many.
    pub bindings: Vec<(char, usize, u64, u64)>,
    pub grid: [u32; 2],
}

/// The words of the report, in the order of the loss's.
#[derive(Debug, Serialize)]
pub struct Report {
    pub buffer: usize,
    pub words: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Place {
    pub buffer: usize,
    pub offset: usize,
}

/// What is timed together: one loss with label smoothing, and without; or several heads, in one dispatch and in one each.
#[derive(Debug, Serialize)]
pub struct Bench {
    pub shape: String,
    pub variant: &'static str,
    pub contenders: Vec<Contender>,
    /// Bytes that a forward must read, and a backward must read and write.
    pub bytes: [u64; 2],
    pub logits: u64,
    pub floors: bool,
}

/// A step of set `bench`, by its index.
#[derive(Debug, Serialize)]
pub struct Contender {
    pub name: &'static str,
    pub step: usize,
}

/// A kernel that only reads, or only copies.
#[derive(Debug, Serialize)]
pub struct Floor {
    pub name: String,
    pub copies: bool,
    pub shader: usize,
    /// Bytes that a workgroup handles.
    pub tile: u64,
}
