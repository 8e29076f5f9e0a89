//! Nanoseconds per logit, against the number of classes and against the volume: by the slope between so many steps per submission
//! and twice as many, so that what a submission costs is left out.

use anyhow::Result;
use segloss::Variant;
use segloss::tuning::{Clock, ClockKind};

use super::figures::{Figures, Ratio};
use super::floor::{Floor, Kind};
use super::peers::Peers;
use super::race::Race;
use super::unfused::Unfused;
use super::workload::{Heads, SMOOTHING, Stored, Workload, dice_ce, shape_name};

/// Logits in the sweep over classes, rounded down so that rows are whole cache lines.
const LOGITS: usize = 1 << 23;
pub const CLASSES: [usize; 14] = [2, 3, 4, 8, 14, 17, 24, 32, 48, 64, 105, 117, 200, 256];
/// Side lengths of the sweep over volumes, in voxels; with four classes.
const SIDES: [usize; 6] = [25, 32, 48, 64, 96, 128];
/// Each round of a point takes seconds.
const MOST_ROUNDS: usize = 15;

/// A submission has enough steps that they are this many logits.
const LOGITS_PER_SUBMISSION: usize = 1 << 22;

/// Ends early where the clock is no longer of this kind.
pub fn run(
    clock: &Clock,
    kind: ClockKind,
    heads: &Heads,
    runs: usize,
    mut peers: Option<&mut Peers>,
    all: &mut Figures,
) -> Result<()> {
    let rounds = runs.min(MOST_ROUNDS);
    let classes = CLASSES.map(|classes| vec![1, classes, LOGITS / classes / 64 * 64]);
    let volumes = SIDES.map(|side| vec![2, 4, side, side, side]);
    for shape in classes.into_iter().chain(volumes) {
        one(clock, &shape, heads, rounds, peers.as_deref_mut(), all)?;
        if clock.kind() != kind {
            break;
        }
    }
    Ok(())
}

fn one(
    clock: &Clock,
    shape: &[usize],
    heads: &Heads,
    rounds: usize,
    peers: Option<&mut Peers>,
    all: &mut Figures,
) -> Result<()> {
    let variant = Variant::for_device(&clock.device);
    let workload = |stored: Stored| {
        let workload = Workload::new(clock, vec![stored.head(shape, dice_ce(SMOOTHING))], variant)?;
        Ok((stored.to_string(), workload))
    };
    let ours = heads.stored().map(workload).collect::<Result<Vec<_>>>()?;
    let first = &ours[0].1;
    let (read_bytes, write_bytes) = (first.statistics_bytes(), first.gradient_bytes());
    let read = Floor::usual(clock, Kind::Read, read_bytes)?;
    let copy = Floor::usual(clock, Kind::Copy, write_bytes - read_bytes)?;
    let unfused = Unfused::usual(clock, first, SMOOTHING)?;
    let peers = peers.map(|peers| peers.of(shape)).transpose()?;
    let name = shape_name(shape);
    let steps = LOGITS_PER_SUBMISSION.div_ceil(first.logits());
    let mut race = Race::new(&name);
    for (number, (stored, ours)) in ours.iter().enumerate() {
        let name = if number == 0 { "segloss".to_owned() } else { format!("segloss, {stored}") };
        race.slope(clock, &name, "forward", Some(ours.statistics_bytes()), steps, |pass| ours.step.forward(pass));
        race.slope(clock, &name, "backward", Some(ours.gradient_bytes()), steps, |pass| ours.step.backward(pass));
    }
    race.slope(clock, "floor", "forward", Some(read.bytes), steps, |pass| read.encode(pass));
    race.slope(clock, "floor", "backward", Some(copy.bytes), steps, |pass| copy.encode(pass));
    race.slope(clock, "unfused", "forward", None, steps, |pass| unfused.forward(pass));
    race.slope(clock, "unfused", "backward", None, steps, |pass| unfused.backward(pass));
    for peer in peers.iter().flat_map(|peers| &peers.names) {
        race.add(peer, "forward + backward", None, || peers.as_ref().map_or(Ok(f64::NAN), |peers| peers.time(peer)));
    }
    let results = race.run(rounds)?;
    all.figures.extend(results.figures());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let logits = vec![first.logits() as f64; rounds];
    all.ratios.push(Ratio::new("ns per logit", &name, &results.both("segloss"), &logits));
    all.ratios.push(results.ratio("time over the floor", "segloss", "floor"));
    Ok(())
}
