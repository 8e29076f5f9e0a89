//! The specification of a loss: a list of heads.

use super::head::Head;
use super::validate;
use crate::error::Error;

/// The loss of a network: its heads.
///
/// total = Σ over heads of `weight` · (`overlap.weight` · overlap + `pixel.weight` · pixel)
///
/// ```
/// use segloss::{Head, Loss, LossSpec};
/// let spec = LossSpec::new()
///     .head(Head::new([2, 4, 64, 64, 64], Loss::nnunet_dc_ce()).weight(0.7))
///     .head(Head::new([2, 4, 32, 32, 32], Loss::nnunet_dc_ce()).weight(0.3));
/// spec.validate()?;
/// # Ok::<(), segloss::Error>(())
/// ```
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossSpec {
    /// The heads, in the order in which tensors are bound and reports are read.
    pub heads: Vec<Head>,
}

impl LossSpec {
    /// A loss without heads; add them with [`head`](Self::head).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a head.
    #[must_use]
    pub fn head(mut self, head: Head) -> Self {
        self.heads.push(head);
        self
    }

    /// Checks every setting of every head.
    ///
    /// # Errors
    /// [`Error::NoHeads`], or [`Error::Spec`] with the head, the setting, what was expected and what was given.
    pub fn validate(&self) -> Result<(), Error> {
        if self.heads.is_empty() {
            return Err(Error::NoHeads);
        }
        self.heads.iter().enumerate().try_for_each(|(index, head)| validate::head(index, head))
    }

    /// A term that is not a sum over voxels cannot be added up over ranks.
    pub(crate) fn check_distributed(&self) -> Result<(), Error> {
        let is_top_k = |head: &Head| head.loss.pixel.as_ref().is_some_and(|pixel| pixel.k_percent.is_some());
        match self.heads.iter().position(is_top_k) {
            Some(head) => Err(Error::Spec {
                head,
                setting: "pixel.k_percent",
                expected: "none, since the batch is distributed".to_owned(),
                given: "a top-k".to_owned(),
            }),
            None => Ok(()),
        }
    }
}
