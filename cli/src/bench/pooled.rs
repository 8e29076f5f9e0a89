//! Eight heads whose tensors lie in one buffer, as an allocator that pools places them, beside the same heads in buffers of
//! their own.

use anyhow::Result;
use segloss::testing::{self, Place, Pool, PooledGradient};
use segloss::tuning::Clock;
use segloss::{Head, LossSpec, Plan, Step, Variant};

use super::figures::Figures;
use super::race::Race;
use super::workload::{SPREAD, Workload, shape_name};

const HEADS: usize = 8;
/// The largest offset alignment that a device may state: where an allocator places tensors.
const ALIGNMENT: usize = 256;

/// Times eight such heads in buffers of their own, in one buffer at the device's alignment, and in one at odd offsets.
pub fn run(clock: &Clock, head: &Head, variant: Variant, rounds: usize, all: &mut Figures) -> Result<()> {
    let heads = vec![head.clone(); HEADS];
    let name = format!("{}, {HEADS} heads", shape_name(&head.shape));
    let own = Workload::new(clock, heads.clone(), variant)?;
    let places = [
        ("one buffer, aligned", pooled(clock, &heads, variant, 0)?),
        ("one buffer, odd offsets", pooled(clock, &heads, variant, 1)?),
    ];
    let (read, write) = (Some(own.statistics_bytes()), Some(own.gradient_bytes()));
    let mut race = Race::new(&name);
    let steps =
        [("buffers of their own", &own.step)].into_iter().chain(places.iter().map(|(place, step)| (*place, step)));
    for (place, step) in steps {
        let (statistics, gradient) = step.dispatches();
        println!("{name}: {place}: dispatches of statistics and of gradient: {statistics}, {gradient}");
        race.pass(clock, place, "forward", read, |pass| step.forward(pass));
        race.pass(clock, place, "backward", write, |pass| step.backward(pass));
    }
    let results = race.run(rounds)?;
    all.ratios.extend(places.iter().map(|(place, _)| {
        results.ratio(&format!("{place}, over buffers of their own"), place, "buffers of their own")
    }));
    all.figures.extend(results.figures());
    Ok(())
}

/// A step on one buffer: per head logits, labels and gradient, each `odd` elements behind a multiple of the alignment.
fn pooled(clock: &Clock, heads: &[Head], variant: Variant, odd: usize) -> Result<Step> {
    let spec = LossSpec { heads: heads.to_vec() };
    let tensors: Vec<_> =
        heads.iter().zip(1..).map(|(head, seed)| testing::Tensors::random(head, SPREAD, seed)).collect();
    let place = Place { buffer: 0, alignment: ALIGNMENT, gap: odd };
    let pool = Pool::new(&spec, &tensors, |_| PooledGradient::Overwrite, |_, _| place);
    let plan = Plan::with_variant(&clock.device, &clock.queue, &spec, variant)?;
    let step = plan.bind(&pool.bindings(&pool.upload(&clock.device)))?;
    step.warm_up()?;
    Ok(step)
}
