//! A device, as burn and as wgpu address it; and what a forward leaves on it.

use std::sync::Arc;

use super::tensors::{Bound, DURING};
use crate::error::Error;
use crate::gpu::device::checked;
use crate::plan::Plan;
use crate::plan::stages::HeadStages;

/// One device, as burn and as wgpu address it.
#[derive(Clone, Debug)]
pub(crate) struct BurnDevice {
    pub cube: ::burn::backend::CubeDevice,
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
}

/// What a forward leaves for the backward.
#[derive(Debug)]
pub(crate) struct Forward {
    pub plan: Plan,
    pub stages: Arc<HeadStages>,
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
        checked(&self.device, DURING, || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("segloss: loss of burn's tensors") };
            let mut encoder = self.device.create_command_encoder(&descriptor);
            let result = encode(&mut encoder);
            self.queue.submit([encoder.finish()]);
            result
        })?
    }
}
