//! Why a measurement keeps the default variant without measuring any other to the end.

use std::fmt;

use crate::testing::{GRADIENT_BOUND, LOSS_BOUND, SOFT_DICE_BOUND};

/// Why a measurement ended with the default variant, where no race decided it. Nothing is remembered then.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kept {
    /// The GPU's timestamps were given up while it was measured: times of two clocks are not compared.
    TimestampsGivenUp,
    /// The device is less exact than variants are checked to be: a fast one that is wrong could not be told from a right one.
    Inexact(Inexactness),
}

/// How far the default variant is off the f64 reference on a device that is less exact than expected; at most 1e-4 each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Inexactness {
    /// The worst of the total, the terms and the unreduced losses, relative to max(1, |expected|).
    pub loss: f64,
    /// The worst of the gradients, beside the one rounding to their type, relative to the largest of its head.
    pub gradient: f64,
    /// The worst soft Dice.
    pub soft_dice: f64,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimestampsGivenUp => write!(f, "the device's timestamps are not times"),
            Self::Inexact(inexactness) => {
                write!(f, "the device is less exact than variants are checked to be: {inexactness}")
            }
        }
    }
}

impl fmt::Display for Inexactness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { loss, gradient, soft_dice } = self;
        write!(
            f,
            "expected a loss within {LOSS_BOUND:.0e}, a gradient within {GRADIENT_BOUND:.0e} and a soft Dice within \
             {SOFT_DICE_BOUND:.0e}, got {loss:.1e}, {gradient:.1e} and {soft_dice:.1e}"
        )
    }
}
