//! Measures variants on a device: tensors, checks, times. Remembers the choice.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::candidates::Candidates;
use super::check::{self, Outcome};
use super::file::{self, Choice, Key};
use super::search::{Candidate, End, Found, Progress, Trials, search};
use super::{Clock, ClockKind, Kept};
use crate::error::Error;
use crate::host::HostStep;
use crate::layout::answers::Answers;
use crate::layout::variant::Variant;
use crate::plan::{Ask, Plan, PlanOptions};
use crate::reference::Evaluation;
use crate::spec::{Head, LossSpec};
use crate::testing::{Expected, Tensors, evaluate, small_copy};

/// The most logits of the small copy that is compared with the f64 reference.
const MOST_REFERENCE: usize = 1 << 18;
/// Random logits lie in ± this.
const SPREAD: f32 = 4.0;

/// The file of remembered choices, and how long a measurement may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// A JSON file of any number of choices. It is made if it is missing; its folder must exist.
    pub file: PathBuf,
    /// How long a measurement may take. A candidate is only begun if it should end in time, judged by the slowest so
    /// far. The preparation is not bounded: the tensors, and the check of the default variant.
    pub budget: Duration,
}

impl Measured {
    /// Remembers in this file, and measures for at most 30 seconds.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), budget: Duration::from_secs(30) }
    }

    /// Sets [`budget`](Self::budget).
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }
}

/// A choice, and what it is based on.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The chosen variant.
    pub variant: Variant,
    /// Whether it is from the file; then nothing was measured.
    pub remembered: bool,
    /// The candidates, in the order in which they were tried.
    pub candidates: Vec<Candidate>,
    /// Nanoseconds of a step with the default and with the chosen variant, in pairs of consecutive runs. Empty where
    /// the default was chosen, or nothing was measured.
    pub pairs: Vec<[f64; 2]>,
    /// Why the default variant was kept, where the device cannot be measured.
    pub kept: Option<Kept>,
}

/// The variant that a file has for this device and specification, if any.
///
/// # Errors
/// [`Error::TuningFile`] where the file exists and cannot be read, or its folder does not exist.
pub fn remembered(device: &wgpu::Device, spec: &LossSpec, file: &std::path::Path) -> Result<Option<Variant>, Error> {
    let choice = file::find(file, &Key::new(device, spec))?;
    Ok(choice.map(|choice| choice.variant).filter(|variant| variant.validate(device).is_ok()))
}

/// The fastest variant for this device and specification: from the file, or measured and remembered there.
///
/// Each candidate's result is checked before it is timed: on a small copy of the specification against the f64
/// reference, and on random tensors of the whole size against the default variant's. The candidate and the best so far
/// then run in turn, timed by the GPU's timestamps where the device has them, and the median of the time ratios
/// decides. A measurement that ends before any candidate was raced is not remembered.
///
/// A device that cannot be measured keeps its default variant. This is not an error and is not remembered;
/// [`Tuned::kept`] has the reason: the device's timestamps are not times, or it is less exact than
/// [`Tolerance::DEVICE`](crate::testing::Tolerance::DEVICE), by up to 1e-4.
///
/// Needs GPU memory for one set of the specification's tensors, a copy of the gradients to read back, and the scratch
/// buffers of four plans; the host holds the gradients in f32 and in f64. Submits to the queue, and waits for the
/// device.
///
/// # Errors
/// Those of [`Plan::new`]; [`Error::TuningFile`] for a file that cannot be read, before anything is measured, or that
/// cannot be written; [`Error::WrongResult`] where the default variant's result is wrong or off by more than 1e-4;
/// [`Error::Device`] where the tensors do not fit in the device's memory.
pub fn tune(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    spec: &LossSpec,
    measured: &Measured,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Tuned, Error> {
    spec.validate()?;
    if let Some(variant) = remembered(device, spec, &measured.file)? {
        return Ok(Tuned { variant, remembered: true, candidates: Vec::new(), pairs: Vec::new(), kept: None });
    }
    measure(Gpu::new(device, queue, spec)?, measured, progress)
}

/// Measures, and remembers the choice where races decided it.
fn measure(mut gpu: Gpu, measured: &Measured, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Tuned, Error> {
    let (device, spec) = (gpu.clock.device.clone(), gpu.spec.clone());
    let default = gpu.answers.within(Variant::for_device(&device));
    let candidates = Candidates::new(&device, &spec);
    let found = search(&mut gpu, default, &candidates, measured.budget, progress)?;
    if found.decides() {
        let of = |which: usize| found.pairs.iter().map(|pair| pair[which]).sum::<f64>();
        let default_over_chosen = if found.pairs.is_empty() { 1.0 } else { of(0) / of(1) };
        let (variant, tried) = (found.variant, found.candidates.len());
        file::remember(&measured.file, Choice { key: Key::new(&device, &spec), variant, tried, default_over_chosen })?;
    }
    let Found { variant, candidates, pairs, kept } = found;
    Ok(Tuned { variant, remembered: false, candidates, pairs, kept })
}

/// The tensors of a specification on a device, and what a step on them should give.
struct Gpu {
    clock: Clock,
    /// Asked once, for all plans.
    answers: Answers,
    start: Instant,
    spec: LossSpec,
    whole: Trial,
    /// The default variant's result on the whole tensors, once it was right on the small copy.
    expected: Option<Expected>,
    small_spec: LossSpec,
    small: Trial,
    small_expected: Evaluation,
}

/// Tensors, on the host until the first plan is bound to them, and on the device from then on.
enum Trial {
    Drawn(Vec<Tensors>),
    Uploaded(HostStep),
}

impl Trial {
    /// Random tensors; the same specification gives the same ones.
    fn draw(spec: &LossSpec) -> Vec<Tensors> {
        let one = |(head, seed): (&Head, u64)| {
            let mut tensors = Tensors::random(head, SPREAD, seed);
            // a mean over no item is NaN
            tensors.sample_mask.iter_mut().take(1).for_each(|item| *item = 1);
            tensors
        };
        spec.heads.iter().zip(1..).map(one).collect()
    }

    fn bind(&mut self, plan: &Plan) -> Result<HostStep, Error> {
        match self {
            Self::Drawn(tensors) => {
                let host: Vec<_> = tensors.iter().map(Tensors::data).collect();
                let step = HostStep::new(plan, &host, 1.0)?;
                *self = Self::Uploaded(step.with_plan(plan)?);
                Ok(step)
            }
            Self::Uploaded(step) => step.with_plan(plan),
        }
    }
}

impl Gpu {
    fn new(device: &wgpu::Device, queue: &wgpu::Queue, spec: &LossSpec) -> Result<Self, Error> {
        let start = Instant::now();
        let small_spec = small_copy(spec, MOST_REFERENCE);
        let small = Trial::draw(&small_spec);
        Ok(Self {
            clock: Clock::new(device.clone(), queue.clone()),
            answers: Answers::of(device, queue)?,
            start,
            spec: spec.clone(),
            whole: Trial::Drawn(Trial::draw(spec)),
            expected: None,
            small_expected: evaluate(&small_spec, &small, 1.0)?,
            small: Trial::Drawn(small),
            small_spec,
        })
    }
}

impl Trials for Gpu {
    type Ready = HostStep;

    fn prepare(&mut self, variant: Variant) -> Result<HostStep, Error> {
        let options =
            PlanOptions { variant: Some(variant), ask: Ask::Answered(self.answers), ..PlanOptions::default() };
        let plan = Plan::with_options(&self.clock.device, &self.clock.queue, &self.spec, options)?;
        let step = self.whole.bind(&plan)?;
        step.step().warm_up()?;
        Ok(step)
    }

    fn check(&mut self, ready: &HostStep) -> Result<Outcome, Error> {
        let small = self.small.bind(&ready.step().plan.sibling(&self.small_spec)?)?.run()?;
        let outcome = Outcome::new(&small, &self.small_expected);
        if outcome != Outcome::Right {
            return Ok(outcome);
        }
        let given = ready.run()?;
        if let Some(expected) = &self.expected {
            return Ok(Outcome::of_whole(&given, expected));
        }
        self.expected = Some(check::whole(&self.spec, &given, &self.small_expected));
        Ok(Outcome::Right)
    }

    fn time(&mut self, ready: &HostStep) -> Result<f64, End> {
        let time = self.clock.time(&|pass| {
            ready.step().forward(pass);
            ready.step().backward(pass);
        })?;
        // this time would be the host's
        if self.clock.kind() == ClockKind::TimestampsGivenUp {
            Err(End::Kept(Kept::TimestampsGivenUp))
        } else {
            Ok(time)
        }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::adapter::AdapterChoice;
    use crate::spec::{FloatType, Loss};

    fn gpu() -> Gpu {
        let (device, queue) = AdapterChoice::default().open().expect("an adapter");
        let spec = LossSpec::new()
            .head(Head::new([1, 3, 16, 16], Loss::monai_dice_ce()))
            .head(Head::new([1, 4, 8, 8], Loss::nnunet_dc_ce()).logits(FloatType::F16));
        Gpu::new(&device, &queue, &spec).expect("tensors are drawn")
    }

    /// The result of tuning this device, and whether anything is remembered.
    fn tuned(gpu: Gpu, test: &str) -> (Result<Tuned, Error>, bool) {
        let file = std::env::temp_dir().join(format!("segloss-{test}-{}.json", std::process::id()));
        let given = measure(gpu, &Measured::new(&file).budget(Duration::from_secs(5)), &mut |_| {});
        let is_remembered = file.exists();
        let _ = std::fs::remove_file(&file);
        (given, is_remembered)
    }

    #[test]
    fn a_device_whose_timestamps_are_not_times_is_tuned_to_its_default_without_an_error() {
        let mut gpu = gpu();
        gpu.clock = Clock::with_bad_timestamps(gpu.clock.device, gpu.clock.queue);
        let default = Variant::for_device(&gpu.clock.device);
        let (given, is_remembered) = tuned(gpu, "clock");
        let given = given.expect("no error");
        assert_eq!((given.variant, given.kept), (default, Some(Kept::TimestampsGivenUp)));
        assert!(given.candidates.is_empty() && given.pairs.is_empty() && !is_remembered);
    }

    #[test]
    fn a_device_that_is_less_exact_than_the_bounds_is_tuned_to_its_default_without_an_error() {
        let mut gpu = gpu();
        gpu.small_expected.total *= 1.0 + 5e-5;
        for head in &mut gpu.small_expected.heads {
            head.gradient.iter_mut().for_each(|g| *g *= 1.0 + 3e-5);
            head.soft_dice.iter_mut().for_each(|dice| *dice += 2e-5);
        }
        let default = Variant::for_device(&gpu.clock.device);
        let (given, is_remembered) = tuned(gpu, "inexact");
        let given = given.expect("no error");
        let Some(Kept::Inexact(off)) = given.kept else { panic!("{given:?}") };
        let near = |found: f64, made: f64| (found - made).abs() < 3e-6;
        assert!(near(off.loss, 5e-5) && near(off.gradient, 3e-5) && near(off.soft_dice, 2e-5), "{off:?}");
        assert_eq!(given.variant, default);
        assert!(given.candidates.is_empty() && given.pairs.is_empty() && !is_remembered);
    }

    #[test]
    fn a_device_that_is_off_by_more_than_a_part_in_ten_thousand_is_an_error() {
        let mut gpu = gpu();
        gpu.small_expected.total *= 1.0 + 2e-4;
        let (given, is_remembered) = tuned(gpu, "wrong");
        let message = given.expect_err("an error").to_string();
        assert!(message.contains("off by 2.0e-4") && !is_remembered, "{message}");
    }
}
