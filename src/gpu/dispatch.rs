//! A dispatch, ready to encode; and the same as data, to run elsewhere or to attach to a driver bug report.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::device::{Access, Entry, bind_group};
use super::pipelines::Compiled;
use crate::error::Tensor;
use crate::layout::split::DispatchSlots;

/// One dispatch, ready to encode.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    pub bindings: wgpu::BindGroup,
    /// What is bound to bindings 0, 1, 2, … of group 0.
    pub entries: Vec<BoundRange>,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
    /// What its last bindings are of; `None` where it reads none of the caller's tensors.
    pub slots: Option<Box<DispatchSlots>>,
    text: Arc<str>,
    entry_point: &'static str,
}

impl Dispatch {
    /// A dispatch whose binding 0 is the table of heads, and whose others are `entries`.
    pub(crate) fn new<'a>(
        device: &wgpu::Device,
        compiled: &Compiled,
        table: &'a wgpu::Buffer,
        grid: [u32; 2],
        entries: Vec<Entry<'a>>,
    ) -> Self {
        let all: Vec<_> = std::iter::once(Entry::whole(Access::Uniform, table)).chain(entries).collect();
        let ranges: Vec<BoundRange> = all.iter().map(BoundRange::new).collect();
        debug_assert!(aliasing(&ranges).is_none(), "{}: {:?}", compiled.entry, aliasing(&ranges));
        Self {
            pipeline: compiled.pipeline.clone(),
            layout: compiled.layout.clone(),
            bindings: bind_group(device, &format!("segloss: {}", compiled.entry), &compiled.layout, &all),
            entries: ranges,
            grid,
            slots: None,
            text: compiled.text.clone(),
            entry_point: compiled.entry,
        }
    }

    /// The same, whose last bindings are those of tensors.
    pub(crate) fn of_tensors(self, slots: DispatchSlots) -> Self {
        Self { slots: Some(Box::new(slots)), ..self }
    }

    /// Bytes of GPU memory of its table of heads.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries[0].size
    }

    /// The dispatch as data.
    pub(crate) fn recipe(&self, stage: Stage) -> Recipe {
        let mut bindings = self.entries.clone();
        let tensors: Vec<_> = self.slots.iter().flat_map(|slots| slots.tensors()).collect();
        let first = bindings.len() - tensors.len();
        for (binding, tensors) in bindings[first..].iter_mut().zip(tensors) {
            binding.tensors = tensors;
        }
        Recipe { stage, source: self.text.clone(), entry_point: self.entry_point, bindings, grid: self.grid }
    }

    pub(crate) fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        let [x, y] = self.grid;
        pass.dispatch_workgroups(x, y, 1);
    }

    /// Encodes the same pipeline with a table of no heads: the kernel returns at once, and the driver has to compile
    /// it.
    pub(crate) fn encode_no_work(&self, device: &wgpu::Device, pass: &mut wgpu::ComputePass<'_>) {
        let mut entries: Vec<_> = self.entries.iter().map(BoundRange::entry).collect();
        // a new buffer is zero
        let empty = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("segloss: no heads"),
            size: entries[0].binding.buffer.size(),
            usage: wgpu::BufferUsages::UNIFORM,
            mapped_at_creation: false,
        });
        entries[0] = Entry::whole(Access::Uniform, &empty);
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &bind_group(device, "segloss: warm-up", &self.layout, &entries), &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
}

/// Two bindings of a dispatch that WebGPU refuses: their ranges overlap, and one may be written; or one may be written, and
/// the other reads the same buffer by another access. wgpu's own back ends accept the first.
fn aliasing(ranges: &[BoundRange]) -> Option<[&BoundRange; 2]> {
    let refused = |one: &BoundRange, other: &BoundRange| {
        let written = one.access == Access::ReadWrite || other.access == Access::ReadWrite;
        let overlap = one.offset < other.offset + other.size && other.offset < one.offset + one.size;
        one.buffer == other.buffer && written && (overlap || one.access != other.access)
    };
    ranges
        .iter()
        .enumerate()
        .find_map(|(index, one)| ranges[index + 1..].iter().find(|other| refused(one, other)).map(|other| [one, other]))
}

/// The half of a step that a dispatch belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is encoded by [`Step::forward`](crate::Step::forward).
    Forward,
    /// It is encoded by [`Step::backward`](crate::Step::backward).
    Backward,
}

/// A dispatch as data, which any WebGPU program can run.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The half of the step that it belongs to.
    pub stage: Stage,
    /// The WGSL text.
    pub source: Arc<str>,
    /// Its entry point.
    pub entry_point: &'static str,
    /// What is bound to bindings 0, 1, 2, … of group 0.
    pub bindings: Vec<BoundRange>,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
}

/// A range of a buffer that a dispatch reads or writes. The plan's own buffers have `COPY_SRC`: a complete recipe
/// includes their contents before the first dispatch.
#[derive(Clone, Debug)]
pub struct BoundRange {
    /// How the shader declares it.
    pub access: Access,
    /// A buffer of the caller's, of the plan's or of the step's.
    pub buffer: wgpu::Buffer,
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The callers' tensors that lie in it, each with the index of its head; none in a buffer of the plan's or of the step's.
    pub tensors: Vec<(usize, Tensor)>,
}

impl BoundRange {
    fn new(Entry { access, binding }: &Entry<'_>) -> Self {
        Self {
            access: *access,
            buffer: binding.buffer.clone(),
            offset: binding.offset,
            size: binding.size.map_or(binding.buffer.size() - binding.offset, u64::from),
            tensors: Vec::new(),
        }
    }

    pub(crate) fn entry(&self) -> Entry<'_> {
        let size = NonZeroU64::new(self.size);
        let binding = wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size };
        Entry { access: self.access, binding }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::AdapterChoice;
    use crate::gpu::device::buffer;

    #[test]
    fn bindings_that_webgpu_refuses_are_found() {
        let (device, _) = AdapterChoice::default().open().expect("an adapter");
        let [one, other] = [0, 1].map(|_| buffer(&device, "pool", 256, wgpu::BufferUsages::STORAGE));
        let range = |access, buffer: &wgpu::Buffer, offset, size| BoundRange {
            access,
            buffer: buffer.clone(),
            offset,
            size,
            tensors: Vec::new(),
        };
        let is_refused = |ranges: [BoundRange; 2]| aliasing(&ranges).is_some();
        let (read, written) = (Access::Read, Access::ReadWrite);
        assert!(is_refused([range(written, &one, 0, 260), range(written, &one, 256, 64)]), "they overlap");
        assert!(is_refused([range(read, &one, 0, 256), range(written, &one, 256, 64)]), "read and written");
        assert!(!is_refused([range(written, &one, 0, 256), range(written, &one, 256, 64)]), "side by side");
        assert!(!is_refused([range(read, &one, 0, 260), range(read, &one, 256, 64)]), "only read");
        assert!(!is_refused([range(read, &one, 0, 260), range(written, &other, 0, 64)]), "two buffers");
    }
}
