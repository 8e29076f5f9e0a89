//! Compares the ranks with one plan on the whole batch.

use anyhow::{Result, ensure};
use mpi::topology::SimpleCommunicator;
use segloss::host::{self, HostTensors};
use segloss::{Plan, Report, wgpu};

use crate::{batch, exchange};

/// The relative difference that another order of additions may cause.
const TOLERANCE: f32 = 2e-6;

/// Checks that every rank has the same total, bit for bit.
pub fn totals_agree(world: &SimpleCommunicator, report: &Report) -> Result<()> {
    let totals = exchange::totals(world, report.total);
    ensure!(totals.iter().all(|&total| total == report.total.to_bits()), "the ranks' totals differ: {totals:x?}");
    Ok(())
}

/// Checks that total, report and the gathered gradients equal those of one plan on the whole batch.
pub fn equals_one_plan(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    ranks: usize,
    report: &Report,
    gradients: &[Vec<f32>],
) -> Result<()> {
    let spec = batch::spec(batch::items(ranks));
    let plan = Plan::new(device, queue, &spec)?;
    let tensors = batch::tensors(&spec, &(0..batch::items(ranks)), ranks);
    let host: Vec<_> = tensors.iter().map(|(logits, labels)| HostTensors::labels(logits, labels)).collect();
    let one = host::run(&plan, &host, 1.0)?;

    let near = |what: &str, given: f32, expected: f32| {
        let difference = (given - expected).abs() / expected.abs().max(1.0);
        ensure!(difference <= TOLERANCE, "{what}: the ranks have {given}, one plan has {expected}");
        Ok(())
    };
    near("total", report.total, one.report.total)?;
    ensure!(gradients.len() == one.gradients.len(), "gradients of {} heads were gathered", gradients.len());
    let mut worst = 0.0_f32;
    for (index, (given, expected)) in report.heads.iter().zip(&one.report.heads).enumerate() {
        for (term, given, expected) in
            [("overlap", given.overlap, expected.overlap), ("pixel", given.pixel, expected.pixel)]
        {
            let value = |term: Option<segloss::Term>| term.map_or(0.0, |term| term.value);
            near(&format!("head {index}: {term}"), value(given), value(expected))?;
        }
        for (given, expected) in given.soft_dice.iter().zip(&expected.soft_dice) {
            near(&format!("head {index}: soft Dice"), *given, *expected)?;
        }
        let counts = |report: &segloss::HeadReport| (report.counted, report.ignored, report.out_of_range);
        ensure!(counts(given) == counts(expected), "head {index}: the ranks count {:?}", counts(given));
        let (given, expected) = (&gradients[index], &one.gradients[index]);
        ensure!(given.len() == expected.len(), "head {index}: {} gradients were gathered", given.len());
        let largest = expected.iter().fold(0.0_f32, |a, dz| a.max(dz.abs()));
        for (given, expected) in given.iter().zip(expected) {
            let difference = (given - expected).abs() / largest;
            ensure!(difference <= TOLERANCE, "head {index}: gradient {given}, and {expected} of one plan");
            worst = worst.max(difference);
        }
    }
    println!("  equals one plan on the whole batch; the gradients to {worst:.1e} of the largest");
    Ok(())
}
