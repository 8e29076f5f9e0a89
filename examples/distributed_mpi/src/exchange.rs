//! What the ranks exchange. A trainer only needs `all_reduce`; the rest is for the check.

use mpi::collective::{CommunicatorCollectives as _, Root as _, SystemOperation};
use mpi::datatype::PartitionMut;
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator as _;
use segloss::GlobalSums;

/// The sums over all ranks: f32 are added as f32, integers as integers.
pub fn all_reduce(world: &SimpleCommunicator, own: &GlobalSums) -> GlobalSums {
    let mut all = own.clone();
    world.all_reduce_into(&own.sums[..], &mut all.sums[..], SystemOperation::sum());
    world.all_reduce_into(&own.counts[..], &mut all.counts[..], SystemOperation::sum());
    all
}

pub fn barrier(world: &SimpleCommunicator) {
    world.barrier();
}

/// The total of every rank, as bits.
pub fn totals(world: &SimpleCommunicator, total: f32) -> Vec<u32> {
    let mut all = vec![0_u32; usize::try_from(world.size()).unwrap_or(0)];
    world.all_gather_into(&total.to_bits(), &mut all[..]);
    all
}

/// Gathers each head's gradients of all ranks on rank 0, one after another; the other ranks get nothing.
pub fn gather(world: &SimpleCommunicator, heads: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let root = world.process_at_rank(0);
    let mut whole = Vec::new();
    for own in heads {
        let length = i32::try_from(own.len()).expect("a small tensor");
        let mut lengths = vec![0_i32; usize::try_from(world.size()).unwrap_or(0)];
        world.all_gather_into(&length, &mut lengths[..]);
        if world.rank() != 0 {
            root.gather_varcount_into(&own[..]);
            continue;
        }
        let place = |end: &mut i32, length: &i32| {
            *end += length;
            Some(*end - length)
        };
        let places: Vec<i32> = lengths.iter().scan(0, place).collect();
        let mut all = vec![0.0_f32; lengths.iter().map(|&length| usize::try_from(length).unwrap_or(0)).sum()];
        root.gather_varcount_into_root(&own[..], &mut PartitionMut::new(&mut all[..], lengths, places));
        whole.push(all);
    }
    whole
}
