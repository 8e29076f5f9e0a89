//! Reports and global sums on their way to the host: copied to a staging buffer, and read when they have arrived.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::Error;
use crate::gpu::staging::{Ring, Words};
use crate::layout::heads::Heads;

/// Something that the device writes as words.
pub(crate) trait Arrives: Sized {
    fn from_words(words: &[u32], of: &Heads) -> Result<Self, Error>;
    /// The error of words that never arrive.
    fn lost(message: String) -> Error;
    /// The error of a ring whose staging buffers are all unread.
    fn unread(ring: usize) -> Error;
}

/// The staging buffers for one kind of readback, shared by a plan's steps.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    pub(super) device: wgpu::Device,
    of: Arc<Heads>,
    ring: Ring,
    kind: PhantomData<fn() -> T>,
}

impl<T: Arrives> Mailbox<T> {
    pub(crate) fn new(device: &wgpu::Device, label: &'static str, words: u32, of: &Arc<Heads>) -> Self {
        let ring = Ring::new(device, label, words);
        Self { device: device.clone(), of: Arc::clone(of), ring, kind: PhantomData }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.ring.bytes()
    }

    /// Makes room for one more value that is pending or unread.
    #[cfg(feature = "burn")]
    pub(crate) fn grow(&self) {
        self.ring.grow(&self.device);
    }

    pub(super) fn of(&self) -> &Heads {
        &self.of
    }

    pub(super) fn copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        copy: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer),
    ) -> Result<Pending<T>, Error> {
        let words = self.ring.encode(encoder, copy).ok_or_else(|| T::unread(self.ring.len()))?;
        Ok(Pending { device: self.device.clone(), of: Arc::clone(&self.of), words, kind: PhantomData })
    }
}

/// A [`Report`](super::Report), or a rank's [`GlobalSums`](super::GlobalSums), on its way to the host. Dropping it unread is fine: its
/// staging buffer becomes free.
pub struct Pending<T> {
    device: wgpu::Device,
    of: Arc<Heads>,
    words: Words,
    kind: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("words", &self.words).finish_non_exhaustive()
    }
}

#[expect(private_bounds, reason = "of reports and global sums alone")]
impl<T: Arrives> Pending<T> {
    /// Waits until it has arrived. The caller must poll the device meanwhile: with `device.poll(…)` on some thread, or
    /// by later submissions.
    ///
    /// # Errors
    /// [`Error::ReportLost`] or [`Error::GlobalSumsLost`] where the encoder was never submitted, its submission failed,
    /// or the device is lost; for a report also where the submission of the forward failed.
    pub async fn read(self) -> Result<T, Error> {
        let Self { of, words, .. } = self;
        words.read(|words| T::from_words(words, &of)).await.map_err(T::lost)?
    }

    /// Polls the device until all submitted work is done, and reads.
    ///
    /// # Errors
    /// As [`read`](Self::read), and where the encoder is not submitted yet.
    pub fn read_blocking(self) -> Result<T, Error> {
        let Self { device, of, words, .. } = self;
        words.read_blocking(&device, |words| T::from_words(words, &of)).map_err(T::lost)?
    }

    /// The value if it has arrived, else `None`. Polls the device once, and does not wait. It can be read again.
    ///
    /// # Errors
    /// As [`read`](Self::read). An encoder that still exists unsubmitted is not an error.
    pub fn try_read(&self) -> Result<Option<T>, Error> {
        self.words.try_read(&self.device, |words| T::from_words(words, &self.of)).map_err(T::lost)?.transpose()
    }
}
