//! Random specifications, those that the tool draws, and how many of them a test runs.

use proptest::test_runner::{Config, RngSeed, TestRunner};
pub use segloss::testing::draw::{spec, tensors};

/// Specifications are drawn from a fixed seed, so that a run can be repeated; `SEGLOSS_SEED=42 cargo test` draws others.
pub fn runner(cases: u32) -> TestRunner {
    let seed = std::env::var("SEGLOSS_SEED").map_or(1, |seed| seed.parse().expect("SEGLOSS_SEED is a number"));
    println!("SEGLOSS_SEED={seed}");
    TestRunner::new(Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..Config::default() })
}
