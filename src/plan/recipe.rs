//! A step as data: the text, bindings and grid of every dispatch, to run elsewhere or to hand to a driver's developer.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::device::{Access, Entry};
use super::pipelines::Compiled;

/// A dispatch as data: a WebGPU program can run it.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// WGSL.
    pub source: Arc<str>,
    /// Its entry point.
    pub entry_point: &'static str,
    /// What is bound to bindings 0, 1, 2, … of group 0.
    pub bindings: Vec<BoundRange>,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
}

/// A range of a buffer that a dispatch sees. The plan's own buffers can be copied from, so that what they hold before the
/// first dispatch makes the recipe whole.
#[derive(Clone, Debug)]
pub struct BoundRange {
    /// How.
    pub access: Access,
    /// The caller's, or the plan's.
    pub buffer: wgpu::Buffer,
    /// Its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl BoundRange {
    pub(crate) fn entry(&self) -> Entry<'_> {
        let size = NonZeroU64::new(self.size);
        let binding = wgpu::BufferBinding { buffer: &self.buffer, offset: self.offset, size };
        Entry { access: self.access, binding }
    }
}

impl Recipe {
    pub(super) fn new(compiled: &Compiled, entries: Vec<Entry<'_>>, grid: [u32; 2]) -> Self {
        let bound = |Entry { access, binding }: Entry<'_>| BoundRange {
            access,
            buffer: binding.buffer.clone(),
            offset: binding.offset,
            size: binding.size.map_or(binding.buffer.size() - binding.offset, u64::from),
        };
        Self {
            source: compiled.text.clone(),
            entry_point: compiled.entry,
            bindings: entries.into_iter().map(bound).collect(),
            grid,
        }
    }
}
