//! The heads' tensors on the GPU, made once: each step writes logits and labels, and reads the gradient.

use anyhow::Result;
use segloss::{HeadTensors, LossSpec, Report, Step, wgpu};
use wgpu::BufferUsages as Usage;

pub struct Tensors {
    heads: Vec<HeadBuffers>,
}

struct HeadBuffers {
    logits: wgpu::Buffer,
    target: wgpu::Buffer,
    gradient: wgpu::Buffer,
    host: wgpu::Buffer,
}

impl Tensors {
    pub fn new(device: &wgpu::Device, spec: &LossSpec) -> Self {
        let buffer = |label, size: usize, usage| {
            let size = size.next_multiple_of(4) as u64;
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let heads = spec.heads.iter().map(|head| {
            let voxels = head.items() * head.voxels();
            let logits = voxels * head.classes() * size_of::<f32>();
            HeadBuffers {
                logits: buffer("logits", logits, Usage::STORAGE | Usage::COPY_DST),
                target: buffer("target", voxels, Usage::STORAGE | Usage::COPY_DST),
                gradient: buffer("gradient", logits, Usage::STORAGE | Usage::COPY_SRC),
                host: buffer("gradient, host", logits, Usage::MAP_READ | Usage::COPY_DST),
            }
        });
        Self { heads: heads.collect() }
    }

    pub fn bindings(&self) -> Vec<HeadTensors<'_>> {
        let heads = self.heads.iter();
        heads
            .map(|head| {
                HeadTensors::new(head.logits.as_entire_buffer_binding(), head.target.as_entire_buffer_binding())
                    .gradient(head.gradient.as_entire_buffer_binding())
            })
            .collect()
    }

    /// Runs forward and backward. Returns the report, and the gradient of each head's logits.
    pub fn step(
        &self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        step: &Step,
        logits: &[Vec<f32>],
        labels: &[Vec<u8>],
    ) -> Result<(Report, Vec<Vec<f32>>)> {
        for ((head, logits), labels) in self.heads.iter().zip(logits).zip(labels) {
            let mut labels = labels.clone();
            labels.resize(labels.len().next_multiple_of(4), 0);
            queue.write_buffer(&head.logits, 0, bytemuck::cast_slice(logits));
            queue.write_buffer(&head.target, 0, &labels);
        }
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        step.forward(&mut encoder);
        step.backward(&mut encoder);
        let report = step.report(&mut encoder)?;
        for head in &self.heads {
            encoder.copy_buffer_to_buffer(&head.gradient, 0, &head.host, 0, head.host.size());
            encoder.map_buffer_on_submit(&head.host, wgpu::MapMode::Read, .., |_| {});
        }
        queue.submit([encoder.finish()]);
        let report = report.read_blocking()?;
        let mut gradients = Vec::new();
        for head in &self.heads {
            gradients.push(bytemuck::pod_collect_to_vec(&head.host.get_mapped_range(..)?));
            head.host.unmap();
        }
        Ok((report, gradients))
    }
}
