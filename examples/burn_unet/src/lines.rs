//! What the `Learner` tells in plain lines: for logs, and where there is no terminal for burn's dashboard.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};

/// One line per split and epoch, with the last words of every metric.
pub struct Lines {
    started: Instant,
    names: BTreeMap<String, String>,
    split: String,
    epoch: usize,
    /// By name.
    states: BTreeMap<String, String>,
}

impl Lines {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            names: BTreeMap::new(),
            split: String::new(),
            epoch: 1,
            states: BTreeMap::new(),
        }
    }

    fn update(&mut self, state: MetricState) {
        let (MetricState::Generic(entry) | MetricState::Numeric(entry, _)) = state;
        if let Some(name) = self.names.get(&key(&entry.metric_id)) {
            self.states.insert(name.clone(), entry.serialized_entry.formatted);
        }
    }
}

fn key(id: &MetricId) -> String {
    format!("{id:?}")
}

impl MetricsRendererTraining for Lines {
    fn update_train(&mut self, state: MetricState) {
        self.update(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.update(state);
    }
}

impl MetricsRendererEvaluation for Lines {
    fn update_test(&mut self, _: EvaluationName, state: MetricState) {
        self.update(state);
    }
}

impl TrainingProgressLogger for Lines {
    fn start(&mut self, _: usize, starting_epoch: usize, _: Option<usize>, _: Option<&str>) {
        self.epoch = starting_epoch;
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, _: usize) {
        split.clone_into(&mut self.split);
        self.states.clear();
    }

    fn update_split(&mut self, _: usize) {}

    fn end_split(&mut self) {
        println!("epoch {}, {}, after {:.0?}", self.epoch, self.split, self.started.elapsed());
        for (name, state) in &self.states {
            println!("    {name:<28} {state}");
        }
    }

    fn end(&mut self) {}

    // burn tells every iteration
    fn log_event_training(&mut self, _: String) {}
}

impl EvaluationProgressLogger for Lines {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for Lines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(key(&definition.metric_id), definition.name.to_string());
    }
}
