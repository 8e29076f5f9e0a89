//! What comes back: the total, every sub-loss, every class's Dice, and the voxels that counted.

use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_intrusive::channel::shared::{OneshotReceiver, OneshotSender, oneshot_channel};

use crate::Error;
use crate::plan::Shared;
use crate::plan::layout::{HeadLayout, REPORT_WORDS};
use crate::spec::{HardCounts, Head, OverlapKind};

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

/// Hits and misses of a class, in voxels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// TP: voxels of the class that the network says.
    pub true_positives: u32,
    /// FP: voxels of other classes that it says.
    pub false_positives: u32,
    /// FN: voxels of the class that it misses.
    pub false_negatives: u32,
    /// TN: all others that count.
    pub true_negatives: u32,
}

impl ClassCounts {
    fn ratio(part: u64, whole: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "below 2^34: exact")]
        let ratio = part as f64 / whole as f64;
        ratio
    }

    fn counts(self) -> [u64; 3] {
        [self.true_positives, self.false_positives, self.false_negatives].map(u64::from)
    }

    /// `2 TP / (2 TP + FP + FN)`; NaN for a class that is neither there nor said.
    #[must_use]
    pub fn dice(self) -> f64 {
        let [tp, fp, r#fn] = self.counts();
        Self::ratio(2 * tp, 2 * tp + fp + r#fn)
    }

    /// `TP / (TP + FP + FN)`; NaN for a class that is neither there nor said.
    #[must_use]
    pub fn iou(self) -> f64 {
        let [tp, fp, r#fn] = self.counts();
        Self::ratio(tp, tp + fp + r#fn)
    }

    /// `TP / (TP + FP)`; NaN for a class that is not said.
    #[must_use]
    pub fn precision(self) -> f64 {
        let [tp, fp, _] = self.counts();
        Self::ratio(tp, tp + fp)
    }

    /// `TP / (TP + FN)`; NaN for a class that is not there.
    #[must_use]
    pub fn recall(self) -> f64 {
        let [tp, _, r#fn] = self.counts();
        Self::ratio(tp, tp + r#fn)
    }
}

/// Hits and misses of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemCounts {
    /// One a class.
    pub classes: Vec<ClassCounts>,
    /// Voxels of the item that counted.
    pub counted: u32,
}

/// What of a head is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// Voxels with a logit that is NaN or infinite, voxels that do not count included.
    pub logits: u32,
    /// Whether the gradient, as it is stored in its type, has a NaN or an infinity: of the backward between the step's
    /// forward and the copy of this report; `false` where there was none.
    pub gradient: bool,
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
    /// Hits and misses of each class over the whole batch, where the head has [`hard_counts`](Head::hard_counts).
    pub hard_counts: Option<Vec<ClassCounts>>,
    /// The same of each item, where the head asks for it.
    pub item_counts: Option<Vec<ItemCounts>>,
    /// The overlap term before its reduction, where the head is [`unreduced`](Head::unreduced): of each row (an item, or the
    /// whole batch with `batch`) and each class that takes part, its class weight included; of generalized Dice one a row.
    /// NaN where a row or class takes no part in the mean.
    pub overlap_losses: Option<Vec<Vec<f32>>>,
    /// Whether logits or gradients are not finite, where the head asks with [`check_finite`](Head::check_finite).
    pub non_finite: Option<NonFinite>,
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
    /// Reads what finish.wgsl wrote, and the word that gradient.wgsl sets.
    fn from_words(words: &[u32], heads: &[Head], layouts: &[HeadLayout]) -> Self {
        let heads = heads.iter().zip(layouts).map(|(head, layout)| head_report(words, head, layout)).collect();
        Self { total: f32::from_bits(words[0]), heads }
    }
}

fn head_report(all: &[u32], head: &Head, layout: &HeadLayout) -> HeadReport {
    let (classes, words) = (head.classes(), &all[layout.report as usize..]);
    let term = |at: usize| Term { value: f32::from_bits(words[at]), weighted: f32::from_bits(words[at + 1]) };
    let soft_dice = words[REPORT_WORDS as usize..].iter().take(classes);
    let (counted, out_of_range) = (words[4], words[6]);
    let asked = |first: u32| &all[first as usize..];
    let of_item =
        |words: &[u32]| ItemCounts { classes: class_counts(words, words[3 * classes]), counted: words[3 * classes] };
    let items = || asked(layout.asked.item_counts).chunks(3 * classes + 1).take(head.items()).map(of_item).collect();
    HeadReport {
        overlap: head.loss.overlap.is_some().then(|| term(0)),
        pixel: head.loss.pixel.is_some().then(|| term(2)),
        soft_dice: soft_dice.map(|&word| f32::from_bits(word)).collect(),
        hard_counts: (head.hard_counts != HardCounts::None)
            .then(|| class_counts(&asked(layout.asked.hard_counts)[..3 * classes], counted)),
        item_counts: (head.hard_counts == HardCounts::Item).then(items),
        overlap_losses: (head.unreduced && head.loss.overlap.is_some())
            .then(|| overlap_losses(asked(layout.asked.overlap_losses), head)),
        non_finite: head.check_finite.then(|| NonFinite { logits: words[12], gradient: words[13] != 0 }),
        counted,
        ignored: words[5],
        out_of_range,
        first_out_of_range: (out_of_range > 0).then(|| VoxelPosition { item: words[7], voxel: words[8] }),
        by_weight: f32::from_bits(words[9]),
        by_overlap_weight: f32::from_bits(words[10]),
        by_pixel_weight: f32::from_bits(words[11]),
    }
}

/// TP of each class, then FP, then FN.
fn class_counts(words: &[u32], counted: u32) -> Vec<ClassCounts> {
    let classes = words.len() / 3;
    let of_class = |c: usize| {
        let [tp, fp, r#fn] = [words[c], words[classes + c], words[2 * classes + c]];
        ClassCounts {
            true_positives: tp,
            false_positives: fp,
            false_negatives: r#fn,
            true_negatives: counted - tp - fp - r#fn,
        }
    };
    (0..classes).map(of_class).collect()
}

fn overlap_losses(words: &[u32], head: &Head) -> Vec<Vec<f32>> {
    let Some(overlap) = &head.loss.overlap else { return Vec::new() };
    let rows = if overlap.batch { 1 } else { head.items() };
    let of_row = match overlap.kind {
        OverlapKind::GeneralizedDice { .. } => 1,
        _ => head.classes() - overlap.first_class(head.classes()),
    };
    words.chunks(of_row).take(rows).map(|row| row.iter().map(|&word| f32::from_bits(word)).collect()).collect()
}

/// A staging buffer of the ring, and who has it.
///
/// wgpu maps a buffer also after a submission that failed, with what an earlier one left there. So a ticket travels behind the
/// report, from a buffer of two: the one that the staging buffer has not. Only a copy that took place brings it.
#[derive(Debug)]
pub(crate) struct Staging {
    buffer: wgpu::Buffer,
    state: Mutex<State>,
    /// The ticket of the last copy that took place; 0 before the first.
    ticket: AtomicU32,
}

/// The tickets.
pub(crate) const TICKETS: [u32; 2] = [1, 2];

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
        let buffer = crate::plan::device::buffer(
            device,
            "segloss: report, staging",
            words + 1,
            Usage::MAP_READ | Usage::COPY_DST,
        );
        Self { buffer, state: Mutex::new(State::Free), ticket: AtomicU32::new(0) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.buffer.size()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the buffer, if it is nobody's.
    fn take(&self) -> bool {
        let mut state = self.state();
        match *state {
            State::Stale => self.unmap(),
            State::Free => {}
            _ => return false,
        }
        *state = State::Expected;
        true
    }

    /// Which of the tickets the next copy brings.
    fn next_ticket(&self) -> usize {
        usize::from(self.ticket.load(Ordering::Relaxed) == TICKETS[0])
    }

    /// Unmaps the buffer, with a last look at its ticket.
    fn unmap(&self) {
        if let Ok(view) = self.buffer.get_mapped_range(self.buffer.size() - 4..) {
            self.ticket.store(u32::from_le_bytes([view[0], view[1], view[2], view[3]]), Ordering::Relaxed);
        }
        self.buffer.unmap();
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
    let end = buffer.size() - 4;
    let ticket = staging.next_ticket();
    encoder.copy_buffer_to_buffer(shared.report_buffer(), 0, buffer, 0, end);
    encoder.copy_buffer_to_buffer(shared.tickets(), 4 * ticket as u64, buffer, end, 4);
    let (sender, receiver) = oneshot_channel();
    let mut landing = Landing { staging: Arc::clone(&staging), sender: Some(sender) };
    encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., move |result| {
        landing.land(result.map_err(|error| error.to_string()));
    });
    Ok(PendingReport { shared: Arc::clone(shared), staging, receiver, ticket: TICKETS[ticket] })
}

/// A report on its way. Dropping it unread is fine: its staging buffer returns to the ring.
#[derive(Debug)]
pub struct PendingReport {
    shared: Arc<Shared>,
    staging: Arc<Staging>,
    receiver: OneshotReceiver<Result<(), String>>,
    ticket: u32,
}

impl PendingReport {
    /// Waits for the report. Somebody must poll the device meanwhile: `device.poll(…)` on some thread, or later submissions
    /// of the caller's.
    ///
    /// # Errors
    /// [`Error::ReportLost`] where the encoder was never submitted, its submission failed, or the device is lost.
    pub async fn read(self) -> Result<Report, Error> {
        let landed = self.receiver.receive().await;
        self.finish(landed)
    }

    /// Polls the device until its work so far is done, and reads the report.
    ///
    /// # Errors
    /// [`Error::ReportLost`] where the encoder was not submitted before, its submission failed, or the device is lost.
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
        let words: &[u32] = bytemuck::cast_slice(&view);
        if words.last() != Some(&self.ticket) {
            return Err(lost("the submission of its encoder failed".into()));
        }
        Ok(Report::from_words(words, &self.shared.spec.heads, &self.shared.layout.heads))
    }
}

impl Drop for PendingReport {
    fn drop(&mut self) {
        let mut state = self.staging.state();
        *state = match *state {
            State::Expected => State::Abandoned,
            State::Mapped => {
                self.staging.unmap();
                State::Free
            }
            other => other,
        };
    }
}
