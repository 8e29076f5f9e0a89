//! Random specifications, as the tool draws them, and how many of them a test runs. Tests that draw only `spec(1..4)`
//! get the same ones in the same order, so that their kernels are compiled once; anything else they draw comes from the
//! seed of each specification.

use proptest::test_runner::{Config, RngSeed, TestRunner};
pub use segloss::testing::draw::{spec, tensors};

/// An upstream gradient.
pub fn upstream(seed: u64) -> f32 {
    0.25 + 7.75 * fastrand::Rng::with_seed(!seed).f32()
}

/// Specifications are drawn from a fixed seed, so that a run can be repeated; `SEGLOSS_SEED=42 cargo test` draws
/// others, and `SEGLOSS_FUZZ=20` (`make fuzz`) draws 20 times as many.
pub fn runner(cases: u32) -> TestRunner {
    let number = |name: &str| std::env::var(name).map_or(1, |text| text.parse().expect("a number"));
    let (seed, factor) = (number("SEGLOSS_SEED"), u32::try_from(number("SEGLOSS_FUZZ")).expect("a small factor"));
    println!("SEGLOSS_SEED={seed}");
    TestRunner::new(Config {
        cases: cases * factor,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    })
}
