//! What comes back: the total, every sub-loss, every class's Dice, and the voxels that counted.

use std::future::Future as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_intrusive::channel::shared::{OneshotReceiver, OneshotSender, oneshot_channel};

use crate::Error;
use crate::plan::{REPORT_HEAD_WORDS, Shared};
use crate::spec::Head;

/// A loss term of a head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// The term itself.
    pub value: f32,
    /// What it adds to the total: times the head's weight and the term's.
    pub weighted: f32,
}

/// A voxel of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoxelPosition {
    /// The sample.
    pub item: u32,
    /// The row-major index among the sample's voxels.
    pub voxel: u32,
}

/// What was computed of a head.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadReport {
    /// The overlap term, if the head has one.
    pub overlap: Option<Term>,
    /// The pixel term, if the head has one.
    pub pixel: Option<Term>,
    /// `2I / (P + T)` of each class over the whole batch, class 0 included, without smoothing constants: the soft Dice, of
    /// every head whatever its terms. With `squared`, P is a sum of squares. NaN where no voxel counts.
    pub soft_dice: Vec<f32>,
    /// Voxels that counted.
    pub counted: u32,
    /// Voxels with the ignore label.
    pub ignored: u32,
    /// Voxels whose label is neither a class nor the ignore label. They count nowhere; a sign of a wrong label map.
    pub out_of_range: u32,
    /// The first of them.
    pub first_out_of_range: Option<VoxelPosition>,
    /// The derivative of the total by the head's weight.
    pub by_weight: f32,
    /// The derivative of the total by the weight of the overlap term; 0 where the head has none.
    pub by_overlap_weight: f32,
    /// The derivative of the total by the weight of the pixel term; 0 where the head has none.
    pub by_pixel_weight: f32,
}

/// The loss of a step, and all that it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Σ over heads of the weighted terms.
    pub total: f32,
    /// One a head.
    pub heads: Vec<HeadReport>,
}

impl Report {
    /// Reads what finish.wgsl wrote.
    fn from_words(words: &[u32], heads: &[Head]) -> Self {
        let mut first = 1;
        let heads = heads
            .iter()
            .map(|head| {
                let end = first + REPORT_HEAD_WORDS + head.classes();
                let report = head_report(&words[first..end], head);
                first = end;
                report
            })
            .collect();
        Self { total: f32::from_bits(words[0]), heads }
    }
}

fn head_report(words: &[u32], head: &Head) -> HeadReport {
    let term = |at: usize| Term { value: f32::from_bits(words[at]), weighted: f32::from_bits(words[at + 1]) };
    let out_of_range = words[6];
    HeadReport {
        overlap: head.loss.overlap.is_some().then(|| term(0)),
        pixel: head.loss.pixel.is_some().then(|| term(2)),
        soft_dice: words[REPORT_HEAD_WORDS..].iter().map(|&word| f32::from_bits(word)).collect(),
        counted: words[4],
        ignored: words[5],
        out_of_range,
        first_out_of_range: (out_of_range > 0).then(|| VoxelPosition { item: words[7], voxel: words[8] }),
        by_weight: f32::from_bits(words[9]),
        by_overlap_weight: f32::from_bits(words[10]),
        by_pixel_weight: f32::from_bits(words[11]),
    }
}

/// A staging buffer of the ring, and who has it.
#[derive(Debug)]
pub(crate) struct Staging {
    buffer: wgpu::Buffer,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// A copy is encoded or under way, and somebody waits for it.
    Expected,
    /// As before, but nobody waits any more.
    Abandoned,
    /// Mapped: its report is unread.
    Mapped,
    /// Mapped, and nobody wants it: to be unmapped before its next use.
    Stale,
}

impl Staging {
    pub(crate) fn new(device: &wgpu::Device, words: u32) -> Self {
        use wgpu::BufferUsages as Usage;
        let buffer =
            crate::plan::device::buffer(device, "segloss: report, staging", words, Usage::MAP_READ | Usage::COPY_DST);
        Self { buffer, state: Mutex::new(State::Free) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the buffer, if it is nobody's.
    fn take(&self) -> bool {
        let mut state = self.state();
        match *state {
            State::Stale => self.buffer.unmap(),
            State::Free => {}
            _ => return false,
        }
        *state = State::Expected;
        true
    }
}

/// Carried by the mapping's callback: says how it went, also when the callback is dropped without a call because the
/// encoder was never submitted.
struct Landing {
    staging: Arc<Staging>,
    sender: Option<OneshotSender<Result<(), String>>>,
}

impl Landing {
    fn land(&mut self, result: Result<(), String>) {
        let Some(sender) = self.sender.take() else { return };
        let mut state = self.staging.state();
        *state = match (*state, result.is_ok()) {
            (State::Abandoned, true) => State::Stale,
            (_, true) => State::Mapped,
            (_, false) => State::Free,
        };
        drop(state);
        // nobody listening is no fault: the report was dropped
        let _ = sender.send(result);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.land(Err(
            "the encoder that copies it was dropped without being submitted, or its submission failed".into()
        ));
    }
}

pub(crate) fn encode_report(shared: &Arc<Shared>, encoder: &mut wgpu::CommandEncoder) -> Result<PendingReport, Error> {
    let staging = shared.staging.iter().find(|staging| staging.take());
    let staging = Arc::clone(staging.ok_or(Error::ReportsUnread { ring: shared.staging.len() })?);
    let buffer = &staging.buffer;
    encoder.copy_buffer_to_buffer(shared.report_buffer(), 0, buffer, 0, buffer.size());
    let (sender, receiver) = oneshot_channel();
    let mut landing = Landing { staging: Arc::clone(&staging), sender: Some(sender) };
    encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., move |result| {
        landing.land(result.map_err(|error| error.to_string()));
    });
    Ok(PendingReport { shared: Arc::clone(shared), staging, receiver })
}

/// A report on its way. Dropping it unread is fine: its staging buffer returns to the ring.
#[derive(Debug)]
pub struct PendingReport {
    shared: Arc<Shared>,
    staging: Arc<Staging>,
    receiver: OneshotReceiver<Result<(), String>>,
}

impl PendingReport {
    /// Waits for the report. Somebody must poll the device meanwhile: `device.poll(…)` on some thread, or later submissions
    /// of the caller's.
    ///
    /// # Errors
    /// [`Error::ReportLost`] where the encoder was never submitted or the device is lost.
    pub async fn read(self) -> Result<Report, Error> {
        let landed = self.receiver.receive().await;
        self.finish(landed)
    }

    /// Polls the device until its work so far is done, and reads the report.
    ///
    /// # Errors
    /// [`Error::ReportLost`] where the encoder was not submitted before, or the device is lost.
    pub fn read_blocking(self) -> Result<Report, Error> {
        let lost = |message: String| Error::ReportLost { message };
        self.shared.device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| lost(error.to_string()))?;
        let mut receive = pin!(self.receiver.receive());
        let Poll::Ready(landed) = receive.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            return Err(lost("its encoder is not submitted: submit it before reading".into()));
        };
        self.finish(landed)
    }

    fn finish(&self, landed: Option<Result<(), String>>) -> Result<Report, Error> {
        let lost = |message: String| Error::ReportLost { message };
        landed.unwrap_or_else(|| Err("its callback is gone".into())).map_err(lost)?;
        let view = self.staging.buffer.get_mapped_range(..).map_err(|error| lost(error.to_string()))?;
        Ok(Report::from_words(bytemuck::cast_slice(&view), &self.shared.spec.heads))
    }
}

impl Drop for PendingReport {
    fn drop(&mut self) {
        let mut state = self.staging.state();
        *state = match *state {
            State::Expected => State::Abandoned,
            State::Mapped => {
                self.staging.buffer.unmap();
                State::Free
            }
            other => other,
        };
    }
}
