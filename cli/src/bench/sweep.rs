//! Nanoseconds per logit, against the number of classes and against the volume.

use anyhow::Result;
use segloss::tuning::{Clock, ClockKind};
use segloss::{FloatType, Variant};

use super::figures::{Figures, Ratio};
use super::floor::{Floor, Kind};
use super::race::Race;
use super::unfused::Unfused;
use super::workload::{self, SMOOTHING, Workload, dice_ce, shape_name};

/// Logits in the sweep over classes, rounded down so that rows are whole cache lines.
const LOGITS: usize = 1 << 23;
pub const CLASSES: [usize; 14] = [2, 3, 4, 8, 14, 17, 24, 32, 48, 64, 105, 117, 200, 256];
/// Side lengths of the sweep over volumes, in voxels; with four classes.
const SIDES: [usize; 6] = [25, 32, 48, 64, 96, 128];
const ROUNDS: usize = 15;

/// Ends early where the clock is no longer of this kind.
pub fn run(clock: &Clock, kind: ClockKind, float: FloatType, all: &mut Figures) -> Result<()> {
    let classes = CLASSES.map(|classes| vec![1, classes, LOGITS / classes / 64 * 64]);
    let volumes = SIDES.map(|side| vec![2, 4, side, side, side]);
    for shape in classes.into_iter().chain(volumes) {
        one(clock, &shape, float, all)?;
        if clock.kind() != kind {
            break;
        }
    }
    Ok(())
}

fn one(clock: &Clock, shape: &[usize], float: FloatType, all: &mut Figures) -> Result<()> {
    let variant = Variant::for_device(&clock.device);
    let ours = Workload::new(clock, vec![workload::head(shape, dice_ce(SMOOTHING), float)], variant)?;
    let (read_bytes, write_bytes) = (ours.statistics_bytes(), ours.gradient_bytes());
    let read = Floor::usual(clock, Kind::Read, read_bytes)?;
    let copy = Floor::usual(clock, Kind::Copy, write_bytes - read_bytes)?;
    let unfused = Unfused::usual(clock, &ours, SMOOTHING)?;
    let name = shape_name(shape);
    let mut race = Race::new(&name);
    race.pass(clock, "segloss", "forward", Some(read_bytes), |pass| ours.step.forward(pass));
    race.pass(clock, "segloss", "backward", Some(write_bytes), |pass| ours.step.backward(pass));
    race.pass(clock, "floor", "forward", Some(read.bytes), |pass| read.encode(pass));
    race.pass(clock, "floor", "backward", Some(copy.bytes), |pass| copy.encode(pass));
    race.pass(clock, "unfused", "forward", None, |pass| unfused.forward(pass));
    race.pass(clock, "unfused", "backward", None, |pass| unfused.backward(pass));
    let results = race.run(ROUNDS)?;
    all.figures.extend(results.figures());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let logits = vec![ours.logits() as f64; ROUNDS];
    all.ratios.push(Ratio::new("ns per logit", &name, &results.both("segloss"), &logits));
    all.ratios.push(results.ratio("time over the floor", "segloss", "floor"));
    Ok(())
}
