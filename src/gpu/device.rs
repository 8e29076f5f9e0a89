//! Calls to the caller's device, checked in error scopes of their own.

use crate::error::Error;

/// Runs `calls`, and returns wgpu's error where there is one. The error scopes are pushed and popped here, on this
/// thread; the caller's error handler is not touched.
pub(crate) fn checked<T>(device: &wgpu::Device, during: &'static str, calls: impl FnOnce() -> T) -> Result<T, Error> {
    // a lost device or missing memory causes further errors: the cause is reported
    let ((value, is_lost), error) = scoped(device, during, || {
        let value = calls();
        (value, is_lost(device))
    });
    if is_lost { Err(Error::DeviceLost { during }) } else { error.map_or(Ok(value), Err) }
}

/// As [`checked`], but makes nothing on the device where all goes well. wgpu ignores calls to a lost device, and here that
/// is no error: who reads their results learns of it.
#[cfg(feature = "burn")]
pub(crate) fn checked_at_rest<T>(
    device: &wgpu::Device,
    during: &'static str,
    calls: impl FnOnce() -> T,
) -> Result<T, Error> {
    match scoped(device, during, calls) {
        (value, None) => Ok(value),
        (_, Some(error)) => checked(device, during, || ()).and(Err(error)),
    }
}

/// The value of calls, and wgpu's error where there is one.
fn scoped<T>(device: &wgpu::Device, during: &'static str, calls: impl FnOnce() -> T) -> (T, Option<Error>) {
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let value = calls();
    let [internal, memory, validation] = [internal, memory, validation].map(|scope| pollster::block_on(scope.pop()));
    let message = |error: wgpu::Error| error.to_string();
    let error = match (memory, internal.or(validation)) {
        (Some(error), _) => Some(Error::OutOfMemory { during, message: message(error) }),
        (None, Some(error)) => Some(Error::Device { during, message: message(error) }),
        (None, None) => None,
    };
    (value, error)
}

/// Whether the device is lost. wgpu reports that only to a callback, which belongs to the caller; a lost device cannot
/// map a buffer, so we probe with one.
fn is_lost(device: &wgpu::Device) -> bool {
    let probe = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("segloss: probe"),
        size: wgpu::MAP_ALIGNMENT,
        usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: true,
    });
    probe.get_mapped_range_mut(..).is_err()
}

/// A buffer of `words` 32-bit words, at least one.
pub(crate) fn buffer(device: &wgpu::Device, label: &str, words: u32, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size: u64::from(words.max(1)) * 4,
        usage,
        mapped_at_creation: false,
    })
}

/// A buffer with these contents, padded to whole 32-bit words. Where wgpu fails to make it, the contents are not
/// written; [`checked`] returns the error.
pub(crate) fn buffer_with(
    device: &wgpu::Device,
    label: &str,
    contents: &[u8],
    usage: wgpu::BufferUsages,
) -> wgpu::Buffer {
    let size = contents.len().next_multiple_of(4).max(4) as u64;
    let buffer =
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: true });
    if let Ok(mut range) = buffer.get_mapped_range_mut(..) {
        range.slice(..contents.len()).copy_from_slice(contents);
        drop(range);
        buffer.unmap();
    }
    buffer
}

/// How a shader declares a buffer.
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

/// The accesses of binding 0, which is the table of heads, and of the entries behind it.
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

/// A grid of at least `workgroups` in x and y, where one dimension may have at most `limit`.
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
