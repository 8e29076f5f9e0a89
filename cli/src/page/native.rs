//! The bits of this machine's own adapters, to be shown beside those of a browser: a driver gives the same ones through either.

use anyhow::Result;
use segloss::testing::{Plans, Pool, hash};
use segloss::{AdapterChoice, LossSpec, Scalars, Variant, wgpu};

use super::document;
use crate::adapters::name;
use crate::read_back::read_back;

/// An adapter of this machine, opened at WebGPU's default limits.
pub struct Native {
    pub name: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    plans: Plans,
}

impl Native {
    /// Every adapter that opens.
    pub fn all() -> Vec<Self> {
        let adapters = AdapterChoice::default().adapters();
        adapters.iter().filter_map(|adapter| Self::open(adapter).ok()).collect()
    }

    fn open(adapter: &wgpu::Adapter) -> Result<Self> {
        let descriptor = wgpu::DeviceDescriptor {
            required_features: adapter.features() & wgpu::Features::SUBGROUP,
            required_limits: wgpu::Limits::default(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
        let info = adapter.get_info();
        let name = format!("{}, {} {}", name(&info), info.driver, info.driver_info);
        let plans = Plans::new(&device, &queue);
        Ok(Self { name, device, queue, plans })
    }

    /// A hash of report and outputs of a step, as check.mjs computes it. `words` and `outputs`: where they are in the document.
    pub fn bits(
        &self,
        spec: &LossSpec,
        (pool, variant, upstream): (&Pool, Variant, f32),
        words: &[u32],
        outputs: &[(document::Place, usize)],
    ) -> Result<u32> {
        let Self { device, queue, plans, .. } = self;
        let (buffers, upstream) = (pool.upload(device), super::sets::scalar(device, upstream));
        let scalars = Scalars { upstream: Some(upstream.as_entire_buffer_binding()), weights: None };
        let step = plans.with(spec, Some(variant), Some(false))?.bind_with(&pool.bindings(&buffers), &scalars)?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        step.forward(&mut encoder);
        step.backward(&mut encoder);
        queue.submit([encoder.finish()]);
        let report: Vec<u32> = bytemuck::pod_collect_to_vec(&read_back(device, queue, &step.report_words().buffer)?);
        let mut all = words.iter().fold(0, |all, word| hash(all ^ report[*word as usize]));
        for (document::Place { buffer, offset }, length) in outputs {
            let mut bytes = read_back(device, queue, &buffers[*buffer])?[*offset..offset + length].to_vec();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            all = bytemuck::pod_collect_to_vec::<u8, u32>(&bytes).iter().fold(all, |all, word| hash(all ^ word));
        }
        Ok(all)
    }
}
