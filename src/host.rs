//! The loss of tensors in host memory: upload, one step, download. For checks and tools; a trainer binds its own
//! buffers.

use std::sync::Arc;

use crate::error::Error;
use crate::error::Tensor;
use crate::gpu::device::{buffer, buffer_with, checked};
use crate::layout::tensors::{Gradient, HeadTensors, Scalars};
use crate::plan::Plan;
use crate::reference::{HeadData, TargetData};
use crate::report::Report;
use crate::spec::{FloatType, Head, LabelType, Target};
use crate::step::Step;

/// The tensors of a head on the host, for a device.
pub type HostTensors<'a> = HeadData<'a, f32>;

/// What a step computed.
#[derive(Clone, Debug)]
pub struct HostResult {
    /// The total and its terms.
    pub report: Report,
    /// The gradient of each head's logits, `[N, C, *spatial]`.
    pub gradients: Vec<Vec<f32>>,
    /// The pixel loss of each voxel of each head, `[N, *spatial]`, where the head is unreduced and has a pixel term.
    pub voxel_losses: Vec<Option<Vec<f32>>>,
}

/// Labels as the bytes of `label_type`, padded to whole 32-bit words. A label that does not fit keeps its low bits.
#[must_use]
pub fn label_bytes(labels: &[i64], label_type: LabelType) -> Vec<u8> {
    let bytes = label_type.bits() as usize / 8;
    whole_words(labels.iter().flat_map(|label| label.to_le_bytes().into_iter().take(bytes)).collect())
}

/// Numbers as the bytes of `float`, rounded to nearest and padded to whole 32-bit words.
#[must_use]
pub fn float_bytes(values: &[f32], float: FloatType) -> Vec<u8> {
    whole_words(match float {
        FloatType::F32 => bytemuck::cast_slice(values).to_vec(),
        FloatType::F16 => values.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect(),
        FloatType::Bf16 => values.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect(),
    })
}

/// The numbers in bytes of `float`: the inverse of [`float_bytes`], padding included.
#[must_use]
pub fn floats_of_bytes(bytes: &[u8], float: FloatType) -> Vec<f32> {
    let halves = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    match float {
        FloatType::F32 => bytemuck::pod_collect_to_vec(bytes),
        FloatType::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        FloatType::Bf16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
    }
}

/// Uploads tensors, runs forward and backward of a plan with this upstream gradient, and reads the results back. Waits
/// for the device.
///
/// # Errors
/// Those of [`HostStep::new`] and [`HostStep::run`].
pub fn run(plan: &Plan, tensors: &[HostTensors<'_>], upstream: f32) -> Result<HostResult, Error> {
    HostStep::new(plan, tensors, upstream)?.run()
}

/// A step on tensors that were uploaded from the host.
#[derive(Debug)]
pub struct HostStep {
    step: Step,
    buffers: Arc<Buffers>,
}

/// Tensors on the device, and the upstream gradient.
#[derive(Debug)]
struct Buffers {
    heads: Vec<HeadBuffers>,
    upstream: wgpu::Buffer,
}

impl HostStep {
    /// Uploads tensors, and binds the plan to them and to this upstream gradient.
    ///
    /// # Errors
    /// [`Error::WrongHeadCount`]; [`Error::Binding`] for a slice whose length is not that of its tensor, and for a
    /// label that does not fit in the head's type; and those of [`Plan::bind_with`].
    pub fn new(plan: &Plan, tensors: &[HostTensors<'_>], upstream: f32) -> Result<Self, Error> {
        use wgpu::BufferUsages as Usage;
        let device = &plan.shared.device;
        if tensors.len() != plan.spec().heads.len() {
            return Err(Error::WrongHeadCount { expected: plan.spec().heads.len(), given: tensors.len() });
        }
        let heads = plan.spec().heads.iter().zip(tensors);
        heads.enumerate().try_for_each(|(index, (head, tensors))| check(index, head, tensors))?;
        let buffers = checked(device, MOVING, || {
            let heads = plan.spec().heads.iter().zip(tensors);
            let heads = heads.map(|(head, tensors)| HeadBuffers::new(device, head, tensors)).collect();
            let usage = Usage::STORAGE | Usage::COPY_SRC;
            Buffers { heads, upstream: buffer_with(device, "upstream", bytemuck::bytes_of(&upstream), usage) }
        })?;
        Self::bind(plan, Arc::new(buffers))
    }

    /// Binds another plan of the same specification to the same tensors, without another upload.
    ///
    /// # Errors
    /// Those of [`Plan::bind_with`].
    pub fn with_plan(&self, plan: &Plan) -> Result<Self, Error> {
        Self::bind(plan, self.buffers.clone())
    }

    fn bind(plan: &Plan, buffers: Arc<Buffers>) -> Result<Self, Error> {
        let bindings: Vec<HeadTensors<'_>> = buffers.heads.iter().map(HeadBuffers::bindings).collect();
        let scalars = Scalars { upstream: Some(buffers.upstream.as_entire_buffer_binding()), weights: None };
        let step = plan.bind_with(&bindings, &scalars)?;
        Ok(Self { step, buffers })
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// Each head's gradient buffer on the device.
    pub fn gradients(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        self.buffers.heads.iter().map(|head| &head.gradient.device)
    }

    /// Reads back the gradients that are in the buffers, such as those of a backward that the caller encoded. Waits for
    /// the device.
    ///
    /// # Errors
    /// [`Error::Device`] where wgpu refuses.
    pub fn read_gradients(&self) -> Result<Vec<Vec<f32>>, Error> {
        let shared = &self.step.plan.shared;
        checked(&shared.device, MOVING, || {
            let mut encoder = shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.buffers.heads.iter().for_each(|head| head.gradient.encode_download(&mut encoder));
            shared.queue.submit([encoder.finish()]);
            shared.device.poll(wgpu::PollType::wait_indefinitely())
        })?
        .map_err(|error| Error::Device { during: MOVING, message: error.to_string() })?;
        let heads = self.buffers.heads.iter().zip(&shared.heads.spec.heads);
        heads
            .map(|(buffers, head)| buffers.gradient.read(head.logits, head.items() * head.voxels() * head.classes()))
            .collect()
    }

    /// Runs forward and backward, and reads their results back; what an earlier run wrote is cleared first. Waits for
    /// the device.
    ///
    /// # Errors
    /// [`Error::Device`] where wgpu refuses, and those of reading a report.
    pub fn run(&self) -> Result<HostResult, Error> {
        let shared = &self.step.plan.shared;
        let pending = checked(&shared.device, MOVING, || {
            let mut encoder = shared.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let heads = self.buffers.heads.iter();
            let outputs: Vec<_> =
                heads.flat_map(|head| [Some(&head.gradient), head.voxel_losses.as_ref()]).flatten().collect();
            for output in &outputs {
                encoder.clear_buffer(&output.device, 0, None);
            }
            self.step.forward(&mut encoder);
            self.step.backward(&mut encoder);
            let pending = self.step.report(&mut encoder);
            for output in outputs {
                output.encode_download(&mut encoder);
            }
            shared.queue.submit([encoder.finish()]);
            pending
        })??;
        let report = pending.read_blocking()?;
        let mut result = HostResult { report, gradients: Vec::new(), voxel_losses: Vec::new() };
        for (buffers, head) in self.buffers.heads.iter().zip(&shared.heads.spec.heads) {
            let voxels = head.items() * head.voxels();
            result.gradients.push(buffers.gradient.read(head.logits, voxels * head.classes())?);
            let losses = buffers.voxel_losses.as_ref().map(|losses| losses.read(FloatType::F32, voxels));
            result.voxel_losses.push(losses.transpose()?);
        }
        Ok(result)
    }
}

/// What is being done, in errors.
const MOVING: &str = "moving tensors between host and device";

#[derive(Debug)]
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
#[derive(Debug)]
struct Output {
    device: wgpu::Buffer,
    host: wgpu::Buffer,
}

impl Output {
    fn new(device: &wgpu::Device, label: &str, bytes: usize) -> Self {
        use wgpu::BufferUsages as Usage;
        let words = u32::try_from(bytes / 4).unwrap_or(u32::MAX);
        let buffer = |usage| buffer(device, label, words, usage);
        Self {
            device: buffer(Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST),
            host: buffer(Usage::MAP_READ | Usage::COPY_DST),
        }
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
        drop(view);
        self.host.unmap();
        Ok(values)
    }
}

/// Checks that every slice is as long as its tensor, and that every label fits in the head's type.
fn check(index: usize, head: &Head, tensors: &HostTensors<'_>) -> Result<(), Error> {
    let refuse = |tensor, expected: String, given: String| Err(Error::Binding { head: index, tensor, expected, given });
    let all = head.items() * head.voxels();
    let target = match (tensors.target, head.target) {
        (TargetData::Labels(labels), Target::Labels(_)) => Some(labels.len()),
        (TargetData::Probabilities(probabilities), Target::Probabilities(_)) => Some(probabilities.len()),
        (TargetData::Labels(_), Target::Probabilities(_)) => {
            return refuse(Tensor::Target, "probabilities, as the head says".into(), "labels".into());
        }
        (TargetData::Probabilities(_), Target::Labels(_)) => {
            return refuse(Tensor::Target, "labels, as the head says".into(), "probabilities".into());
        }
    };
    for (tensor, wanted, elements, given) in [
        (Tensor::Logits, true, all * head.classes(), Some(tensors.logits.len())),
        (Tensor::Target, true, head.target_elements(), target),
        (Tensor::Mask, head.mask, all, tensors.mask.map(<[u8]>::len)),
        (Tensor::WeightMap, head.weight_map, all, tensors.weight_map.map(<[f32]>::len)),
        (Tensor::SampleMask, head.sample_mask, head.items(), tensors.sample_mask.map(<[u8]>::len)),
    ] {
        // a tensor that is missing, or that the head does not take, is refused when it is bound
        if let Some(given) = given.filter(|given| wanted && *given != elements) {
            return refuse(tensor, format!("{elements} elements"), format!("{given}"));
        }
    }
    if let (TargetData::Labels(labels), Target::Labels(label_type)) = (tensors.target, head.target) {
        let fits = |label: &i64| label_type == LabelType::I64 || label_type.range().contains(label);
        if let Some(label) = labels.iter().find(|label| !fits(label)) {
            return refuse(Tensor::Target, format!("labels of {}", label_type.name()), format!("{label}"));
        }
    }
    Ok(())
}

impl HeadBuffers {
    fn new(device: &wgpu::Device, head: &Head, tensors: &HostTensors<'_>) -> Self {
        use wgpu::BufferUsages as Usage;
        let upload = |label, bytes: &[u8]| {
            buffer_with(device, label, &whole_words(bytes.to_vec()), Usage::STORAGE | Usage::COPY_SRC)
        };
        let target = match tensors.target {
            TargetData::Labels(labels) => {
                let label_type = match head.target {
                    Target::Labels(label_type) => label_type,
                    Target::Probabilities(_) => LabelType::I32,
                };
                label_bytes(labels, label_type)
            }
            TargetData::Probabilities(probabilities) => {
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
            mask: self.mask.as_ref().map(|mask| mask.as_entire_buffer_binding().into()),
            weight_map: self.weight_map.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
            sample_mask: self.sample_mask.as_ref().map(|mask| mask.as_entire_buffer_binding().into()),
            voxel_losses: self.voxel_losses.as_ref().map(|losses| losses.device.as_entire_buffer_binding()),
        }
    }
}

/// Padded to whole 32-bit words.
fn whole_words(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
