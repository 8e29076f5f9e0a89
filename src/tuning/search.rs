//! The search: each candidate is checked, then raced against the best so far, within a time budget.
//!
//! It is a coordinate descent over [`Candidates`]: a setting that makes the step faster is kept, and the next one is
//! tried from there; the sweep is repeated while it finds something. In the end the best is raced against the default,
//! and has to win.

use std::collections::HashSet;
use std::time::Duration;

use super::Kept;
use super::candidates::Candidates;
use super::check::Outcome;
use crate::error::Error;
use crate::layout::variant::Variant;

/// Rounds of a race between a candidate and the best so far.
const ROUNDS: usize = 11;
/// Rounds after which a candidate is given up if it takes more than [`HOPELESS`] times as long.
const FIRST_ROUNDS: usize = 3;
const HOPELESS: f64 = 1.25;
/// A candidate is better if it takes less than this part of the best's time: two measurements of one variant differ by
/// up to 2 %.
const BETTER: f64 = 0.98;
/// Rounds of the race between the default and the best.
const LAST_ROUNDS: usize = 31;
/// Sweeps over all settings.
const MOST_SWEEPS: usize = 3;

/// What the search needs of a device. Its tests implement it with a table.
pub(super) trait Trials {
    /// A variant that is ready to run.
    type Ready;
    /// Makes a variant ready.
    fn prepare(&mut self, variant: Variant) -> Result<Self::Ready, Error>;
    /// Whether the variant's results are right.
    fn check(&mut self, ready: &Self::Ready) -> Result<Outcome, Error>;
    /// Nanoseconds of a step. All times are of one clock: where that is given up, the search ends.
    fn time(&mut self, ready: &Self::Ready) -> Result<f64, End>;
    /// The time since the search began.
    fn elapsed(&self) -> Duration;
}

/// Why a search ends early.
#[derive(Debug)]
pub(super) enum End {
    /// With the default variant.
    Kept(Kept),
    /// With an error.
    Error(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The outcome of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Its results are right, and it was raced against the best so far.
    Raced {
        /// The median time of a forward and backward, in nanoseconds.
        median_ns: f64,
        /// The median of its time over that of the best so far, over pairs of consecutive runs.
        over_best: f64,
        /// Whether it replaces the best so far.
        better: bool,
    },
    /// Its results are wrong: what differs.
    Wrong(String),
    /// The device refuses it.
    Refused(Error),
}

/// A variant that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The change from the best so far, such as `tile=2048`.
    pub change: String,
    /// The candidate itself.
    pub variant: Variant,
    /// Its outcome.
    pub verdict: Verdict,
}

/// How far a measurement has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The time since it began.
    pub elapsed: Duration,
    /// How long it may take.
    pub budget: Duration,
    /// The change that is being tried.
    pub trying: &'a str,
    /// How many candidates were tried before.
    pub tried: usize,
}

/// The result of a search.
#[derive(Debug)]
pub(super) struct Found {
    pub variant: Variant,
    pub candidates: Vec<Candidate>,
    /// Nanoseconds of the default and of the variant, in pairs of consecutive runs; empty where they are the same.
    pub pairs: Vec<[f64; 2]>,
    /// Why the default was kept, where no race decided that.
    pub kept: Option<Kept>,
}

impl Found {
    /// Whether it is worth remembering: candidates were tried, and nothing ended the search early.
    pub(super) fn decides(&self) -> bool {
        self.kept.is_none() && !self.candidates.is_empty()
    }
}

/// Finds the fastest variant with right results; or keeps the default, where the device cannot be measured.
pub(super) fn search<T: Trials>(
    trials: &mut T,
    default: Variant,
    candidates: &Candidates,
    budget: Duration,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Found, Error> {
    let mut run = Run { trials, budget, progress, tried: Vec::new() };
    let (variant, pairs, kept) = match descend(&mut run, default, candidates) {
        Ok((variant, pairs)) => (variant, pairs, None),
        Err(End::Kept(kept)) => (default, Vec::new(), Some(kept)),
        Err(End::Error(error)) => return Err(error),
    };
    Ok(Found { variant, candidates: run.tried, pairs, kept })
}

/// The fastest variant, and the pairs of its last race.
fn descend<T: Trials>(
    run: &mut Run<'_, T>,
    default: Variant,
    candidates: &Candidates,
) -> Result<(Variant, Vec<[f64; 2]>), End> {
    let budget = run.budget;
    run.report("the default");
    let begun = run.trials.elapsed();
    let first = run.trials.prepare(default)?;
    match run.trials.check(&first)? {
        Outcome::Right => {}
        Outcome::Inexact(inexactness) => return Err(End::Kept(Kept::Inexact(inexactness))),
        Outcome::Wrong(difference) => return Err(Error::WrongResult { difference }.into()),
    }
    let mut step = Duration::from_secs_f64(run.trials.time(&first)? / 1e9);
    let rounds = |step: Duration, rounds: usize| 2 * step * u32::try_from(rounds + 1).unwrap_or(u32::MAX);
    // the time that a candidate takes, and the last race: no candidate begins that would not end in time
    let mut longest = run.trials.elapsed().saturating_sub(begun) + rounds(step, ROUNDS);
    let last_race = |step: Duration| rounds(step, LAST_ROUNDS).min(budget / 4);
    let mut best: Option<(Variant, T::Ready)> = None;
    let mut seen = HashSet::from([default]);
    'sweeps: for _ in 0..MOST_SWEEPS {
        let before = best.as_ref().map(|(variant, _)| *variant);
        for &setting in &candidates.settings {
            let from = best.as_ref().map_or(default, |(variant, _)| *variant);
            let variant = setting.of(from);
            if !candidates.changes(setting, from) || !seen.insert(variant) {
                continue;
            }
            let begun = run.trials.elapsed();
            if begun + longest + last_race(step) > budget {
                break 'sweeps;
            }
            let change = setting.to_string();
            let (verdict, ready) = run.candidate(&change, variant, best.as_ref().map_or(&first, |(_, ready)| ready))?;
            if let Verdict::Raced { median_ns, better: true, .. } = verdict {
                step = Duration::from_secs_f64(median_ns / 1e9);
                best = ready.map(|ready| (variant, ready));
            }
            run.tried.push(Candidate { change, variant, verdict });
            longest = longest.max(run.trials.elapsed().saturating_sub(begun));
        }
        if best.as_ref().map(|(variant, _)| *variant) == before {
            break;
        }
    }
    let (mut chosen, mut pairs) = (default, Vec::new());
    if let Some((variant, ready)) = &best {
        pairs = run.race("the best against the default", &first, ready, LAST_ROUNDS, f64::INFINITY)?;
        if median(pairs.iter().map(|[default, best]| best / default)) < 1.0 {
            chosen = *variant;
        } else {
            pairs.clear();
        }
    }
    Ok((chosen, pairs))
}

/// A search in progress.
struct Run<'a, T: Trials> {
    trials: &'a mut T,
    budget: Duration,
    progress: &'a mut dyn FnMut(Progress<'_>),
    tried: Vec<Candidate>,
}

impl<T: Trials> Run<'_, T> {
    fn report(&mut self, trying: &str) {
        let (elapsed, budget, tried) = (self.trials.elapsed(), self.budget, self.tried.len());
        (self.progress)(Progress { elapsed, budget, trying, tried });
    }

    /// Makes, checks and races a candidate; returns it ready to run if it is right.
    fn candidate(
        &mut self,
        change: &str,
        variant: Variant,
        best: &T::Ready,
    ) -> Result<(Verdict, Option<T::Ready>), End> {
        self.report(change);
        let ready = match self.trials.prepare(variant) {
            Ok(ready) => ready,
            Err(error) => return Ok((Verdict::Refused(error), None)),
        };
        match self.trials.check(&ready)? {
            Outcome::Right => {}
            // the default is within the tolerance, so the device's arithmetic is not the cause
            Outcome::Inexact(inexactness) => return Ok((Verdict::Wrong(inexactness.to_string()), None)),
            Outcome::Wrong(difference) => return Ok((Verdict::Wrong(difference), None)),
        }
        let pairs = self.race(change, best, &ready, ROUNDS, HOPELESS)?;
        let over_best = median(pairs.iter().map(|[best, candidate]| candidate / best));
        let median_ns = median(pairs.iter().map(|[_, candidate]| *candidate));
        // a race that was cut short decides nothing
        let better = over_best < BETTER && pairs.len() > FIRST_ROUNDS;
        Ok((Verdict::Raced { median_ns, over_best, better }, Some(ready)))
    }

    /// Nanoseconds of two variants in turn; in every other round the second runs first. Ends early where the second
    /// takes more than `hopeless` times as long, and when the time is up.
    fn race(
        &mut self,
        what: &str,
        first: &T::Ready,
        second: &T::Ready,
        rounds: usize,
        hopeless: f64,
    ) -> Result<Vec<[f64; 2]>, End> {
        // a first run warms up
        self.trials.time(second)?;
        let mut pairs = Vec::new();
        for round in 0..rounds {
            self.report(what);
            let pair = if round % 2 == 0 {
                let time = self.trials.time(first)?;
                [time, self.trials.time(second)?]
            } else {
                let time = self.trials.time(second)?;
                [self.trials.time(first)?, time]
            };
            pairs.push(pair);
            let slow = pairs.len() == FIRST_ROUNDS && median(pairs.iter().map(|[a, b]| b / a)) > hopeless;
            if slow || self.trials.elapsed() >= self.budget {
                break;
            }
        }
        Ok(pairs)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::defaults::INTEGRATED;
    use crate::testing::Differences;
    use crate::tuning::candidates::Setting;

    const DEFAULT: Variant = INTEGRATED;

    /// A simulated device: a function gives the time of a step, and making a variant takes a second.
    struct Table<F: Fn(Variant) -> f64> {
        seconds: F,
        computes: fn(Variant) -> Outcome,
        elapsed: Duration,
        timed: Vec<Variant>,
        /// How many steps are timed before the clock is given up.
        clock_lasts: usize,
    }

    impl<F: Fn(Variant) -> f64> Trials for Table<F> {
        type Ready = Variant;

        fn prepare(&mut self, variant: Variant) -> Result<Variant, Error> {
            self.elapsed += Duration::from_secs(1);
            if variant.invocations > 128 {
                let (expected, given) = ("less".to_owned(), variant.invocations.to_string());
                return Err(Error::Variant { setting: "invocations", expected, given });
            }
            Ok(variant)
        }

        fn check(&mut self, ready: &Variant) -> Result<Outcome, Error> {
            Ok((self.computes)(*ready))
        }

        fn time(&mut self, ready: &Variant) -> Result<f64, End> {
            if self.timed.len() == self.clock_lasts {
                return Err(End::Kept(Kept::TimestampsGivenUp));
            }
            self.timed.push(*ready);
            let seconds = (self.seconds)(*ready);
            self.elapsed += Duration::from_secs_f64(seconds);
            Ok(seconds * 1e9)
        }

        fn elapsed(&self) -> Duration {
            self.elapsed
        }
    }

    fn table<F: Fn(Variant) -> f64>(seconds: F) -> Table<F> {
        let computes = |_| Outcome::Right;
        Table { seconds, computes, elapsed: Duration::ZERO, timed: Vec::new(), clock_lasts: usize::MAX }
    }

    fn wrong() -> Outcome {
        Outcome::Wrong("the total: expected 1, got 2".to_owned())
    }

    fn run<F: Fn(Variant) -> f64>(table: &mut Table<F>, budget: u64) -> Found {
        let budget = Duration::from_secs(budget);
        search(table, DEFAULT, &Candidates::all(&[4, 14]), budget, &mut |_| {}).expect("the search ends")
    }

    /// Fastest at 16 invocations, tiles of 8192 and unchecked.
    fn valley(variant: Variant) -> f64 {
        let off = |value: u32, best: u32| (f64::from(value).log2() - f64::from(best).log2()).abs();
        0.1 + 0.05 * off(variant.invocations, 16)
            + 0.02 * off(variant.tile, 8192)
            + if variant.unchecked { 0.0 } else { 0.02 }
    }

    #[test]
    fn the_fastest_variant_is_found_and_raced_against_the_default() {
        let found = run(&mut table(valley), 10_000);
        assert_eq!(found.variant, Variant { invocations: 16, tile: 8192, unchecked: true, ..DEFAULT });
        assert_eq!(found.pairs.len(), LAST_ROUNDS);
        assert!(found.pairs.iter().all(|[default, best]| best < default));
    }

    #[test]
    fn a_variant_that_is_wrong_is_never_timed_however_fast_it_is() {
        let mut table = table(|variant| if variant.invocations == 8 { 0.001 } else { valley(variant) });
        table.computes = |variant| if variant.invocations == 8 { wrong() } else { Outcome::Right };
        let found = run(&mut table, 10_000);
        assert_eq!(found.variant.invocations, 16);
        assert!(table.timed.iter().all(|variant| variant.invocations != 8));
        let wrong = found.candidates.iter().find(|candidate| candidate.variant.invocations == 8).expect("it was tried");
        assert_eq!(wrong.verdict, Verdict::Wrong("the total: expected 1, got 2".to_owned()));
    }

    #[test]
    fn a_default_that_is_wrong_is_an_error_and_nothing_is_timed() {
        let mut table = table(valley);
        table.computes = |_| wrong();
        let found =
            search(&mut table, DEFAULT, &Candidates::all(&[4]), Duration::from_secs(100), &mut |_| {}).unwrap_err();
        assert_eq!(found, Error::WrongResult { difference: "the total: expected 1, got 2".to_owned() });
        assert!(table.timed.is_empty());
    }

    const INEXACT: Differences = Differences { loss: 1e-5, gradient: 3e-5, soft_dice: 0.0 };

    #[test]
    fn a_default_that_is_inexact_is_kept_with_how_far_it_is_off_and_nothing_is_timed() {
        let mut table = table(valley);
        table.computes = |_| Outcome::Inexact(INEXACT);
        let found = run(&mut table, 10_000);
        assert_eq!((found.variant, found.kept), (DEFAULT, Some(Kept::Inexact(INEXACT))));
        assert!(table.timed.is_empty() && found.candidates.is_empty() && !found.decides());
        let text = found.kept.expect("kept").to_string();
        assert!(text.ends_with("within 4e-6, got 1.0e-5, 3.0e-5 and 0.0e0"), "{text}");
    }

    #[test]
    fn a_candidate_that_is_inexact_where_the_default_is_not_is_wrong() {
        let mut table = table(valley);
        table.computes = |variant| if variant.invocations == 16 { Outcome::Inexact(INEXACT) } else { Outcome::Right };
        let found = run(&mut table, 10_000);
        assert!(table.timed.iter().all(|variant| variant.invocations != 16));
        assert_eq!(found.kept, None);
        let inexact = found.candidates.iter().find(|candidate| candidate.variant.invocations == 16).expect("tried");
        assert_eq!(inexact.verdict, Verdict::Wrong(INEXACT.to_string()));
    }

    #[test]
    fn a_clock_that_is_given_up_at_any_time_ends_with_the_default_and_decides_nothing() {
        let whole = {
            let mut table = table(valley);
            assert!(run(&mut table, 10_000).decides());
            table.timed.len()
        };
        for lasts in 0..whole {
            let mut table = table(valley);
            table.clock_lasts = lasts;
            let found = run(&mut table, 10_000);
            assert_eq!((found.variant, found.kept), (DEFAULT, Some(Kept::TimestampsGivenUp)), "after {lasts}");
            assert!(found.pairs.is_empty() && !found.decides(), "after {lasts}");
            assert_eq!(table.timed.len(), lasts, "nothing is timed after it");
        }
    }

    #[test]
    fn a_variant_that_the_device_refuses_is_reported_and_left_out() {
        let found = run(&mut table(valley), 10_000);
        let refused = found.candidates.iter().filter(|candidate| matches!(candidate.verdict, Verdict::Refused(_)));
        assert!(refused.clone().count() > 0);
        assert!(refused.clone().all(|candidate| candidate.variant.invocations == 256));
    }

    #[test]
    fn the_search_ends_within_its_time_and_knows_the_best_so_far() {
        for budget in [2, 5, 10, 30, 60] {
            let mut table = table(valley);
            let found = run(&mut table, budget);
            assert!(table.elapsed <= Duration::from_secs(budget), "{budget}: {:?}", table.elapsed);
            assert!(valley(found.variant) <= valley(DEFAULT));
        }
    }

    #[test]
    fn a_default_that_is_fastest_stays() {
        let found = run(&mut table(|variant| if variant == DEFAULT { 0.1 } else { 0.2 }), 10_000);
        assert_eq!((found.variant, found.pairs), (DEFAULT, Vec::new()));
        assert!(found.candidates.len() > 10);
    }

    #[test]
    fn settings_that_hold_the_classes_alike_are_tried_once() {
        let candidates = Candidates::all(&[2, 3]);
        assert!(!candidates.changes(Setting::Classes(8, 8, 8), DEFAULT));
        assert!(Candidates::all(&[14]).changes(Setting::Classes(16, 16, 16), DEFAULT));
    }
}
