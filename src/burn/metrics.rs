//! Metrics of a loss's report for burn's `Learner`. Needs the feature `burn-train`.
//!
//! burn runs metrics on a thread of its own. What travels there is the pending report, which that thread waits for, so that
//! the training loop never does; and no report is lost, that of a split's last batch neither.
//!
//! The output of a training or validation step holds a [`ReportItem`]. Heads and terms have positions: head 0 is the first of
//! the specification, and a head's overlap term comes before its pixel term.
//!
//! ```
//! use segloss::burn::metrics::ReportMetric;
//!
//! let metrics: Vec<_> = [ReportMetric::total(), ReportMetric::term(0, 1)]
//!     .into_iter()
//!     .chain(ReportMetric::dice(0, &["background", "liver"]))
//!     .collect();
//! # assert_eq!(metrics.len(), 5);
//! ```
//! Each is given to `SupervisedTraining::metric_train_numeric` or `metric_valid_numeric`.

use std::sync::Arc;
use std::time::Duration;

use ::burn::backend::ExecutionError;
use ::burn::tensor::TensorReadError;
use ::burn::train::ItemLazy;
use ::burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry, format_float,
};

use crate::report::{ClassCounts, PendingReport, Report};

/// How long the metrics' thread sleeps between two looks at a pending report. A wait on the device would be for all that the
/// training loop has submitted meanwhile.
const LOOK: Duration = Duration::from_micros(200);

/// A step's report on its way to the metrics.
#[derive(Debug)]
pub struct ReportItem(State);

#[derive(Debug)]
enum State {
    Pending(PendingReport),
    Arrived(Arc<Report>),
}

/// What a [`ReportMetric`] is of.
#[derive(Clone, Debug)]
pub struct ReportInput(Result<Arc<Report>, String>);

impl From<PendingReport> for ReportItem {
    fn from(report: PendingReport) -> Self {
        Self(State::Pending(report))
    }
}

impl ReportItem {
    fn report(&self) -> Result<Arc<Report>, String> {
        match &self.0 {
            State::Arrived(report) => Ok(Arc::clone(report)),
            State::Pending(pending) => loop {
                match pending.try_read().map_err(|error| error.to_string())? {
                    Some(report) => return Ok(Arc::new(report)),
                    None => std::thread::sleep(LOOK),
                }
            },
        }
    }
}

impl ItemLazy for ReportItem {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(Self(State::Arrived(self.report().map_err(ExecutionError::with_context)?)))
    }
}

impl Adaptor<ReportInput> for ReportItem {
    fn adapt(&self) -> ReportInput {
        ReportInput(self.report())
    }
}

/// One number of every report, and of the epoch.
///
/// A loss's epoch is the mean over its batches. A Dice or `IoU` of an epoch is that of the sums of its hits and misses, which
/// a mean of the batches' ratios is not; a class that is neither in the target nor predicted is NaN.
#[derive(Clone, Debug)]
pub struct ReportMetric {
    name: MetricName,
    what: What,
    batch: f64,
    sum: f64,
    batches: usize,
    counts: Vec<[u64; 3]>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Total,
    Term { head: usize, term: usize },
    Dice { head: usize, class: usize },
    Iou { head: usize, class: usize },
    MeanDice { head: usize },
}

impl ReportMetric {
    fn new(name: String, what: What) -> Self {
        Self { name: Arc::new(name), what, batch: f64::NAN, sum: 0.0, batches: 0, counts: Vec::new() }
    }

    /// The total.
    #[must_use]
    pub fn total() -> Self {
        Self::new("Loss".to_owned(), What::Total)
    }

    /// The value of a head's term.
    #[must_use]
    pub fn term(head: usize, term: usize) -> Self {
        Self::new(format!("Head {head} term {term}"), What::Term { head, term })
    }

    /// Per class of a head its Dice, and their mean over all classes but the first. Their names are `classes`, from class 0.
    /// The head needs [`hard_counts`](crate::Head::hard_counts).
    pub fn dice(head: usize, classes: &[&str]) -> impl Iterator<Item = Self> {
        let mean = Self::new(format!("Head {head} mean Dice"), What::MeanDice { head });
        let of = move |(class, name)| Self::new(format!("Head {head} Dice {name}"), What::Dice { head, class });
        classes.iter().enumerate().map(of).chain([mean])
    }

    /// Per class of a head its intersection over union. Their names are `classes`, from class 0. The head needs
    /// [`hard_counts`](crate::Head::hard_counts).
    pub fn iou(head: usize, classes: &[&str]) -> impl Iterator<Item = Self> {
        let of = move |(class, name)| Self::new(format!("Head {head} IoU {name}"), What::Iou { head, class });
        classes.iter().enumerate().map(of)
    }

    /// The same with another name. burn tells metrics apart by their names.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: Arc::new(name.to_owned()), ..self }
    }

    fn is_loss(&self) -> bool {
        matches!(self.what, What::Total | What::Term { .. })
    }

    /// The number of hits and misses.
    fn ratio(&self, counts: &[[u64; 3]]) -> f64 {
        match self.what {
            What::Dice { class, .. } => ClassCounts::dice_of(counts[class]),
            What::Iou { class, .. } => ClassCounts::iou_of(counts[class]),
            _ => {
                let of_classes = counts[1..].iter().map(|counts| ClassCounts::dice_of(*counts));
                let of_classes = of_classes.filter(|dice| !dice.is_nan());
                let (sum, classes) = of_classes.fold((0.0, 0_u32), |(sum, classes), dice| (sum + dice, classes + 1));
                sum / f64::from(classes)
            }
        }
    }

    fn take(&mut self, report: &Report) -> Result<(), String> {
        let head = |head: usize| {
            let heads = report.heads.len();
            report.heads.get(head).ok_or_else(|| format!("{}: expected one of {heads} heads, got {head}", self.name))
        };
        let (of, class) = match self.what {
            What::Total => {
                self.batch = report.total.into();
                return Ok(());
            }
            What::Term { head: of, term } => {
                let head = head(of)?;
                let terms: Vec<_> = head.overlap.iter().chain(&head.pixel).collect();
                let found = terms.get(term).map(|term| term.value);
                let expected = || format!("{}: expected one of {} terms, got {term}", self.name, terms.len());
                self.batch = found.ok_or_else(expected)?.into();
                return Ok(());
            }
            What::Dice { head, class } | What::Iou { head, class } => (head, class),
            What::MeanDice { head } => (head, 0),
        };
        let counts = head(of)?.hard_counts.as_ref();
        let counts = counts
            .ok_or_else(|| format!("{}: expected hard counts, got none: the head has no hard_counts", self.name))?;
        if class >= counts.len() {
            return Err(format!("{}: expected one of {} classes, got {class}", self.name, counts.len()));
        }
        let counts: Vec<_> = counts.iter().map(|class| class.counts()).collect();
        self.batch = self.ratio(&counts);
        self.counts.resize(counts.len(), [0; 3]);
        for (sums, counts) in self.counts.iter_mut().zip(counts) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        Ok(())
    }

    /// The number of the epoch so far.
    fn epoch(&self) -> f64 {
        if self.batches == 0 {
            return f64::NAN;
        }
        #[expect(clippy::cast_precision_loss, reason = "few batches")]
        let batches = self.batches as f64;
        if self.is_loss() { self.sum / batches } else { self.ratio(&self.counts) }
    }

    fn entry(&self, serialized: &NumericEntry) -> SerializedEntry {
        let shown = |value| format_float(value, 4);
        let formatted = format!("epoch {} - batch {}", shown(self.epoch()), shown(self.batch));
        SerializedEntry::new(formatted, serialized.serialize())
    }
}

impl Metric for ReportMetric {
    type Input = ReportInput;

    fn name(&self) -> MetricName {
        Arc::clone(&self.name)
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: !self.is_loss() }.into()
    }

    fn update(&mut self, report: &ReportInput, _: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        let taken = report.0.clone().and_then(|report| self.take(&report));
        taken.map_err(|message| TensorReadError::Execution(ExecutionError::with_context(message)))?;
        self.sum += self.batch;
        self.batches += 1;
        Ok(self.entry(&NumericEntry::Aggregated { aggregated_value: self.batch, count: 1 }))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.entry(&NumericEntry::Final(self.epoch())))
    }

    fn clear(&mut self) {
        (self.batch, self.sum, self.batches) = (f64::NAN, 0.0, 0);
        self.counts.clear();
    }
}

impl Numeric for ReportMetric {
    fn value(&self) -> Option<NumericEntry> {
        (!self.batch.is_nan()).then_some(NumericEntry::Value(self.batch))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        let epoch = self.epoch();
        (!epoch.is_nan()).then_some(NumericEntry::Value(epoch))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.epoch())
    }
}
