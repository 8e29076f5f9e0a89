//! The batch: which items a rank has, and their tensors on its device.

use std::ops::Range;

use anyhow::Result;
use segloss::host::{floats_of_bytes, label_bytes};
use segloss::wgpu::util::DeviceExt as _;
use segloss::{FloatType, Head, HeadTensors, LabelType, Loss, LossSpec, Overlap, Pixel, wgpu};
use wgpu::BufferUsages as Usage;

const IGNORED: i64 = 255;

/// Two heads, `items` items: nnU-Net's loss (Dice over the batch) with class weights and smoothing, and MONAI's (Dice of each
/// item) at half the resolution.
pub fn spec(items: usize) -> LossSpec {
    let pixel = Pixel::cross_entropy().class_weights([0.5, 1.0, 2.0, 1.5]).label_smoothing(0.1);
    let over_batch = Loss::nnunet_dc_ce().overlap(Overlap::dice().batch(true)).pixel(pixel);
    LossSpec::new()
        .head(Head::new([items, 4, 32, 32, 32], over_batch).ignore_index(IGNORED).weight(0.7))
        .head(Head::new([items, 4, 16, 16, 16], Loss::monai_dice_ce()).weight(0.3))
}

/// The items of a rank, among those of the whole batch: one or two, in turns.
pub fn items_of(rank: usize) -> Range<usize> {
    items(rank)..items(rank + 1)
}

/// Items of so many ranks.
pub fn items(ranks: usize) -> usize {
    (0..ranks).map(|rank| 1 + rank % 2).sum()
}

/// Logits and labels of some items of a head. Each item has a seed of its own, so any rank can make any item. The last
/// rank's labels are all ignored where the head ignores any: a rank without a valid voxel is nothing special.
pub fn tensors_of(head_index: usize, head: &Head, items: Range<usize>, ranks: usize) -> (Vec<f32>, Vec<i64>) {
    let (mut logits, mut labels) = (Vec::new(), Vec::new());
    for item in items {
        let mut random = fastrand::Rng::with_seed((head_index << 32 | item) as u64);
        logits.extend((0..head.classes() * head.voxels()).map(|_| 6.0 * random.f32() - 3.0));
        let ignored = ranks > 1 && items_of(ranks - 1).contains(&item) && head.ignore_index.is_some();
        let mut label = || if ignored { IGNORED } else { i64::from(random.u8(0..4)) };
        labels.extend((0..head.voxels()).map(|_| label()));
    }
    (logits, labels)
}

/// A rank's tensors, a buffer each.
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
    /// Random tensors of a rank's items.
    pub fn new(device: &wgpu::Device, spec: &LossSpec, items: Range<usize>, ranks: usize) -> Self {
        let upload = |label, contents: &[u8]| {
            let descriptor = wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage: Usage::STORAGE };
            device.create_buffer_init(&descriptor)
        };
        let buffer = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let heads = spec.heads.iter().enumerate().map(|(index, head)| {
            let (logits, labels) = tensors_of(index, head, items.clone(), ranks);
            let logits = upload("logits", bytemuck::cast_slice(&logits));
            let bytes = logits.size();
            HeadBuffers {
                logits,
                target: upload("target", &label_bytes(&labels, LabelType::U8)),
                gradient: buffer("gradient", bytes, Usage::STORAGE | Usage::COPY_SRC),
                host: buffer("gradient, host", bytes, Usage::MAP_READ | Usage::COPY_DST),
            }
        });
        Self { heads: heads.collect() }
    }

    pub fn bindings(&self) -> Vec<HeadTensors<'_>> {
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let heads = self.heads.iter();
        heads
            .map(|head| HeadTensors::new(whole(&head.logits), whole(&head.target)).gradient(whole(&head.gradient)))
            .collect()
    }

    /// The gradients, on the host.
    pub fn gradients(&self, device: &wgpu::Device, queue: &wgpu::Queue) -> Result<Vec<Vec<f32>>> {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for head in &self.heads {
            encoder.copy_buffer_to_buffer(&head.gradient, 0, &head.host, 0, head.host.size());
            encoder.map_buffer_on_submit(&head.host, wgpu::MapMode::Read, .., |_| {});
        }
        queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely())?;
        let read = |head: &HeadBuffers| -> Result<Vec<f32>> {
            Ok(floats_of_bytes(&head.host.get_mapped_range(..)?, FloatType::F32))
        };
        self.heads.iter().map(read).collect()
    }
}
