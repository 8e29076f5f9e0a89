//! The mutation check (`make mutants`): small deliberate faults in the shaders, each of which a test has to catch.
//!
//! Copies the crate, puts one fault after the other into the copy, and runs the test that is named with it: it must pass
//! without the fault and fail with it.

mod list;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs, io};

use list::{MUTANTS, Mutant};

/// What a build and its tests need of the crate.
const PARTS: [&str; 9] =
    ["Cargo.toml", "Cargo.lock", "README.md", "src", "shaders", "tests", "docs", "benches", "examples"];

/// How a test ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passes,
    Fails,
    /// The shader does not even compile: no fault that a test could be praised for.
    Broken,
}

fn main() -> ExitCode {
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    copy_crate(&copy).expect("the crate is copied");
    let missed = missed(&copy);
    fs::remove_dir_all(&copy).expect("the copy is removed");
    if missed.is_empty() {
        println!("{} faults, all caught", MUTANTS.len());
        return ExitCode::SUCCESS;
    }
    println!("{} of {} are wrong: {}", missed.len(), MUTANTS.len(), missed.join(", "));
    ExitCode::FAILURE
}

/// The tests that fail without any fault; or else the faults that are not caught.
fn missed(copy: &Path) -> Vec<&'static str> {
    let mut tests: Vec<_> = MUTANTS.iter().map(|mutant| mutant.test).collect();
    tests.sort_unstable();
    tests.dedup();
    let failing: Vec<_> = tests.into_iter().filter(|test| run(copy, test) != Outcome::Passes).collect();
    if !failing.is_empty() {
        return failing;
    }
    let mut missed = Vec::new();
    for mutant in &MUTANTS {
        let said = check(copy, mutant);
        println!("{said:7} {:34} {}", mutant.name, mutant.test);
        if said != CAUGHT {
            missed.push(mutant.name);
        }
    }
    missed
}

const CAUGHT: &str = "caught";

fn check(copy: &Path, mutant: &Mutant) -> &'static str {
    let path = copy.join(mutant.file);
    let text = fs::read_to_string(&path).expect("the mutant's file is there");
    if text.matches(mutant.find).count() != 1 {
        return "stale: what it replaces is not there exactly once";
    }
    fs::write(&path, text.replace(mutant.find, mutant.replace)).expect("the copy is writable");
    let outcome = run(copy, mutant.test);
    fs::write(&path, text).expect("the copy is writable");
    match outcome {
        Outcome::Fails => CAUGHT,
        Outcome::Passes => "missed",
        Outcome::Broken => "broken: the shader does not compile",
    }
}

/// Runs one test, `file::name`, in the copy.
fn run(copy: &Path, test: &str) -> Outcome {
    let (file, name) = test.split_once("::").expect("file::name");
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["test", "--features", "cli", "--test", file, "--", "--exact", name])
        .current_dir(copy)
        // the dependencies are built already
        .env("CARGO_TARGET_DIR", target())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() && said.contains("1 passed") {
        return Outcome::Passes;
    }
    // wgpu's refusal of a shader arrives as an error of this crate
    let refused = said.contains("Device {");
    if said.contains("test result: FAILED") && !refused { Outcome::Fails } else { Outcome::Broken }
}

/// The target folder: that in which the temporary one of this test lies.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder inside the target folder")
}

fn copy_crate(copy: &Path) -> io::Result<()> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir_all(copy)?;
    PARTS.iter().try_for_each(|part| copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &copy.join(part)))
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(|_| ());
    }
    fs::create_dir_all(to)?;
    fs::read_dir(from)?.try_for_each(|entry| {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))
    })
}
