//! Interleaved timing: contenders take turns, so that all of them meet what slows the machine down for a while.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use segloss::tuning::Clock;
use segloss::wgpu;

use super::figures::{Figure, Ratio};

/// Contenders that run one after another, round by round.
pub struct Race<'a> {
    shape: String,
    contenders: Vec<Contender<'a>>,
}

struct Contender<'a> {
    name: String,
    stage: &'static str,
    bytes: Option<u64>,
    run: Box<dyn Fn() -> Result<f64> + 'a>,
}

impl<'a> Race<'a> {
    pub fn new(shape: &str) -> Self {
        Self { shape: shape.to_owned(), contenders: Vec::new() }
    }

    pub fn add(&mut self, name: &str, stage: &'static str, bytes: Option<u64>, run: impl Fn() -> Result<f64> + 'a) {
        self.contenders.push(Contender { name: name.to_owned(), stage, bytes, run: Box::new(run) });
    }

    pub fn pass(
        &mut self,
        clock: &'a Clock,
        name: &str,
        stage: &'static str,
        bytes: Option<u64>,
        encode: impl Fn(&mut wgpu::ComputePass<'_>) + 'a,
    ) {
        self.add(name, stage, bytes, move || Ok(clock.time(&encode)?));
    }

    /// The time of one run of these commands, by the slope between `count` runs per submission and twice as many.
    pub fn slope(
        &mut self,
        clock: &'a Clock,
        name: &str,
        stage: &'static str,
        bytes: Option<u64>,
        count: usize,
        encode: impl Fn(&mut wgpu::ComputePass<'_>) + 'a,
    ) {
        let time = move |count: usize| clock.time(&|pass| (0..count).for_each(|_| encode(pass)));
        #[expect(clippy::cast_precision_loss, reason = "few runs")]
        self.add(name, stage, bytes, move || Ok((time(2 * count)? - time(count)?) / count as f64));
    }

    /// Runs this many rounds. Where a run takes over a second, it ends after two minutes, but not before 15 rounds.
    pub fn run(self, runs: usize) -> Result<Results> {
        let progress = progress(runs, &self.shape);
        let mut times = vec![Vec::new(); self.contenders.len()];
        let start = Instant::now();
        let mut longest = 0.0_f64;
        for round in 0..=runs {
            // every other round runs in reverse, so that no contender always follows the same one
            let mut turns: Vec<_> = self.contenders.iter().zip(&mut times).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for (contender, times) in turns {
                let time = (contender.run)()?;
                longest = longest.max(time);
                // the first round warms up
                if round > 0 {
                    times.push(time);
                }
            }
            progress.inc(1);
            if round >= 15 && longest > 1e9 && start.elapsed() > Duration::from_mins(2) {
                break;
            }
        }
        progress.finish_and_clear();
        let contenders = self.contenders.into_iter().zip(times);
        let runs = contenders.map(|(c, times)| Run { name: c.name, stage: c.stage, bytes: c.bytes, times }).collect();
        Ok(Results { shape: self.shape, runs })
    }
}

fn progress(rounds: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len}").expect("a template");
    ProgressBar::new(rounds as u64).with_style(style).with_prefix(what.to_owned())
}

pub struct Results {
    shape: String,
    runs: Vec<Run>,
}

struct Run {
    name: String,
    stage: &'static str,
    bytes: Option<u64>,
    times: Vec<f64>,
}

impl Results {
    pub fn figures(&self) -> impl Iterator<Item = Figure> {
        self.runs.iter().map(|run| Figure::new(&run.name, &self.shape, run.stage, &run.times, run.bytes))
    }

    /// The times of forward plus backward, one per round.
    pub fn both(&self, name: &str) -> Vec<f64> {
        let stages: Vec<_> = self.runs.iter().filter(|run| run.name == name).map(|run| &run.times).collect();
        (0..stages[0].len()).map(|round| stages.iter().map(|times| times[round]).sum()).collect()
    }

    pub fn ratio(&self, name: &str, over: &str, under: &str) -> Ratio {
        Ratio::new(name, &self.shape, &self.both(over), &self.both(under))
    }

    /// The ratio of forward plus backward, and of each by itself.
    pub fn ratios(&self, name: &str, over: &str, under: &str) -> Vec<Ratio> {
        let times = |name: &str, stage: &str| {
            self.runs.iter().find(|run| run.name == name && run.stage == stage).map(|run| &run.times)
        };
        let of_stage = |stage: &str| {
            let (over, under) = times(over, stage).zip(times(under, stage))?;
            Some(Ratio { stage: stage.to_owned(), ..Ratio::new(name, &self.shape, over, under) })
        };
        [Some(self.ratio(name, over, under)), of_stage("forward"), of_stage("backward")].into_iter().flatten().collect()
    }
}
