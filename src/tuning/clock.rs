//! Measures how long an adapter takes for commands.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::gpu::device::checked;

/// Measures the time of commands on a device.
#[derive(Debug)]
pub struct Clock {
    /// The device that is timed.
    pub device: wgpu::Device,
    /// The queue that timed commands are submitted to.
    pub queue: wgpu::Queue,
    /// Whether the driver is a software driver.
    pub software: bool,
    timestamps: Option<Timestamps>,
}

/// Which clock the times of a [`Clock`] come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockKind {
    /// The GPU's timestamps at the beginning and the end of a compute pass.
    Timestamps,
    /// The host's clock, from submission to an idle device: the device lacks timestamps, or is a software driver.
    Wall,
    /// The host's clock as well: the device has timestamps, but three pairs of them were not times.
    TimestampsGivenUp,
}

/// As in result files: `timestamps`, `wall`, or `wall: the device's timestamps are not times`.
impl fmt::Display for ClockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timestamps => "timestamps",
            Self::Wall => "wall",
            Self::TimestampsGivenUp => "wall: the device's timestamps are not times",
        })
    }
}

/// Two timestamp queries around a compute pass, and the buffers for their results.
#[derive(Debug)]
struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    host: wgpu::Buffer,
    period: f64,
    trust: Trust,
}

/// A pair of timestamps, and the host's time for the same commands.
struct Reading {
    /// At the beginning and the end of the compute pass.
    ticks: [u64; 2],
    /// From before the submission to an idle device.
    waited: Duration,
}

/// Whether the timestamps are trusted. A single bad pair may be a counter that wrapped; after [`MOST_BAD_PAIRS`] of
/// them the driver's timestamps are not times.
#[derive(Debug, Default)]
struct Trust {
    bad_pairs: AtomicU32,
}

/// Encodes the commands of a compute pass.
pub type Encode<'a> = dyn Fn(&mut wgpu::ComputePass<'_>) + 'a;

/// Bad pairs of timestamps after which the host's clock is used.
const MOST_BAD_PAIRS: u32 = 3;
/// The largest time by timestamps, relative to the host's wait. Above 1, because the two clocks drift, and a driver's
/// timestamp period is rounded.
const MOST_OVER_WAIT: f64 = 1.01;
/// Added to that, in nanoseconds: a coarse host clock advances in steps of this length.
const HOST_STEP: f64 = 1e6;

/// `during` of this module's errors.
const DURING: &str = "timing";

impl Clock {
    /// A clock for a device: the GPU's timestamps where it has [`wgpu::Features::TIMESTAMP_QUERY`] and is not a
    /// software driver, else the host's clock.
    #[must_use]
    pub fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let software = device.adapter_info().device_type == wgpu::DeviceType::Cpu;
        // a software driver's timestamps come from its queue thread; what a user waits for is the host's time
        let has = device.features().contains(wgpu::Features::TIMESTAMP_QUERY) && !software;
        let timestamps = has.then(|| Timestamps::new(&device, f64::from(queue.get_timestamp_period())));
        Self { device, queue, software, timestamps }
    }

    /// Which clock is used from here on. With bad timestamps it changes once, during a call of [`time`](Self::time),
    /// which then returns the first time of the host's clock.
    #[must_use]
    pub fn kind(&self) -> ClockKind {
        match &self.timestamps {
            Some(timestamps) if timestamps.trust.is_lost() => ClockKind::TimestampsGivenUp,
            Some(_) => ClockKind::Timestamps,
            None => ClockKind::Wall,
        }
    }

    /// Nanoseconds of a compute pass: by the GPU's timestamps, or by the host's clock from submission to an idle
    /// device. Waits for the device. Where a pair of timestamps is not a time, the pass is encoded and run again; after
    /// three such pairs in the life of this clock the host's clock is used.
    ///
    /// # Errors
    /// [`Error::Device`] where wgpu refuses, or the device is lost.
    pub fn time(&self, encode: &Encode<'_>) -> Result<f64, Error> {
        if let Some(timestamps) = &self.timestamps
            && let Some(time) = timestamps.trust.time(timestamps.period, || self.read(timestamps, encode))?
        {
            return Ok(time);
        }
        self.wall(|encoder| encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default())))
    }

    /// Nanoseconds of commands outside a compute pass, such as a copy, by the host's clock: from submission to an idle
    /// device.
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

    fn read(&self, timestamps: &Timestamps, encode: &Encode<'_>) -> Result<Reading, Error> {
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
        let commands = encoder.finish();
        let start = Instant::now();
        self.queue.submit([commands]);
        self.wait()?;
        let waited = start.elapsed();
        let view = timestamps.host.get_mapped_range(..).map_err(device_error)?;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view);
        drop(view);
        timestamps.host.unmap();
        Ok(Reading { ticks: [ticks[0], ticks[1]], waited })
    }

    fn wait(&self) -> Result<(), Error> {
        self.device.poll(wgpu::PollType::wait_indefinitely()).map(|_| ()).map_err(device_error)
    }
}

impl Timestamps {
    /// For a device with the feature. `period`: nanoseconds per tick of its timestamps.
    fn new(device: &wgpu::Device, period: f64) -> Self {
        let buffer = |usage| {
            let descriptor = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
            device.create_buffer(&descriptor)
        };
        let queries = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 };
        Self {
            queries: device.create_query_set(&queries),
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            host: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            period,
            trust: Trust::default(),
        }
    }
}

impl Trust {
    /// Nanoseconds of the first reading that is a time. `None` once the timestamps are given up; from then on nothing
    /// is read.
    fn time(&self, period: f64, mut read: impl FnMut() -> Result<Reading, Error>) -> Result<Option<f64>, Error> {
        while !self.is_lost() {
            let time = elapsed(&read()?, period);
            if time.is_some() {
                return Ok(time);
            }
            self.bad_pairs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(None)
    }

    fn is_lost(&self) -> bool {
        self.bad_pairs.load(Ordering::Relaxed) >= MOST_BAD_PAIRS
    }
}

/// Nanoseconds between two timestamps; `None` where they are not a time. Some drivers write none of the two, or one, or
/// leave an earlier one; a counter of few bits wraps. A time of 0 is not a time either: nothing can be divided by it.
fn elapsed(reading: &Reading, period: f64) -> Option<f64> {
    let &Reading { ticks: [begin, end], waited } = reading;
    if begin == 0 || end == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "what is beyond 2^53 ticks is refused below")]
    let nanoseconds = end.checked_sub(begin)? as f64 * period;
    let most = waited.as_secs_f64() * 1e9 * MOST_OVER_WAIT + HOST_STEP;
    (nanoseconds > 0.0 && nanoseconds <= most).then_some(nanoseconds)
}

fn device_error(error: impl std::fmt::Display) -> Error {
    Error::Device { during: DURING, message: error.to_string() }
}

#[cfg(test)]
impl Clock {
    /// A clock whose timestamps are longer than any wait; on a software driver as well.
    pub(super) fn with_bad_timestamps(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let timestamps = Some(Timestamps::new(&device, f64::INFINITY));
        Self { device, queue, software: false, timestamps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: f64 = 40.0;
    /// A pair that is a time: 80 ns.
    const GOOD: [u64; 2] = [7, 9];
    /// Pairs that some drivers write and that are not times: nothing, one of the two, in reverse, a 36-bit counter that
    /// wrapped, an earlier pass's beginning, and two equal ones.
    const BAD: [[u64; 2]; 8] =
        [[0, 0], [7, 0], [0, 9], [9, 7], [(1 << 36) - 3, 2], [1, 5_000_000_000_000], [1, u64::MAX], [7, 7]];

    fn after_a_millisecond(ticks: [u64; 2]) -> Reading {
        Reading { ticks, waited: Duration::from_millis(1) }
    }

    /// What [`Trust::time`] returns where the device writes these pairs one after another, and how many of them it
    /// reads.
    fn fed(trust: &Trust, pairs: &[[u64; 2]]) -> (Option<f64>, usize) {
        let mut left = pairs.iter();
        let time = trust.time(PERIOD, || Ok(after_a_millisecond(*left.next().expect("one more pair"))));
        (time.expect("no error"), pairs.len() - left.len())
    }

    #[test]
    fn zeros_backward_wrapped_and_garbage_timestamps_are_not_times() {
        for pair in BAD {
            assert_eq!(elapsed(&after_a_millisecond(pair), PERIOD), None, "{pair:?}");
        }
        assert_eq!(elapsed(&after_a_millisecond(GOOD), PERIOD), Some(80.0));
    }

    #[test]
    fn a_pass_takes_no_longer_by_timestamps_than_the_host_waited() {
        let of = |ticks: u64, waited| elapsed(&Reading { ticks: [1, 1 + ticks], waited }, 1.0);
        let second = Duration::from_secs(1);
        assert_eq!(of(1_000_000_000, second), Some(1e9));
        assert_eq!(of(1_005_000_000, second), Some(1.005e9), "the clocks drift");
        assert_eq!(of(1_020_000_000, second), None);
        assert_eq!(of(900_000, Duration::ZERO), Some(9e5), "a coarse host clock");
        assert_eq!(of(1_100_000, Duration::ZERO), None);
    }

    #[test]
    fn a_period_that_is_not_a_number_of_nanoseconds_makes_no_time() {
        for period in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(elapsed(&after_a_millisecond(GOOD), period), None, "{period}");
        }
    }

    #[test]
    fn a_bad_pair_is_measured_again_and_the_third_gives_the_timestamps_up() {
        let trust = Trust::default();
        assert_eq!(fed(&trust, &[GOOD]), (Some(80.0), 1));
        assert_eq!(fed(&trust, &[[0, 9], GOOD]), (Some(80.0), 2));
        assert_eq!(fed(&trust, &[[9, 7], GOOD]), (Some(80.0), 2));
        assert!(!trust.is_lost());
        // the third bad pair in the life of the clock, however many good ones were between them
        assert_eq!(fed(&trust, &[[0, 0], GOOD]), (None, 1));
        assert!(trust.is_lost());
        assert_eq!(fed(&trust, &[GOOD]), (None, 0), "nothing is read any more");
    }

    #[test]
    fn a_device_whose_timestamps_are_never_times_is_given_up_in_the_first_call() {
        let trust = Trust::default();
        assert_eq!(fed(&trust, &BAD), (None, 3));
        assert!(trust.is_lost());
    }

    #[test]
    fn an_error_while_reading_is_no_bad_pair() {
        let trust = Trust::default();
        for _ in 0..5 {
            assert_eq!(trust.time(PERIOD, || Err(device_error("lost"))), Err(device_error("lost")));
        }
        assert!(!trust.is_lost());
    }

    #[test]
    fn a_clock_that_gave_the_timestamps_up_says_so() {
        let named = [ClockKind::Timestamps, ClockKind::Wall, ClockKind::TimestampsGivenUp].map(|kind| kind.to_string());
        assert_eq!(named, ["timestamps", "wall", "wall: the device's timestamps are not times"]);
    }
}
