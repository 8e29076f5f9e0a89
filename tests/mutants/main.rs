//! The mutation check (`make mutants`): small deliberate faults in the shaders, each of which a test has to catch.
//!
//! The tests are built only once: with the crate's feature `testing`, the text of one shader is read from a file. The
//! test that is listed with a fault must pass without it and fail with it.

mod list;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use list::{MUTANTS, Mutant};
use serde_json::Value;

/// The outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passes,
    Fails,
    /// The shader does not compile, so the test did not catch the fault.
    Broken,
}

fn main() -> ExitCode {
    let missed = missed(&built());
    if missed.is_empty() {
        println!("{} faults, all caught", MUTANTS.len());
        return ExitCode::SUCCESS;
    }
    println!("{} of {} are wrong: {}", missed.len(), MUTANTS.len(), missed.join(", "));
    ExitCode::FAILURE
}

/// The tests that fail without any fault; if there are none, the faults that are not caught.
fn missed(binaries: &HashMap<String, PathBuf>) -> Vec<&'static str> {
    let mut tests: Vec<_> = MUTANTS.iter().map(|mutant| mutant.test).collect();
    tests.sort_unstable();
    tests.dedup();
    let unfaulted = side_by_side(&tests, |test| run(binaries, test, None));
    let failing: Vec<_> = tests.into_iter().zip(unfaulted).filter(|(_, outcome)| *outcome != Outcome::Passes).collect();
    if !failing.is_empty() {
        return failing.into_iter().map(|(test, _)| test).collect();
    }
    let found = side_by_side(&MUTANTS, |mutant| {
        let said = check(binaries, mutant);
        println!("{said:7} {:42} {}", mutant.name, mutant.test);
        said
    });
    MUTANTS.iter().zip(found).filter(|(_, said)| *said != CAUGHT).map(|(mutant, _)| mutant.name).collect()
}

/// What `work` gives for each, one per core at a time: a test of one adapter keeps one core busy, with the driver's compiler.
fn side_by_side<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut found: Vec<(usize, R)> = thread::scope(|scope| {
        let worker = || {
            let mut mine = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(one) = all.get(index) else { return mine };
                mine.push((index, work(one)));
            }
        };
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker ends")).collect()
    });
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, result)| result).collect()
}

const CAUGHT: &str = "caught";

fn check(binaries: &HashMap<String, PathBuf>, mutant: &Mutant) -> &'static str {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(mutant.file)).expect("the file is there");
    if text.matches(mutant.find).count() != 1 {
        return "stale: what it replaces is not there exactly once";
    }
    let file = format!("fault {}.wgsl", mutant.name);
    let fault = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file);
    let both = format!("{text}\0{}", text.replace(mutant.find, mutant.replace));
    fs::write(&fault, both).expect("the temporary folder is writable");
    let outcome = run(binaries, mutant.test, Some(&fault));
    fs::remove_file(&fault).expect("the fault is removed");
    match outcome {
        Outcome::Fails => CAUGHT,
        Outcome::Passes => "missed",
        Outcome::Broken => "broken: the shader does not compile",
    }
}

/// The binaries of the tests, by name; built if necessary.
fn built() -> HashMap<String, PathBuf> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--no-run", "--features", "proptest,tuning", "--test", "kernels", "--test", "api"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the tests are built");
    let artifacts = output.stdout.split(|&byte| byte == b'\n').filter_map(|line| {
        let message: Value = serde_json::from_slice(line).ok()?;
        Some((message["target"]["name"].as_str()?.to_owned(), message["executable"].as_str()?.into()))
    });
    artifacts.collect()
}

/// Runs one test, `binary::file::name`, on the best adapter, with or without a fault.
fn run(binaries: &HashMap<String, PathBuf>, test: &str, fault: Option<&Path>) -> Outcome {
    let (binary, name) = test.split_once("::").expect("binary::file::name");
    let mut command = Command::new(&binaries[binary]);
    command.args(["--exact", name]).current_dir(env!("CARGO_MANIFEST_DIR")).env("SEGLOSS_ADAPTERS", "1");
    match fault {
        Some(fault) => command.env("SEGLOSS_FAULT", fault),
        None => command.env_remove("SEGLOSS_FAULT"),
    };
    let output = command.output().expect("the test runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.contains("1 passed") {
        return Outcome::Passes;
    }
    // where wgpu refuses a shader, the test fails with an error of this crate
    let refused = said.contains("Device {");
    if said.contains("test result: FAILED") && !refused { Outcome::Fails } else { Outcome::Broken }
}
