//! A device, as burn and as wgpu address it.

use ::burn::backend::{CubeDevice, DispatchDevice};
use ::burn::tensor::Device;

use super::backend::DURING;
use super::bound::Bound;
use crate::error::Error;
use crate::gpu::device::checked_at_rest;

/// One device, as burn and as wgpu address it.
#[derive(Clone, Debug)]
pub(crate) struct BurnDevice {
    pub cube: CubeDevice,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
}

impl BurnDevice {
    /// Submits burn's pending work on these tensors, then what `encode` encodes. The tensors keep their buffers until
    /// then.
    pub fn submit<'a, T>(
        &self,
        tensors: impl Iterator<Item = &'a Bound>,
        encode: impl FnOnce(&mut wgpu::CommandEncoder) -> Result<T, Error>,
    ) -> Result<T, Error> {
        Bound::flush(tensors)?;
        checked_at_rest(&self.device, DURING, || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("segloss: loss of burn's tensors") };
            let mut encoder = self.device.create_command_encoder(&descriptor);
            let result = encode(&mut encoder);
            self.queue.submit([encoder.finish()]);
            result
        })?
    }
}

/// The wgpu device behind a burn device, with autodiff or without.
pub(super) fn cube_device(device: &Device) -> Result<CubeDevice, Error> {
    match device.as_dispatch().clone().inner() {
        DispatchDevice::Cube(device @ CubeDevice::Wgpu(_)) => Ok(device),
        other => {
            Err(Error::Device { during: DURING, message: format!("expected a wgpu device of burn's, got {other:?}") })
        }
    }
}
