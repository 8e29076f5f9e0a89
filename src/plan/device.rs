//! Calls to the caller's device: each checked in the call that makes it, in a scope of its own.

use wgpu::util::DeviceExt as _;

use crate::Error;

/// Runs `calls`, and returns what wgpu says against them. Scopes are opened and popped here, on this thread, and no global
/// handler is touched.
pub(crate) fn checked<T>(device: &wgpu::Device, during: &'static str, calls: impl FnOnce() -> T) -> Result<T, Error> {
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let value = calls();
    let errors =
        [pollster::block_on(internal.pop()), pollster::block_on(memory.pop()), pollster::block_on(validation.pop())];
    match errors.into_iter().flatten().next() {
        Some(error) => Err(Error::Device { during, message: error.to_string() }),
        None => Ok(value),
    }
}

/// A buffer of `words` words, at least one.
pub(crate) fn buffer(device: &wgpu::Device, label: &str, words: u32, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: u64::from(words.max(1)) * 4,
        usage,
        mapped_at_creation: false,
    })
}

/// A buffer with these contents.
pub(crate) fn buffer_with(
    device: &wgpu::Device,
    label: &str,
    contents: &[u8],
    usage: wgpu::BufferUsages,
) -> wgpu::Buffer {
    device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: Some(label), contents, usage })
}

/// How a shader sees a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<uniform>`
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// One entry of a bind group.
pub(crate) struct Entry<'a> {
    pub access: Access,
    pub binding: wgpu::BufferBinding<'a>,
}

impl<'a> Entry<'a> {
    pub(crate) fn whole(access: Access, buffer: &'a wgpu::Buffer) -> Self {
        Self { access, binding: buffer.as_entire_buffer_binding() }
    }
}

/// How a shader sees the table of heads, binding 0, and the entries behind it.
pub(crate) fn accesses(entries: &[Entry<'_>]) -> Vec<Access> {
    std::iter::once(Access::Uniform).chain(entries.iter().map(|entry| entry.access)).collect()
}

/// The layout of bindings 0, 1, 2, …
pub(crate) fn bind_group_layout(
    device: &wgpu::Device,
    label: &str,
    accesses: impl IntoIterator<Item = Access>,
) -> wgpu::BindGroupLayout {
    let entries: Vec<_> = (0..)
        .zip(accesses)
        .map(|(binding, access)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
}

/// Binds buffers 0, 1, 2, …
pub(crate) fn bind_group(
    device: &wgpu::Device,
    label: &str,
    layout: &wgpu::BindGroupLayout,
    entries: &[Entry<'_>],
) -> wgpu::BindGroup {
    let entries: Vec<_> = (0..)
        .zip(entries)
        .map(|(binding, entry)| wgpu::BindGroupEntry {
            binding,
            resource: wgpu::BindingResource::Buffer(entry.binding.clone()),
        })
        .collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries: &entries })
}

/// A grid of at least `workgroups`, folded into y where it is longer than the device's limit.
pub(crate) fn grid(workgroups: u32, limit: u32) -> [u32; 2] {
    let y = workgroups.div_ceil(limit).max(1);
    [workgroups.div_ceil(y).max(1), y]
}

#[cfg(test)]
mod tests {
    use super::grid;

    #[test]
    fn a_long_grid_is_folded_and_none_of_it_is_lost() {
        for workgroups in [1, 2, 65_535, 65_536, 131_071, 1_000_003, u32::MAX / 2] {
            let [x, y] = grid(workgroups, 65_535);
            assert!(x <= 65_535 && y <= 65_535, "{workgroups}: {x} × {y}");
            assert!(u64::from(x) * u64::from(y) >= u64::from(workgroups), "{workgroups}: {x} × {y}");
        }
    }
}
