//! Readback from the device to the host: a ring of staging buffers, and the state of each.

use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_intrusive::channel::shared::{OneshotReceiver, OneshotSender, oneshot_channel};

use super::device::{buffer, buffer_with};

/// Staging buffers of a new ring: how many copies may be pending or unread at once.
const RING: usize = 4;

/// How long to wait for a callback that another thread's poll may have taken and not called yet.
const CALLBACK: Duration = Duration::from_secs(1);

/// The tickets, see [`Staging`].
const TICKETS: [u32; 2] = [1, 2];

/// Staging buffers of one size, for one kind of readback.
#[derive(Debug)]
pub(crate) struct Ring {
    #[cfg(feature = "burn")]
    made_of: (&'static str, u32),
    buffers: Mutex<Vec<Arc<Staging>>>,
    tickets: wgpu::Buffer,
}

impl Ring {
    pub(crate) fn new(device: &wgpu::Device, label: &'static str, words: u32) -> Self {
        let tickets = bytemuck::cast_slice(&TICKETS);
        let buffers = (0..RING).map(|_| Arc::new(Staging::new(device, label, words))).collect();
        let tickets = buffer_with(device, "segloss: tickets", tickets, wgpu::BufferUsages::COPY_SRC);
        Self {
            #[cfg(feature = "burn")]
            made_of: (label, words),
            buffers: Mutex::new(buffers),
            tickets,
        }
    }

    fn buffers(&self) -> MutexGuard<'_, Vec<Arc<Staging>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.buffers().len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.tickets.size() + self.buffers().iter().map(|staging| staging.buffer.size()).sum::<u64>()
    }

    /// Adds a staging buffer.
    #[cfg(feature = "burn")]
    pub(crate) fn grow(&self, device: &wgpu::Device) {
        let (label, words) = self.made_of;
        self.buffers().push(Arc::new(Staging::new(device, label, words)));
    }

    /// Takes a free staging buffer; `None` where there is none. `copy` encodes the copy of the words to it, and the
    /// encoder's submission maps it.
    pub(crate) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        copy: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer),
    ) -> Option<Words> {
        let staging = Arc::clone(self.buffers().iter().find(|staging| staging.take())?);
        let buffer = &staging.buffer;
        copy(encoder, buffer);
        let ticket = staging.next_ticket();
        encoder.copy_buffer_to_buffer(&self.tickets, 4 * ticket as u64, buffer, buffer.size() - 4, 4);
        let (sender, receiver) = oneshot_channel();
        let mut landing = Landing { staging: Arc::clone(&staging), sender: Some(sender) };
        encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, .., move |result| {
            landing.land(result.map_err(|error| error.to_string()));
        });
        Some(Words { staging, receiver, ticket: TICKETS[ticket] })
    }
}

/// A staging buffer of the ring, and its state.
///
/// wgpu maps a buffer also after a submission that failed; it then holds the words of an earlier one. To detect that,
/// each copy also writes a ticket behind the words: of the two tickets, the one that is not in the buffer. Only a copy
/// that took place changes it.
#[derive(Debug)]
struct Staging {
    buffer: wgpu::Buffer,
    state: Mutex<State>,
    /// The ticket of the last copy that took place; 0 before the first.
    ticket: AtomicU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// A copy is encoded or under way, and its [`Words`] still exist.
    Expected,
    /// A copy is encoded or under way, and its [`Words`] were dropped.
    Abandoned,
    /// Mapped, and its [`Words`] still exist.
    Mapped,
    /// Mapped, and its [`Words`] were dropped: to be unmapped before its next use.
    Stale,
}

impl Staging {
    fn new(device: &wgpu::Device, label: &str, words: u32) -> Self {
        use wgpu::BufferUsages as Usage;
        let buffer = buffer(device, label, words + 1, Usage::MAP_READ | Usage::COPY_DST);
        Self { buffer, state: Mutex::new(State::Free), ticket: AtomicU32::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the buffer, if it is free.
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

    /// The index of the ticket that the next copy writes: the one that is not in the buffer.
    fn next_ticket(&self) -> usize {
        usize::from(self.ticket.load(Ordering::Relaxed) == TICKETS[0])
    }

    /// Unmaps the buffer, and notes its ticket first.
    fn unmap(&self) {
        // the whole buffer: a mapped range must begin at a multiple of 8 bytes, and the ticket may not
        if let Ok(view) = self.buffer.get_mapped_range(..) {
            let words: &[u32] = bytemuck::cast_slice(&view);
            self.ticket.store(words.last().copied().unwrap_or_default(), Ordering::Relaxed);
        }
        self.buffer.unmap();
    }
}

/// Owned by the mapping's callback. Reports the outcome also where the callback is dropped without a call, because the
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
        // fails where the words were dropped, which is allowed
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

/// Words on their way. Dropping it unread is fine: its staging buffer returns to the ring.
#[derive(Debug)]
pub(crate) struct Words {
    staging: Arc<Staging>,
    receiver: OneshotReceiver<Result<(), String>>,
    ticket: u32,
}

impl Words {
    /// Waits for the words, and reads them; another thread must poll the device meanwhile. The error is why they were
    /// lost.
    pub(crate) async fn read<T>(self, read: impl FnOnce(&[u32]) -> T) -> Result<T, String> {
        let landed = self.receiver.receive().await;
        self.finish(landed, read)
    }

    /// Polls the device until all submitted work is done, and reads the words.
    pub(crate) fn read_blocking<T>(self, device: &wgpu::Device, read: impl FnOnce(&[u32]) -> T) -> Result<T, String> {
        let begun = Instant::now();
        loop {
            device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| error.to_string())?;
            if let Poll::Ready(landed) = self.landed() {
                return self.finish(landed, read);
            }
            // another thread's poll may have taken the callback, and not called it yet
            if begun.elapsed() > CALLBACK {
                return Err("its encoder is not submitted: submit it before reading".into());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// The words if they have arrived, else `None`. Polls the device once, and does not wait.
    pub(crate) fn try_read<T>(
        &self,
        device: &wgpu::Device,
        read: impl FnOnce(&[u32]) -> T,
    ) -> Result<Option<T>, String> {
        device.poll(wgpu::PollType::Poll).map_err(|error| error.to_string())?;
        // arrived: first seen here, or read before
        if *self.staging.state() == State::Mapped {
            return self.view(read).map(Some);
        }
        match self.landed() {
            Poll::Ready(landed) => self.finish(landed, read).map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// The result of the mapping's callback, if it was called.
    fn landed(&self) -> Poll<Option<Result<(), String>>> {
        pin!(self.receiver.receive()).as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn finish<T>(&self, landed: Option<Result<(), String>>, read: impl FnOnce(&[u32]) -> T) -> Result<T, String> {
        landed.unwrap_or_else(|| Err("its callback is gone".into()))?;
        self.view(read)
    }

    fn view<T>(&self, read: impl FnOnce(&[u32]) -> T) -> Result<T, String> {
        let view = self.staging.buffer.get_mapped_range(..).map_err(|error| error.to_string())?;
        let words: &[u32] = bytemuck::cast_slice(&view);
        match words.split_last() {
            Some((ticket, words)) if *ticket == self.ticket => Ok(read(words)),
            _ => Err("the submission of its encoder failed".into()),
        }
    }
}

impl Drop for Words {
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
