//! Eight heads whose tensors lie in one buffer, as an allocator that pools places them, beside the same heads in buffers of
//! their own.

use std::num::NonZeroU64;

use anyhow::Result;
use segloss::tuning::Clock;
use segloss::wgpu::util::DeviceExt as _;
use segloss::{Head, HeadTensors, LabelType, LossSpec, Plan, Step, Variant, host, testing, wgpu};

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
    let mut contents: Vec<u8> = Vec::new();
    let mut place = |bytes: &[u8], element: usize| {
        contents.resize(contents.len().next_multiple_of(ALIGNMENT) + odd * element, 0);
        let first = contents.len();
        contents.extend_from_slice(bytes);
        (first, bytes.len())
    };
    let mut spans = Vec::new();
    for (head, seed) in heads.iter().zip(1..) {
        let tensors = testing::Tensors::random(head, SPREAD, seed);
        let logits = host::float_bytes(&tensors.logits, head.logits);
        let element = logits.len() / tensors.logits.len();
        let labels = host::label_bytes(&tensors.labels, LabelType::U8);
        spans.push([place(&logits, element), place(&labels, 1), place(&vec![0; logits.len()], element)]);
    }
    contents.resize(contents.len().next_multiple_of(ALIGNMENT), 0);
    let usage = wgpu::BufferUsages::STORAGE;
    let pool =
        clock.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents: &contents, usage });
    let bind = |(first, length): (usize, usize)| wgpu::BufferBinding {
        buffer: &pool,
        offset: first as u64,
        size: NonZeroU64::new(length as u64),
    };
    let tensors = spans
        .into_iter()
        .map(|[logits, labels, gradient]| HeadTensors::new(bind(logits), bind(labels)).gradient(bind(gradient)));
    let plan = Plan::with_variant(&clock.device, &clock.queue, &LossSpec { heads: heads.to_vec() }, variant)?;
    let step = plan.bind(&tensors.collect::<Vec<_>>())?;
    step.warm_up()?;
    Ok(step)
}
