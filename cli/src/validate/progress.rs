//! What a validation is doing: a bar where someone looks, and a line for each phase where nobody does.

use std::cell::RefCell;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// One of the things that go on side by side.
pub struct Progress {
    bar: ProgressBar,
    phase: RefCell<String>,
    begun: Instant,
}

impl Progress {
    pub fn new(all: &MultiProgress, begun: Instant) -> Self {
        let style = ProgressStyle::with_template("{msg} {pos} {spinner} {elapsed}").expect("a template");
        Self { bar: all.add(ProgressBar::new_spinner().with_style(style)), phase: RefCell::default(), begun }
    }

    /// One more of a phase, which begins with its first.
    pub fn tick(&self, phase: &str) {
        if *self.phase.borrow() != phase {
            phase.clone_into(&mut self.phase.borrow_mut());
            self.bar.reset();
            self.bar.set_message(phase.to_owned());
            if self.bar.is_hidden() {
                eprintln!("{:4} s  {phase}", self.begun.elapsed().as_secs());
            }
        }
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
