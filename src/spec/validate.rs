//! Every way in which a setting can be wrong.

use super::{Head, Overlap, Pixel};
use crate::Error;

pub(super) fn head(index: usize, head: &Head) -> Result<(), Error> {
    let check = Check { head: index };
    let shape = || format!("{:?}", head.shape);
    if head.shape.len() < 2 {
        return check.refuse("shape", "at least two axes, [N, C, *spatial]", shape());
    }
    if head.classes() == 0 {
        return check.refuse("shape", "at least one class", shape());
    }
    if head.shape.contains(&0) {
        return check.refuse("shape", "no axis of length 0", shape());
    }
    if head.shape.iter().try_fold(1_usize, |size, &axis| size.checked_mul(axis)).is_none() {
        return check.refuse("shape", "a size that fits in memory", shape());
    }
    if let Some(label) = head.ignore_index
        && !(i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&label)
    {
        return check.refuse("ignore_index", "a label of 32 bits", label);
    }
    check.not_negative("weight", head.weight)?;
    if head.loss.overlap.is_none() && head.loss.pixel.is_none() {
        return check.refuse("loss", "an overlap term, a pixel term, or both", "neither");
    }
    if let Some(overlap) = &head.loss.overlap {
        check.overlap(overlap, head.classes())?;
    }
    if let Some(pixel) = &head.loss.pixel {
        check.pixel(pixel, head.classes())?;
    }
    Ok(())
}

struct Check {
    head: usize,
}

impl Check {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and literals")]
    fn refuse<T>(&self, setting: &'static str, expected: &str, given: impl ToString) -> Result<T, Error> {
        Err(Error::Spec { head: self.head, setting, expected: expected.to_owned(), given: given.to_string() })
    }

    fn not_negative(&self, setting: &'static str, value: f32) -> Result<(), Error> {
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        self.refuse(setting, "a finite number, not negative", value)
    }

    fn class_weights(&self, setting: &'static str, weights: &[f32], expected: usize) -> Result<(), Error> {
        if weights.len() != expected {
            let given = format!("{} weights", weights.len());
            return self.refuse(setting, &format!("{expected} weights, one per class that takes part"), given);
        }
        weights.iter().try_for_each(|&weight| self.not_negative(setting, weight))
    }

    fn overlap(&self, overlap: &Overlap, classes: usize) -> Result<(), Error> {
        self.not_negative("overlap.weight", overlap.weight)?;
        self.not_negative("overlap.smooth_nr", overlap.smooth_nr)?;
        self.not_negative("overlap.smooth_dr", overlap.smooth_dr)?;
        if let Some(floor) = overlap.denominator_floor {
            self.not_negative("overlap.denominator_floor", floor)?;
        }
        let taking_part = classes - overlap.first_class(classes);
        overlap.class_weights.iter().try_for_each(|w| self.class_weights("overlap.class_weights", w, taking_part))
    }

    fn pixel(&self, pixel: &Pixel, classes: usize) -> Result<(), Error> {
        self.not_negative("pixel.weight", pixel.weight)?;
        if !(0.0..=1.0).contains(&pixel.label_smoothing) {
            return self.refuse("pixel.label_smoothing", "a number in [0, 1]", pixel.label_smoothing);
        }
        pixel.class_weights.iter().try_for_each(|w| self.class_weights("pixel.class_weights", w, classes))
    }
}
