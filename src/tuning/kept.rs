//! Why a measurement keeps the default variant without measuring any other to the end.

use std::fmt;

use crate::testing::Differences;

/// Why a measurement ended with the default variant, where no race decided it. Nothing is remembered then.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Kept {
    /// The GPU's timestamps were given up while it was measured: times of two clocks are not compared.
    TimestampsGivenUp,
    /// The device is less exact than variants are checked to be: a fast one that is wrong could not be told from a right one. How
    /// far the default variant is off the f64 reference; at most 1e-4 each.
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
