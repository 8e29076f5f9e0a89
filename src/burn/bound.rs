//! burn's tensors in their buffers, kept in place while they are bound; and those that a step writes.

use std::any::Any;
use std::num::NonZeroU64;

use ::burn::backend::ops::FloatTensorOps as _;
use ::burn::backend::wgpu::{AutoCompiler, CubeBackend, CubeTensor, WgpuResource};
use ::burn::backend::{CubeDevice, TensorMetadata as _};
use ::burn::tensor::{DType, FloatDType, Shape};
use cubecl::client::Client;
use cubecl::wgpu::WgpuServer;

use super::backend::DURING;
use crate::error::Error;
use crate::spec::MemoryFormat;

/// A flat tensor in its buffer, which burn neither moves nor reuses while this lives.
pub(super) struct Bound {
    tensor: CubeTensor,
    resource: WgpuResource,
    _pin: Box<dyn Any + Send>,
}

impl Bound {
    pub fn new(tensor: CubeTensor) -> Result<Self, Error> {
        let client: &Client = &tensor.client;
        let resource = client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone());
        let pin = resource.map_err(|error| Error::Device { during: DURING, message: error.to_string() })?;
        Ok(Self { tensor, resource: pin.resource().clone(), _pin: Box::new(pin) })
    }

    pub fn binding(&self) -> wgpu::BufferBinding<'_> {
        let resource = &self.resource;
        // burn's handle may be longer than the tensor; a type below 32 bits is padded to whole words
        let bytes = self.tensor.meta.num_elements() * self.tensor.dtype.size();
        let size = NonZeroU64::new((bytes as u64).next_multiple_of(4));
        wgpu::BufferBinding { buffer: &resource.buffer, offset: resource.offset, size }
    }

    pub fn dtype(&self) -> DType {
        self.tensor.dtype
    }

    /// Submits burn's pending work, on this thread's stream and on the streams of the tensors.
    pub fn flush<'a>(tensors: impl Iterator<Item = &'a Self>) -> Result<(), Error> {
        let mut streams = Vec::new();
        let flushed = |result: Result<(), _>| {
            result.map_err(|error: cubecl::server::ServerError| Error::Device {
                during: DURING,
                message: error.to_string(),
            })
        };
        for Self { tensor, .. } in tensors {
            if streams.is_empty() {
                flushed(tensor.client.flush())?;
            }
            let stream = tensor.handle.stream;
            if !streams.contains(&stream) {
                flushed(stream.executes(|| tensor.client.flush()))?;
                streams.push(stream);
            }
        }
        Ok(())
    }
}

/// How logits `[N, C, *spatial]` lie in memory. Those with any other strides are contiguous after a copy.
pub(super) fn memory_format(logits: &CubeTensor) -> MemoryFormat {
    let rank = logits.meta.shape().num_dims();
    let lies_in_order = |axes: &[usize]| {
        let mut expected = 1;
        axes.iter().rev().all(|&axis| {
            let (length, stride) = (logits.meta.shape()[axis], logits.meta.strides()[axis]);
            // the stride of an axis of length 1 is any number
            let is_expected = length == 1 || stride == expected;
            expected *= length;
            is_expected
        })
    };
    let is_contiguous = lies_in_order(&(0..rank).collect::<Vec<_>>());
    // the strides of a tiled tensor are those of its tiles
    if !is_contiguous && lies_in_order(&channels_last(rank)) && !logits.meta.is_tiled() {
        MemoryFormat::ChannelsLast
    } else {
        MemoryFormat::ContiguousFormat
    }
}

/// The axes of `[N, C, *spatial]` in the order of `[N, *spatial, C]`.
fn channels_last(rank: usize) -> Vec<usize> {
    [0].into_iter().chain(2..rank).chain([1]).collect()
}

/// Flattens a tensor in the order of its format: burn copies it where it is stored otherwise.
pub(super) fn flat(tensor: CubeTensor, format: MemoryFormat) -> CubeTensor {
    let elements = tensor.shape().num_elements();
    let ordered = match format {
        MemoryFormat::ContiguousFormat => tensor,
        MemoryFormat::ChannelsLast => {
            let axes = channels_last(tensor.shape().num_dims());
            CubeBackend::float_permute(tensor, &axes)
        }
    };
    shaped(ordered, Shape::new([elements]))
}

/// A tensor `[N, C, *spatial]` of flat elements in the order of a format.
pub(super) fn unflattened(flat: CubeTensor, shape: &Shape, format: MemoryFormat) -> CubeTensor {
    if format == MemoryFormat::ContiguousFormat {
        return shaped(flat, shape.clone());
    }
    let rank = shape.num_dims();
    let stored: Vec<usize> = channels_last(rank).into_iter().map(|axis| shape[axis]).collect();
    let axes: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    CubeBackend::float_permute(shaped(flat, Shape::from(stored)), &axes)
}

/// The same elements with another shape.
pub(super) fn shaped(tensor: CubeTensor, shape: Shape) -> CubeTensor {
    CubeBackend::float_reshape(tensor, shape)
}

/// A flat tensor that burn allocates and a step writes.
pub(super) fn output(elements: usize, dtype: FloatDType, device: &CubeDevice) -> CubeTensor {
    CubeBackend::float_empty(Shape::new([elements]), device, dtype)
}

/// The incoming gradient as f32.
pub(super) fn scalar_f32(tensor: CubeTensor) -> Result<Bound, Error> {
    let is_f32 = tensor.dtype() == DType::F32;
    Bound::new(if is_f32 { tensor } else { CubeBackend::float_cast(tensor, FloatDType::F32) })
}
