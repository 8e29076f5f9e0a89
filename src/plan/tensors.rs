//! The caller's tensors: buffer, offset, size, checked against the specification.

use std::ops::Range;

use crate::error::Tensor;
use crate::spec::Target;
use crate::{Error, Head};

/// The tensors of one head, where they are: no copy is made of any.
///
/// A binding without a size reaches to the end of its buffer. Every buffer needs the usage `STORAGE`. Offsets may be any
/// multiple of the element; the device's offset alignment does not matter.
#[derive(Clone, Debug)]
pub struct HeadTensors<'a> {
    /// f32, `[N, C, *spatial]`.
    pub logits: wgpu::BufferBinding<'a>,
    /// Labels of the head's [`LabelType`](crate::LabelType), `[N, *spatial]`. A packed tensor takes a whole number of words:
    /// ceil(bytes / 4) · 4 bytes.
    pub target: wgpu::BufferBinding<'a>,
    /// f32, `[N, C, *spatial]`; overwritten. `None`: this head's gradient is not wanted.
    pub gradient: Option<wgpu::BufferBinding<'a>>,
}

/// The bytes of a tensor in its buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extent {
    pub buffer: wgpu::Buffer,
    pub bytes: Range<u64>,
    /// Bits of an element: 8, 16 or 32.
    pub bits: u32,
    /// Four elements in one load: rows begin at a multiple of four elements, and have a multiple of four.
    pub wide: bool,
}

/// The tensors of a head, checked.
#[derive(Clone, Debug)]
pub(crate) struct HeadExtents {
    pub logits: Extent,
    pub target: Extent,
    pub gradient: Option<Extent>,
}

pub(crate) fn check_heads(heads: &[Head], tensors: &[HeadTensors<'_>]) -> Result<Vec<HeadExtents>, Error> {
    if heads.len() != tensors.len() {
        return Err(Error::WrongHeadCount { expected: heads.len(), given: tensors.len() });
    }
    let extents = heads
        .iter()
        .zip(tensors)
        .enumerate()
        .map(|(index, (head, tensors))| check_head(index, head, tensors))
        .collect::<Result<Vec<_>, _>>()?;
    refuse_overlap(&extents)?;
    Ok(extents)
}

fn check_head(index: usize, head: &Head, tensors: &HeadTensors<'_>) -> Result<HeadExtents, Error> {
    let voxels = head.voxels() as u64;
    let logits = (head.items() * head.classes()) as u64 * voxels;
    let Target::Labels(labels) = head.target;
    let check = |tensor, binding, elements, bits| Check { head: index, tensor }.extent(binding, elements, bits, voxels);
    Ok(HeadExtents {
        logits: check(Tensor::Logits, &tensors.logits, logits, 32)?,
        target: check(Tensor::Target, &tensors.target, head.items() as u64 * voxels, labels.bits())?,
        gradient: tensors.gradient.as_ref().map(|g| check(Tensor::Gradient, g, logits, 32)).transpose()?,
    })
}

struct Check {
    head: usize,
    tensor: Tensor,
}

impl Check {
    fn refuse<T>(&self, expected: String, given: String) -> Result<T, Error> {
        Err(Error::Binding { head: self.head, tensor: self.tensor, expected, given })
    }

    fn extent(&self, binding: &wgpu::BufferBinding<'_>, elements: u64, bits: u32, row: u64) -> Result<Extent, Error> {
        let (buffer, offset) = (binding.buffer, binding.offset);
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return self.refuse("a buffer with usage STORAGE".into(), format!("{:?}", buffer.usage()));
        }
        let bytes = u64::from(bits / 8);
        if !offset.is_multiple_of(bytes) {
            return self.refuse(format!("an offset that is a multiple of {bytes} bytes"), format!("{offset}"));
        }
        let needed = elements * bytes;
        let available = binding.size.map_or(buffer.size().saturating_sub(offset), std::num::NonZeroU64::get);
        if available < needed {
            return self.refuse(format!("{needed} bytes at offset {offset}"), format!("{available}"));
        }
        let end = (offset + needed).next_multiple_of(4);
        if end > buffer.size() {
            return self.refuse(
                format!("a buffer of at least {end} bytes, whole words for {needed} bytes at offset {offset}"),
                format!("{}", buffer.size()),
            );
        }
        let wide = (offset / bytes).is_multiple_of(4) && row.is_multiple_of(4);
        Ok(Extent { buffer: buffer.clone(), bytes: offset..offset + needed, bits, wide })
    }
}

/// A gradient has its bytes to itself.
fn refuse_overlap(heads: &[HeadExtents]) -> Result<(), Error> {
    for (head, extents) in heads.iter().enumerate() {
        let Some(gradient) = &extents.gradient else { continue };
        for (other_head, others) in heads.iter().enumerate() {
            let other_gradient = others.gradient.as_ref().filter(|_| other_head != head);
            let others = [
                (Tensor::Logits, Some(&others.logits)),
                (Tensor::Target, Some(&others.target)),
                (Tensor::Gradient, other_gradient),
            ];
            for (other, extent) in others {
                let Some(extent) = extent else { continue };
                if extent.overlaps(gradient) {
                    let Range { start: first, end } = gradient.bytes;
                    return Err(Error::Overlapping { head, first, end, other_head, other });
                }
            }
        }
    }
    Ok(())
}

impl Extent {
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }
}

/// The upstream gradient: one f32.
pub(crate) fn check_upstream(binding: &wgpu::BufferBinding<'_>, heads: &[HeadExtents]) -> Result<Extent, Error> {
    let refuse = |expected: String, given: String| Err(Error::Upstream { expected, given });
    let (buffer, offset) = (binding.buffer, binding.offset);
    if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        return refuse("a buffer with usage STORAGE".into(), format!("{:?}", buffer.usage()));
    }
    if !offset.is_multiple_of(4) {
        return refuse("an offset that is a multiple of 4 bytes".into(), format!("{offset}"));
    }
    let available = binding.size.map_or(buffer.size().saturating_sub(offset), std::num::NonZeroU64::get);
    if available < 4 || offset + 4 > buffer.size() {
        return refuse(format!("4 bytes at offset {offset}"), format!("{available}"));
    }
    let extent = Extent { buffer: buffer.clone(), bytes: offset..offset + 4, bits: 32, wide: false };
    if let Some(head) = heads.iter().position(|h| h.gradient.as_ref().is_some_and(|g| g.overlaps(&extent))) {
        return refuse("a scalar outside of every gradient".into(), format!("one inside the gradient of head {head}"));
    }
    Ok(extent)
}
