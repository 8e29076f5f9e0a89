//! Refusals of settings, in a specification and in its text.

use super::types::ClassValues;
use crate::error::Error;

/// Refuses settings of a head.
pub(super) struct Check {
    pub(super) head: usize,
}

impl Check {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and literals")]
    pub(super) fn refuse<T>(&self, setting: &'static str, expected: &str, given: impl ToString) -> Result<T, Error> {
        Err(Error::Spec { head: self.head, setting, expected: expected.to_owned(), given: given.to_string() })
    }

    pub(super) fn not_negative(&self, setting: &'static str, value: f32) -> Result<(), Error> {
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        self.refuse(setting, "a finite number, not negative", value)
    }

    /// A number that no driver takes for 0.
    pub(super) fn positive(&self, setting: &'static str, value: f32) -> Result<(), Error> {
        if value.is_normal() && value > 0.0 {
            return Ok(());
        }
        self.refuse(setting, "a positive number that f32 holds in full", value)
    }

    /// One number, or one per class that takes part.
    pub(super) fn class_values(
        &self,
        setting: &'static str,
        values: &ClassValues,
        classes: usize,
    ) -> Result<(), Error> {
        match values {
            ClassValues::Same(value) => self.not_negative(setting, *value),
            ClassValues::Each(values) if values.len() == classes => {
                values.iter().try_for_each(|&value| self.not_negative(setting, value))
            }
            ClassValues::Each(values) => {
                let expected = format!("one number, or {classes}, one per class that takes part");
                self.refuse(setting, &expected, format!("{} numbers", values.len()))
            }
        }
    }

    pub(super) fn class_weights(&self, setting: &'static str, weights: &[f32], expected: usize) -> Result<(), Error> {
        if weights.len() != expected {
            let given = format!("{} weights", weights.len());
            return self.refuse(setting, &format!("{expected} weights, one per class that takes part"), given);
        }
        weights.iter().try_for_each(|&weight| self.not_negative(setting, weight))
    }
}

/// A setting that a kind needs. TOML has no null: a missing value is left out.
#[cfg(feature = "serde")]
pub(super) fn needed<T>(of: &str, kind: &str, setting: &str, given: Option<T>) -> Result<T, String> {
    given.ok_or_else(|| format!("{of}.{setting}: expected a value for {kind}, got none"))
}

/// Refuses settings that a kind does not take: those that are given (first flag), but that the term made of them does not write
/// (second flag).
#[cfg(feature = "serde")]
pub(super) fn not_taken(of: &str, kind: &str, settings: &[(&str, bool, bool)]) -> Result<(), String> {
    let lost = settings.iter().find(|(_, given, written)| *given && !*written);
    lost.map_or(Ok(()), |(name, ..)| Err(format!("{of}.{name}: expected none for {kind}, got a value")))
}
