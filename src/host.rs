//! A loss of tensors in host memory: upload, one step, download. For checks and tools; a trainer binds its own buffers.

use crate::plan::device::{buffer_with, checked};
use crate::spec::Target;
use crate::{Error, HeadTensors, LabelType, Plan, Report};

/// The tensors of a head, on the host.
#[derive(Clone, Copy, Debug)]
pub struct HostTensors<'a> {
    /// `[N, C, *spatial]`.
    pub logits: &'a [f32],
    /// `[N, *spatial]`; each is stored in the head's label type.
    pub labels: &'a [i64],
}

/// What a step computed.
#[derive(Clone, Debug)]
pub struct HostResult {
    /// The loss, and all that it is made of.
    pub report: Report,
    /// The gradient of each head's logits, `[N, C, *spatial]`.
    pub gradients: Vec<Vec<f32>>,
}

/// Labels as the bytes of their type, filled up to whole words. A label keeps its low bits.
#[must_use]
pub fn label_bytes(labels: &[i64], label_type: LabelType) -> Vec<u8> {
    let bytes = label_type.bits() as usize / 8;
    let mut out: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes().into_iter().take(bytes)).collect();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Forward and backward of a plan, with this upstream gradient.
///
/// # Errors
/// Those of [`Plan::bind_with_upstream`] and of reading back.
pub fn run(plan: &Plan, tensors: &[HostTensors<'_>], upstream: f32) -> Result<HostResult, Error> {
    use wgpu::BufferUsages as Usage;
    let (device, queue) = (&plan.shared.device, &plan.shared.queue);
    if tensors.len() != plan.spec().heads.len() {
        return Err(Error::WrongHeadCount { expected: plan.spec().heads.len(), given: tensors.len() });
    }
    let during = "moving tensors between host and device";
    let buffers: Vec<[wgpu::Buffer; 4]> = checked(device, during, || {
        let upload = |label, bytes: &[u8]| buffer_with(device, label, bytes, Usage::STORAGE);
        let empty = |label, size: usize, usage| {
            let descriptor =
                wgpu::BufferDescriptor { label: Some(label), size: size as u64, usage, mapped_at_creation: false };
            device.create_buffer(&descriptor)
        };
        let heads = plan.spec().heads.iter().zip(tensors);
        heads
            .map(|(head, tensors)| {
                let Target::Labels(label_type) = head.target;
                let size = size_of_val(tensors.logits);
                [
                    upload("logits", bytemuck::cast_slice(tensors.logits)),
                    upload("target", &label_bytes(tensors.labels, label_type)),
                    empty("gradient", size, Usage::STORAGE | Usage::COPY_SRC),
                    empty("gradient, host", size, Usage::MAP_READ | Usage::COPY_DST),
                ]
            })
            .collect()
    })?;
    let bindings: Vec<HeadTensors<'_>> = buffers
        .iter()
        .map(|[logits, target, gradient, _]| HeadTensors {
            logits: logits.as_entire_buffer_binding(),
            target: target.as_entire_buffer_binding(),
            gradient: Some(gradient.as_entire_buffer_binding()),
        })
        .collect();
    let scale = buffer_with(device, "upstream", bytemuck::bytes_of(&upstream), Usage::STORAGE);
    let step = plan.bind_with_upstream(&bindings, scale.as_entire_buffer_binding())?;
    let pending = checked(device, during, || {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        step.forward(&mut encoder);
        step.backward(&mut encoder);
        let pending = step.report(&mut encoder);
        for [_, _, gradient, host] in &buffers {
            encoder.copy_buffer_to_buffer(gradient, 0, host, 0, gradient.size());
            encoder.map_buffer_on_submit(host, wgpu::MapMode::Read, .., |_| {});
        }
        queue.submit([encoder.finish()]);
        pending
    })??;
    let report = pending.read_blocking()?;
    let gradients = buffers.iter().map(|[.., host]| read(host)).collect::<Result<_, _>>()?;
    Ok(HostResult { report, gradients })
}

fn read(buffer: &wgpu::Buffer) -> Result<Vec<f32>, Error> {
    let view = buffer
        .get_mapped_range(..)
        .map_err(|error| Error::Device { during: "reading a gradient", message: error.to_string() })?;
    Ok(bytemuck::pod_collect_to_vec(&view))
}
