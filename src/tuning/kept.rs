//! Why a measurement keeps the default variant although no race decided it.

use std::fmt;

use crate::testing::Differences;

/// Why a measurement ended with the default variant, where no race decided it. Nothing is remembered then.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kept {
    /// The GPU's timestamps were given up during the measurement, and times of two clocks must not be compared.
    TimestampsGivenUp,
    /// The device is less exact than the check of a variant requires, so a wrong variant could not be distinguished
    /// from a right one. Holds how far the default variant is off the f64 reference: at most 1e-4 each.
    Inexact(Differences),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimestampsGivenUp => write!(f, "the device's timestamps are not times"),
            Self::Inexact(differences) => {
                write!(f, "the device is less exact than variants are checked to be: {differences}")
            }
        }
    }
}
