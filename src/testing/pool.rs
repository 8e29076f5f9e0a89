//! Tensors of all heads in a few buffers, as an allocator that pools places them.

use std::num::NonZeroU64;
use std::ops::Range;

use super::Tensors;
use crate::error::Tensor;
use crate::gpu::device::buffer_with;
use crate::host::{HostResult, float_bytes, floats_of_bytes, label_bytes};
use crate::layout::tensors::{Gradient, HeadTensors};
use crate::report::Report;
use crate::spec::{FloatType, Head, LossSpec, Target};

/// Fills the bytes between tensors, to detect a write past an end, and what is written before it is.
const GUARD: u8 = 0xa5;

/// Where a tensor goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of its buffer.
    pub buffer: usize,
    /// It begins at the next multiple of this many bytes behind the tensor before it; 1: at the next of its elements.
    pub alignment: usize,
    /// And this many of its elements further.
    pub gap: usize,
}

/// A head's gradient in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PooledGradient {
    /// A tensor of its own, overwritten.
    Overwrite,
    /// A tensor of zeros of its own, added to.
    Accumulate,
    /// Over the logits.
    InPlace,
}

/// The tensors of all heads, and the buffers that hold them.
#[derive(Debug)]
pub struct Pool {
    spec: LossSpec,
    contents: Vec<Vec<u8>>,
    tensors: Vec<Vec<(Tensor, usize, Range<usize>)>>,
    modes: Vec<PooledGradient>,
}

impl Pool {
    /// Lays out the tensors of a step. `place`: of a head's tensor; `mode`: of a head's gradient.
    pub fn new(
        spec: &LossSpec,
        tensors: &[Tensors],
        mode: impl Fn(usize) -> PooledGradient,
        mut place: impl FnMut(usize, Tensor) -> Place,
    ) -> Self {
        let mut contents: Vec<Vec<u8>> = Vec::new();
        let mut all = Vec::new();
        for (index, (head, tensors)) in spec.heads.iter().zip(tensors).enumerate() {
            let mut of_head = Vec::new();
            for (tensor, element, bytes) in bytes_of(head, tensors, mode(index)) {
                let Place { buffer, alignment, gap } = place(index, tensor);
                contents.resize(contents.len().max(buffer + 1), Vec::new());
                let pool = &mut contents[buffer];
                let first = pool.len().next_multiple_of(alignment).next_multiple_of(element) + gap * element;
                pool.resize(first, GUARD);
                pool.extend(&bytes);
                of_head.push((tensor, buffer, first..first + bytes.len()));
            }
            all.push(of_head);
        }
        for pool in &mut contents {
            pool.resize((pool.len() + 64).next_multiple_of(4), GUARD);
        }
        let modes = (0..spec.heads.len()).map(mode).collect();
        Self { spec: spec.clone(), contents, tensors: all, modes }
    }

    /// The buffers, with the tensors in them.
    #[must_use]
    pub fn upload(&self, device: &wgpu::Device) -> Vec<wgpu::Buffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        self.contents.iter().map(|bytes| buffer_with(device, "pool", bytes, usage)).collect()
    }

    /// The heads' tensors, for [`Plan::bind`](crate::Plan::bind).
    #[must_use]
    pub fn bindings<'a>(&self, buffers: &'a [wgpu::Buffer]) -> Vec<HeadTensors<'a>> {
        let of_head = |head: usize| {
            let find = |wanted: Tensor| {
                let (_, buffer, bytes) = self.tensors[head].iter().find(|(tensor, ..)| *tensor == wanted)?;
                let size = NonZeroU64::new(bytes.len() as u64);
                Some(wgpu::BufferBinding { buffer: &buffers[*buffer], offset: bytes.start as u64, size })
            };
            let gradient = find(Tensor::Gradient);
            HeadTensors {
                gradient: match self.modes[head] {
                    PooledGradient::Overwrite => gradient.map(Gradient::Overwrite),
                    PooledGradient::Accumulate => gradient.map(Gradient::Accumulate),
                    PooledGradient::InPlace => Some(Gradient::InPlace),
                },
                logits: find(Tensor::Logits).expect("every head has logits"),
                target: find(Tensor::Target).expect("every head has a target"),
                mask: find(Tensor::Mask).map(Into::into),
                weight_map: find(Tensor::WeightMap),
                sample_mask: find(Tensor::SampleMask).map(Into::into),
                voxel_losses: find(Tensor::VoxelLosses),
            }
        };
        (0..self.tensors.len()).map(of_head).collect()
    }

    /// What a step left in the buffers.
    ///
    /// # Errors
    /// Where a byte changed that belongs to no tensor that is written.
    pub fn result(&self, report: Report, after: &[Vec<u8>]) -> Result<HostResult, String> {
        let mut untouched = after.to_vec();
        let mut result = HostResult { report, gradients: Vec::new(), voxel_losses: Vec::new() };
        for (index, head) in self.spec.heads.iter().enumerate() {
            let mut written = |wanted: Tensor, float: FloatType| {
                let (_, buffer, bytes) = self.tensors[index].iter().find(|(tensor, ..)| *tensor == wanted)?;
                untouched[*buffer][bytes.clone()].copy_from_slice(&self.contents[*buffer][bytes.clone()]);
                Some(floats_of_bytes(&after[*buffer][bytes.clone()], float))
            };
            let gradient = if self.modes[index] == PooledGradient::InPlace { Tensor::Logits } else { Tensor::Gradient };
            result.gradients.push(written(gradient, head.logits).expect("every head has a gradient"));
            result.voxel_losses.push(written(Tensor::VoxelLosses, FloatType::F32));
        }
        let changed = |(after, before): (&Vec<u8>, &Vec<u8>)| after.iter().zip(before).position(|(a, b)| a != b);
        match untouched.iter().zip(&self.contents).enumerate().find_map(|(pool, both)| Some((pool, changed(both)?))) {
            Some((pool, byte)) => Err(format!("byte {byte} of buffer {pool} changed, which no tensor of the step has")),
            None => Ok(result),
        }
    }

    /// What the buffers hold before a step.
    #[must_use]
    pub fn contents(&self) -> &[Vec<u8>] {
        &self.contents
    }

    /// Each tensor: its head, the number of its buffer, and its bytes there.
    pub fn tensors(&self) -> impl Iterator<Item = (usize, Tensor, usize, Range<usize>)> {
        let heads = self.tensors.iter().enumerate();
        heads.flat_map(|(head, tensors)| {
            tensors.iter().map(move |(tensor, buffer, bytes)| (head, *tensor, *buffer, bytes.clone()))
        })
    }

    /// The number of a buffer and bytes of it that belong to no tensor.
    #[must_use]
    pub fn guards(&self) -> Vec<(usize, Range<usize>)> {
        let mut guards = Vec::new();
        for (buffer, contents) in self.contents.iter().enumerate() {
            let mut here: Vec<_> =
                self.tensors().filter(|(_, _, of, _)| *of == buffer).map(|(.., bytes)| bytes).collect();
            here.sort_by_key(|bytes| bytes.start);
            let mut end = 0;
            for bytes in here.into_iter().chain(std::iter::once(contents.len()..contents.len())) {
                if bytes.start > end {
                    guards.push((buffer, end..bytes.start));
                }
                end = bytes.end;
            }
        }
        guards
    }

    /// The buffer and the bytes of each head's gradient.
    pub fn gradients(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.tensors.iter().zip(&self.modes).map(|(tensors, mode)| {
            let gradient = if *mode == PooledGradient::InPlace { Tensor::Logits } else { Tensor::Gradient };
            let (_, buffer, bytes) =
                tensors.iter().find(|(tensor, ..)| *tensor == gradient).expect("every head has a gradient");
            (*buffer, bytes.clone())
        })
    }
}

/// Each tensor of a head: the bytes of an element, and its contents.
fn bytes_of(head: &Head, tensors: &Tensors, mode: PooledGradient) -> Vec<(Tensor, usize, Vec<u8>)> {
    let size = |float: FloatType| if float == FloatType::F32 { 4 } else { 2 };
    let floats = |tensor, values: &[f32], float: FloatType| {
        let mut bytes = float_bytes(values, float);
        bytes.truncate(values.len() * size(float));
        (tensor, size(float), bytes)
    };
    let logits = floats(Tensor::Logits, &tensors.logits, head.logits);
    let fill = if mode == PooledGradient::Accumulate { 0 } else { GUARD };
    let gradient = (mode != PooledGradient::InPlace).then(|| (Tensor::Gradient, logits.1, vec![fill; logits.2.len()]));
    let target = match head.target {
        Target::Labels(label_type) => {
            let element = label_type.bits() as usize / 8;
            let mut bytes = label_bytes(&tensors.labels, label_type);
            bytes.truncate(tensors.labels.len() * element);
            (Tensor::Target, element, bytes)
        }
        Target::Probabilities(float) => floats(Tensor::Target, &tensors.probabilities, float),
    };
    let mut all = vec![logits, target];
    if head.mask {
        all.push((Tensor::Mask, 1, tensors.mask.clone()));
    }
    if head.weight_map {
        all.push(floats(Tensor::WeightMap, &tensors.weight_map, FloatType::F32));
    }
    if head.sample_mask {
        all.push((Tensor::SampleMask, 1, tensors.sample_mask.clone()));
    }
    if head.voxel_losses() {
        all.push((Tensor::VoxelLosses, 4, vec![GUARD; head.items() * head.voxels() * 4]));
    }
    all.extend(gradient);
    all
}
