//! The progress of a validation: a bar on a terminal, otherwise one line per phase.

use std::cell::RefCell;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The progress of one of the tasks that run side by side.
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

    /// Counts one item of a phase; the first item begins the phase.
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
