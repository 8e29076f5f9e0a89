//! A loss of tensors in host memory: upload, one step, download. For checks and tools; a trainer binds its own buffers.

use crate::plan::device::{buffer, buffer_with, checked};
use crate::spec::Target;
use crate::{Error, FloatType, Gradient, Head, HeadTensors, LabelType, Plan, Report, Scalars};

/// The tensors of a head, on the host.
#[derive(Clone, Copy, Debug)]
pub struct HostTensors<'a> {
    /// `[N, C, *spatial]`; stored in the head's type, rounded to nearest.
    pub logits: &'a [f32],
    /// The target.
    pub target: HostTarget<'a>,
    /// `[N, *spatial]`, where the head has a mask.
    pub mask: Option<&'a [u8]>,
    /// `[N, *spatial]`, where the head has a weight map.
    pub weight_map: Option<&'a [f32]>,
    /// `[N]`, where the head has a sample mask.
    pub sample_mask: Option<&'a [u8]>,
}

/// The target of a head, on the host.
#[derive(Clone, Copy, Debug)]
pub enum HostTarget<'a> {
    /// `[N, *spatial]`; each is stored in the head's label type.
    Labels(&'a [i64]),
    /// `[N, C, *spatial]`.
    Probabilities(&'a [f32]),
}

impl<'a> HostTensors<'a> {
    /// Logits and labels, without masks.
    #[must_use]
    pub fn labels(logits: &'a [f32], labels: &'a [i64]) -> Self {
        Self { logits, target: HostTarget::Labels(labels), mask: None, weight_map: None, sample_mask: None }
    }

    /// Logits and probabilities, without masks.
    #[must_use]
    pub fn probabilities(logits: &'a [f32], probabilities: &'a [f32]) -> Self {
        Self {
            logits,
            target: HostTarget::Probabilities(probabilities),
            mask: None,
            weight_map: None,
            sample_mask: None,
        }
    }
}

/// What a step computed.
#[derive(Clone, Debug)]
pub struct HostResult {
    /// The loss, and all that it is made of.
    pub report: Report,
    /// The gradient of each head's logits, `[N, C, *spatial]`.
    pub gradients: Vec<Vec<f32>>,
    /// The losses of each head's voxels, `[N, *spatial]`, where the head is unreduced and has a pixel term.
    pub voxel_losses: Vec<Option<Vec<f32>>>,
}

/// Labels as the bytes of their type, filled up to whole words. A label keeps its low bits.
#[must_use]
pub fn label_bytes(labels: &[i64], label_type: LabelType) -> Vec<u8> {
    let bytes = label_type.bits() as usize / 8;
    whole_words(labels.iter().flat_map(|label| label.to_le_bytes().into_iter().take(bytes)).collect())
}

/// Numbers as the bytes of their type, filled up to whole words; rounded to nearest.
#[must_use]
pub fn float_bytes(values: &[f32], float: FloatType) -> Vec<u8> {
    whole_words(match float {
        FloatType::F32 => bytemuck::cast_slice(values).to_vec(),
        FloatType::F16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
        FloatType::Bf16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
    })
}

/// The numbers that bytes of a type are.
#[must_use]
pub fn floats_of_bytes(bytes: &[u8], float: FloatType) -> Vec<f32> {
    let halves = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match float {
        FloatType::F32 => bytemuck::pod_collect_to_vec(bytes),
        FloatType::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        FloatType::Bf16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
    }
}

/// Forward and backward of a plan, with this upstream gradient.
///
/// # Errors
/// Those of [`Plan::bind_with`] and of reading back.
pub fn run(plan: &Plan, tensors: &[HostTensors<'_>], upstream: f32) -> Result<HostResult, Error> {
    use wgpu::BufferUsages as Usage;
    let (device, queue) = (&plan.shared.device, &plan.shared.queue);
    if tensors.len() != plan.spec().heads.len() {
        return Err(Error::WrongHeadCount { expected: plan.spec().heads.len(), given: tensors.len() });
    }
    let during = "moving tensors between host and device";
    let (buffers, scale) = checked(device, during, || {
        let heads = plan.spec().heads.iter().zip(tensors);
        let buffers: Vec<_> = heads.map(|(head, tensors)| HeadBuffers::new(device, head, tensors)).collect();
        (buffers, buffer_with(device, "upstream", bytemuck::bytes_of(&upstream), Usage::STORAGE))
    })?;
    let bindings: Vec<HeadTensors<'_>> = buffers.iter().map(HeadBuffers::bindings).collect();
    let scalars = Scalars { upstream: Some(scale.as_entire_buffer_binding()), weights: None };
    let step = plan.bind_with(&bindings, &scalars)?;
    let pending = checked(device, during, || {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        step.forward(&mut encoder);
        step.backward(&mut encoder);
        let pending = step.report(&mut encoder);
        for output in buffers.iter().flat_map(|head| [Some(&head.gradient), head.voxel_losses.as_ref()]).flatten() {
            output.encode_download(&mut encoder);
        }
        queue.submit([encoder.finish()]);
        pending
    })??;
    let report = pending.read_blocking()?;
    let mut result = HostResult { report, gradients: Vec::new(), voxel_losses: Vec::new() };
    for (buffers, head) in buffers.iter().zip(&plan.spec().heads) {
        let voxels = head.items() * head.voxels();
        result.gradients.push(buffers.gradient.read(head.logits, voxels * head.classes())?);
        let losses = buffers.voxel_losses.as_ref().map(|losses| losses.read(FloatType::F32, voxels));
        result.voxel_losses.push(losses.transpose()?);
    }
    Ok(result)
}

struct HeadBuffers {
    logits: wgpu::Buffer,
    target: wgpu::Buffer,
    mask: Option<wgpu::Buffer>,
    weight_map: Option<wgpu::Buffer>,
    sample_mask: Option<wgpu::Buffer>,
    gradient: Output,
    voxel_losses: Option<Output>,
}

/// A tensor that a step writes, and its copy on the host.
struct Output {
    device: wgpu::Buffer,
    host: wgpu::Buffer,
}

impl Output {
    fn new(device: &wgpu::Device, label: &str, bytes: usize) -> Self {
        use wgpu::BufferUsages as Usage;
        let words = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
        let buffer = |usage| buffer(device, label, words, usage);
        Self { device: buffer(Usage::STORAGE | Usage::COPY_SRC), host: buffer(Usage::MAP_READ | Usage::COPY_DST) }
    }

    fn encode_download(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.copy_buffer_to_buffer(&self.device, 0, &self.host, 0, self.host.size());
        encoder.map_buffer_on_submit(&self.host, wgpu::MapMode::Read, .., |_| {});
    }

    /// The elements, as f32.
    fn read(&self, float: FloatType, elements: usize) -> Result<Vec<f32>, Error> {
        let view = self
            .host
            .get_mapped_range(..)
            .map_err(|error| Error::Device { during: "reading a tensor", message: error.to_string() })?;
        let mut values = floats_of_bytes(&view, float);
        values.truncate(elements);
        Ok(values)
    }
}

impl HeadBuffers {
    fn new(device: &wgpu::Device, head: &Head, tensors: &HostTensors<'_>) -> Self {
        use wgpu::BufferUsages as Usage;
        let upload = |label, bytes: &[u8]| buffer_with(device, label, &whole_words(bytes.to_vec()), Usage::STORAGE);
        let target = match tensors.target {
            HostTarget::Labels(labels) => {
                let label_type = match head.target {
                    Target::Labels(label_type) => label_type,
                    Target::Probabilities(_) => LabelType::I32,
                };
                label_bytes(labels, label_type)
            }
            HostTarget::Probabilities(probabilities) => {
                let float = match head.target {
                    Target::Probabilities(float) => float,
                    Target::Labels(_) => FloatType::F32,
                };
                float_bytes(probabilities, float)
            }
        };
        let logits = float_bytes(tensors.logits, head.logits);
        let losses = head.items() * head.voxels() * 4;
        Self {
            logits: upload("logits", &logits),
            target: upload("target", &target),
            mask: tensors.mask.map(|mask| upload("mask", mask)),
            weight_map: tensors.weight_map.map(|map| upload("weight map", bytemuck::cast_slice(map))),
            sample_mask: tensors.sample_mask.map(|mask| upload("sample mask", mask)),
            gradient: Output::new(device, "gradient", logits.len()),
            voxel_losses: head.voxel_losses().then(|| Output::new(device, "voxel losses", losses)),
        }
    }

    fn bindings(&self) -> HeadTensors<'_> {
        HeadTensors {
            logits: self.logits.as_entire_buffer_binding(),
            target: self.target.as_entire_buffer_binding(),
            gradient: Some(Gradient::Overwrite(self.gradient.device.as_entire_buffer_binding())),
            mask: self.mask.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
            weight_map: self.weight_map.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
            sample_mask: self.sample_mask.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
            voxel_losses: self.voxel_losses.as_ref().map(|losses| losses.device.as_entire_buffer_binding()),
        }
    }
}

/// Filled up to whole words.
fn whole_words(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
