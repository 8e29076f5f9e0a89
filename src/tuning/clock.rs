//! How long an adapter takes for some commands.

use std::time::Instant;

use crate::Error;
use crate::plan::device::checked;

/// An open adapter, and how its time is read.
#[derive(Debug)]
pub struct Clock {
    /// The device whose time it is.
    pub device: wgpu::Device,
    /// Its queue: what is timed is submitted here.
    pub queue: wgpu::Queue,
    /// Whether the driver is a software driver.
    pub software: bool,
    timestamps: Option<Timestamps>,
}

/// Two queries around a compute pass, and where their results go.
#[derive(Debug)]
struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    host: wgpu::Buffer,
    period: f64,
}

/// Commands of a compute pass.
pub type Encode<'a> = dyn Fn(&mut wgpu::ComputePass<'_>) + 'a;

/// What errors say was being done.
const DURING: &str = "timing";

impl Clock {
    /// A clock for a device: the GPU's timestamps where it has [`wgpu::Features::TIMESTAMP_QUERY`], else the wall's.
    #[must_use]
    pub fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let software = device.adapter_info().device_type == wgpu::DeviceType::Cpu;
        // a software driver's timestamps are those of its queue thread: the wall is what a user waits for
        let has = device.features().contains(wgpu::Features::TIMESTAMP_QUERY) && !software;
        let timestamps = has.then(|| {
            let buffer = |usage| {
                let descriptor = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
                device.create_buffer(&descriptor)
            };
            Timestamps {
                queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: None,
                    ty: wgpu::QueryType::Timestamp,
                    count: 2,
                }),
                resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
                host: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
                period: f64::from(queue.get_timestamp_period()),
            }
        });
        Self { device, queue, software, timestamps }
    }

    /// What the times are: `timestamps` or `wall`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.timestamps.is_some() { "timestamps" } else { "wall" }
    }

    /// Nanoseconds of a compute pass: by the GPU's timestamps where it has them, else from submission to an idle device.
    /// Waits for the device.
    ///
    /// # Errors
    /// [`Error::Device`] where wgpu refuses, or the device is lost.
    pub fn time(&self, encode: &Encode<'_>) -> Result<f64, Error> {
        match &self.timestamps {
            Some(timestamps) => self.timestamped(timestamps, encode),
            None => {
                self.wall(|encoder| encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default())))
            }
        }
    }

    /// Nanoseconds of commands that are no compute pass, such as a copy: from submission to an idle device.
    ///
    /// # Errors
    /// As [`time`](Self::time).
    pub fn wall(&self, encode: impl Fn(&mut wgpu::CommandEncoder)) -> Result<f64, Error> {
        checked(&self.device, DURING, || {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encode(&mut encoder);
            let commands = encoder.finish();
            let start = Instant::now();
            self.queue.submit([commands]);
            self.wait()?;
            Ok(start.elapsed().as_secs_f64() * 1e9)
        })?
    }

    fn timestamped(&self, timestamps: &Timestamps, encode: &Encode<'_>) -> Result<f64, Error> {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &timestamps.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        };
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) };
        encode(&mut encoder.begin_compute_pass(&descriptor));
        encoder.resolve_query_set(&timestamps.queries, 0..2, &timestamps.resolved, 0);
        encoder.copy_buffer_to_buffer(&timestamps.resolved, 0, &timestamps.host, 0, 16);
        encoder.map_buffer_on_submit(&timestamps.host, wgpu::MapMode::Read, .., |_| {});
        self.queue.submit([encoder.finish()]);
        self.wait()?;
        let view = timestamps.host.get_mapped_range(..).map_err(device_error)?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        timestamps.host.unmap();
        elapsed([ticks[0], ticks[1]], timestamps.period)
    }

    fn wait(&self) -> Result<(), Error> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ()).map_err(device_error)
    }
}

/// Nanoseconds between two timestamps. Some drivers write none, or write them out of order: no time at all is never an answer.
fn elapsed([begin, end]: [u64; 2], period: f64) -> Result<f64, Error> {
    if end == 0 {
        return Err(device_error("the device's timestamps read zero"));
    }
    let ticks = end.checked_sub(begin).ok_or_else(|| device_error("the device's timestamps run backwards"))?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 ticks")]
    let nanoseconds = ticks as f64 * period;
    Ok(nanoseconds)
}

fn device_error(error: impl std::fmt::Display) -> Error {
    Error::Device { during: DURING, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::elapsed;

    #[test]
    fn timestamps_that_read_zero_or_run_backwards_are_an_error() {
        assert!(elapsed([0, 0], 1.0).unwrap_err().to_string().contains("read zero"));
        assert!(elapsed([7, 0], 1.0).unwrap_err().to_string().contains("read zero"));
        assert!(elapsed([7, 6], 1.0).unwrap_err().to_string().contains("run backwards"));
        assert!(elapsed([7, 9], 40.0).is_ok_and(|nanoseconds| (nanoseconds - 80.0).abs() < 1e-9));
    }
}
