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

/// Flattens a tensor in row-major order: burn copies it where it is stored otherwise.
pub(super) fn flat(tensor: CubeTensor) -> CubeTensor {
    let elements = tensor.shape().num_elements();
    shaped(tensor, Shape::new([elements]))
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
