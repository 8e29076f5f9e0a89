//! Which combinations of choices are checked: every pair, a sample, and what was broken once.

use std::collections::BTreeSet;

use super::axes::{AXES, BOUND, Choice, exists};

/// How many combinations are drawn for a pair; the one with the most new pairs is taken. Where none of them is possible, the
/// pair is taken to be impossible.
const DRAWS: usize = 60;

/// A choice of one axis, and one of another.
type Pair = [(usize, usize); 2];

fn pairs_of(choice: &Choice) -> impl Iterator<Item = Pair> + '_ {
    let all = || choice.iter().copied().enumerate();
    all().flat_map(move |one| all().skip(one.0 + 1).map(move |other| [one, other]))
}

/// A few combinations that together have every pair of those that `fits` accepts. The same in every run.
pub(super) fn every_pair(fits: impl Fn(&Choice) -> bool) -> Vec<Choice> {
    let mut random = fastrand::Rng::with_seed(1);
    let axes = || AXES.iter().enumerate();
    let all_of = |(at, axis): (usize, &super::axes::Axis)| (0..axis.choices.len()).map(move |choice| (at, choice));
    let mut open: BTreeSet<Pair> = axes()
        .flat_map(all_of)
        .flat_map(|one| axes().skip(one.0 + 1).flat_map(all_of).map(move |other| [one, other]))
        .collect();
    let mut found = Vec::new();
    while let Some(&pair) = open.first() {
        let draws = (0..DRAWS).map(|_| drawn(&mut random, &pair)).filter(|choice| exists(choice) && fits(choice));
        let new = |choice: &Choice| pairs_of(choice).filter(|pair| open.contains(pair)).count();
        let best = draws.max_by_key(new);
        open.remove(&pair);
        if let Some(best) = best {
            pairs_of(&best).for_each(|pair| _ = open.remove(&pair));
            found.push(best);
        }
    }
    found
}

/// A random combination with the `given` choices. On an axis of more than four choices, at least half of the draws are the
/// plainest, so that choices that are possible only together meet often enough.
fn drawn(random: &mut fastrand::Rng, given: &[(usize, usize)]) -> Choice {
    let mut choice = Choice::default();
    for (at, axis) in AXES.iter().enumerate() {
        let plain = axis.choices.len() > 4 && random.bool();
        choice[at] = if plain { 0 } else { random.usize(0..axis.choices.len()) };
    }
    for &(axis, at) in given {
        choice[axis] = at;
    }
    choice
}

/// `count` possible combinations, drawn from `seed`.
pub(super) fn sample(seed: u64, count: usize) -> Vec<Choice> {
    let mut random = fastrand::Rng::with_seed(seed);
    let any = |random: &mut fastrand::Rng| AXES.each_ref().map(|axis| random.usize(0..axis.choices.len()));
    std::iter::repeat_with(|| any(&mut random)).filter(exists).take(count).collect()
}

/// What was broken once: texts that a compiler or a driver refused or got wrong, by their choices that are not the plainest.
const BROKEN: [&[(&str, &str)]; 4] = [
    // builtins of subgroups were fields of a structure, for which naga's HLSL has no semantics
    &[("reduction", "subgroup")],
    // a NaN vanished from a top-k
    &[("pixel", "top-k")],
    // a 0 that was accumulated changed a −0
    &[("floats", "f16"), ("gradient", "accumulate")],
    // SwiftShader did not compile twenty-four subgroup sums in the loop of a stream: now there are six
    &[("classes", "17-classes-streamed"), ("outputs", "all-outputs"), ("reduction", "subgroup")],
];

pub(super) fn broken() -> Vec<Choice> {
    let choice = |given: &&[(&str, &str)]| {
        let mut choice = Choice::default();
        for (what, name) in *given {
            let at = AXES.iter().position(|axis| axis.what == *what).expect("an axis");
            choice[at] = AXES[at].choices.iter().position(|(choice, _)| choice == name).expect("a choice");
        }
        choice
    };
    BROKEN.iter().map(choice).collect()
}

/// How many combinations are possible: those of the axes that bind each other, times the choices of all others.
pub(super) fn count() -> u64 {
    let (bound, free): (Vec<usize>, Vec<usize>) = (0..AXES.len()).partition(|&at| BOUND.contains(&AXES[at].what));
    let mut choice = Choice::default();
    let mut count = 0;
    loop {
        count += u64::from(exists(&choice));
        // the next combination, as an odometer counts
        let Some(&next) = bound.iter().find(|&&at| choice[at] + 1 < AXES[at].choices.len()) else { break };
        bound.iter().take_while(|&&at| at != next).for_each(|&at| choice[at] = 0);
        choice[next] += 1;
    }
    count * free.iter().map(|&at| AXES[at].choices.len() as u64).product::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_that_exists_is_in_few_choices() {
        let few = every_pair(|_| true);
        assert!(few.len() < 180, "{}", few.len());
        let mut seen: BTreeSet<Pair> = few.iter().flat_map(pairs_of).collect();
        let before = seen.len();
        seen.extend(sample(7, 200_000).iter().flat_map(pairs_of));
        assert_eq!(seen.len(), before, "a pair exists that is in none");
    }

    #[test]
    fn a_sample_is_that_of_its_seed() {
        assert_eq!(sample(3, 50), sample(3, 50));
        assert_ne!(sample(3, 50), sample(4, 50));
    }
}
