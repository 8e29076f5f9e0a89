//! The crate's errors. Each names what was refused, with the numbers.

use std::fmt;

/// A tensor of a head, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tensor {
    /// The network's output, `[N, C, *spatial]`.
    Logits,
    /// Labels, `[N, *spatial]`, or probabilities, `[N, C, *spatial]`.
    Target,
    /// The voxel mask, `[N, *spatial]`.
    Mask,
    /// The voxel weights, `[N, *spatial]`.
    WeightMap,
    /// The sample mask, `[N]`.
    SampleMask,
    /// The pixel loss of each voxel, `[N, *spatial]`.
    VoxelLosses,
    /// The gradient with respect to the logits, in the logits' shape.
    Gradient,
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logits => "logits",
            Self::Target => "target",
            Self::Mask => "mask",
            Self::WeightMap => "weight_map",
            Self::SampleMask => "sample_mask",
            Self::VoxelLosses => "voxel_losses",
            Self::Gradient => "gradient",
        })
    }
}

/// The limit that was exceeded: one of the device, by its name in WebGPU, or one of a number type or a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bound {
    /// `maxStorageBuffersPerShaderStage`.
    StorageBuffers,
    /// Buffers of any kind per shader stage, which Metal counts together. A limit of wgpu's, not of WebGPU's.
    Buffers,
    /// `maxBindingsPerBindGroup`.
    Bindings,
    /// `maxStorageBufferBindingSize`, or `maxBufferSize` where that is less.
    StorageBinding,
    /// `maxUniformBufferBindingSize`.
    UniformBinding,
    /// `maxComputeWorkgroupsPerDimension`, in two dimensions.
    Workgroups,
    /// `maxComputeInvocationsPerWorkgroup`, or `maxComputeWorkgroupSizeX` where that is less.
    Invocations,
    /// `maxComputeWorkgroupStorageSize`.
    WorkgroupMemory,
    /// Elements that a 32-bit index can address.
    Index,
    /// The largest 32-bit count.
    Count,
    /// Integers that an f32 holds exactly.
    ExactFloat,
    /// Iterations after which Mesa's software driver ends the loops of a shader, with a margin.
    LoopIterations,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StorageBuffers => "storage buffers (maxStorageBuffersPerShaderStage)",
            Self::Buffers => "buffers (those of a shader stage)",
            Self::Bindings => "bindings (maxBindingsPerBindGroup)",
            Self::StorageBinding => "bytes (maxStorageBufferBindingSize)",
            Self::UniformBinding => "bytes (maxUniformBufferBindingSize)",
            Self::Workgroups => "workgroups (maxComputeWorkgroupsPerDimension, squared)",
            Self::Invocations => "invocations (maxComputeInvocationsPerWorkgroup)",
            Self::WorkgroupMemory => "bytes (maxComputeWorkgroupStorageSize)",
            Self::Index => "elements (a 32-bit index)",
            Self::Count => "voxels (a 32-bit count)",
            Self::ExactFloat => "numbers (integers that an f32 holds)",
            Self::LoopIterations => "loop iterations (those of Mesa's software driver)",
        })
    }
}

/// Why a call was refused, or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A loss without heads.
    #[error("the loss has no head: expected at least one")]
    NoHeads,

    /// A setting of a head is wrong.
    #[error("head {head}: {setting}: expected {expected}, got {given}")]
    Spec {
        /// Which head, from 0.
        head: usize,
        /// The setting, by its name in the specification.
        setting: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        given: String,
    },

    /// The device, or a number type, holds less than is needed.
    #[error("{}{what}: expected at most {available} {bound}, got {needed}", in_head(*.head))]
    Limit {
        /// Which head, from 0; `None` where all heads need it together.
        head: Option<usize>,
        /// What exceeds the limit.
        what: String,
        /// The limit.
        bound: Bound,
        /// What is needed, in the limit's unit.
        needed: u64,
        /// The limit's value.
        available: u64,
    },

    /// A number of a [`Variant`](crate::Variant) of the kernels is wrong.
    #[error("variant: {setting}: expected {expected}, got {given}")]
    Variant {
        /// The number's name.
        setting: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        given: String,
    },

    /// The default variant computes a wrong result on this adapter, so nothing was measured.
    #[error("the default variant is wrong on this adapter: {difference}: nothing is measured")]
    WrongResult {
        /// What differs, and by how much.
        difference: String,
    },

    /// The device was asked a question with a known answer, and was wrong. See [`Answers`](crate::Answers).
    #[error("the device answers wrong: {question}")]
    WrongAnswer {
        /// What it was asked.
        question: &'static str,
    },

    /// A file of remembered variants cannot be read or written. It is left unchanged.
    #[error("{path}: {problem}")]
    TuningFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },

    /// The number of bound tensors is not the number of heads.
    #[error("the plan has {expected} heads, and tensors were given for {given}")]
    WrongHeadCount {
        /// Heads of the plan.
        expected: usize,
        /// Heads that were bound.
        given: usize,
    },

    /// A bound tensor is wrong.
    #[error("head {head}: {tensor}: expected {expected}, got {given}")]
    Binding {
        /// Which head, from 0.
        head: usize,
        /// Which of its tensors.
        tensor: Tensor,
        /// What it may be.
        expected: String,
        /// What it was.
        given: String,
    },

    /// The buffer range of the upstream gradient or of the weights is wrong.
    #[error("{numbers}: expected {expected}, got {given}")]
    Scalars {
        /// Which: the upstream gradient, or the weights.
        numbers: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        given: String,
    },

    /// A tensor that is written overlaps another one.
    #[error(
        "head {head}: {tensor}: expected bytes of its own, got {first}..{end} of a buffer, which overlap the {other} of head {other_head}"
    )]
    Overlapping {
        /// The head whose tensor it is, from 0.
        head: usize,
        /// The tensor that would be written.
        tensor: Tensor,
        /// Its first byte.
        first: u64,
        /// The byte past its end.
        end: u64,
        /// The head of the other tensor.
        other_head: usize,
        /// The other tensor.
        other: Tensor,
    },

    /// No adapter matches the choice.
    #[error("no adapter fits {wanted}; this machine has {found}")]
    NoAdapter {
        /// What was asked for.
        wanted: String,
        /// The adapters there are.
        found: String,
    },

    /// The device is lost, or destroyed.
    #[error("{during}: the device is lost")]
    DeviceLost {
        /// What was being done.
        during: &'static str,
    },

    /// The device is out of memory.
    #[error("{during}: out of memory: {message}")]
    OutOfMemory {
        /// What was being done.
        during: &'static str,
        /// wgpu's words.
        message: String,
    },

    /// wgpu refused a call that this crate made.
    #[error("{during}: {message}")]
    Device {
        /// What was being done.
        during: &'static str,
        /// wgpu's words.
        message: String,
    },

    /// All staging buffers hold reports that were neither read nor dropped.
    #[error("all {ring} staging buffers hold reports that were not read yet: read or drop one first")]
    ReportsUnread {
        /// Staging buffers of the plan.
        ring: usize,
    },

    /// The plan was not made for a batch over several machines.
    #[error("the plan has no global sums to read or write: expected one made with PlanOptions::distributed")]
    NotDistributed,

    /// Global sums have another length than those of the plan.
    #[error("global sums: {list}: expected {expected} numbers, got {given}")]
    GlobalSums {
        /// The list, by its name in [`GlobalSums`](crate::GlobalSums).
        list: &'static str,
        /// Its length in this plan.
        expected: usize,
        /// The length given.
        given: usize,
    },

    /// All staging buffers hold global sums that were neither read nor dropped.
    #[error("all {ring} staging buffers hold global sums that were not read yet: read or drop them first")]
    GlobalSumsUnread {
        /// Staging buffers of the plan.
        ring: usize,
    },

    /// Global sums will never arrive.
    #[error("the global sums were lost: {message}")]
    GlobalSumsLost {
        /// What happened.
        message: String,
    },

    /// A report will never arrive.
    #[error("the report was lost: {message}")]
    ReportLost {
        /// What happened.
        message: String,
    },
}

fn in_head(head: Option<usize>) -> String {
    head.map_or_else(String::new, |head| format!("head {head}: "))
}
