//! Every case of the published implementations that is supported, on every adapter of this machine.
#![allow(missing_docs, reason = "a test's name is its claim")]

mod common;

use std::path::Path;

use common::all_gpus;
use segloss::cases::{self, Outcome};

/// Cases of a file, and how many of them need what the crate has not yet.
fn all_pass(file: &str, cases: usize, unsupported: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(file);
    let read = cases::read(&path).expect("the file is there").cases;
    assert_eq!(read.len(), cases);
    for gpu in all_gpus() {
        let mut lacking = 0;
        for case in &read {
            match cases::run(&gpu.device, &gpu.queue, case) {
                Outcome::Passed => {}
                Outcome::Unsupported(_) => lacking += 1,
                Outcome::Failed(differences) => panic!("{}: {}: {differences:?}", gpu.name, case.id),
            }
        }
        assert_eq!(lacking, unsupported, "{}", gpu.name);
    }
}

#[test]
fn cases_run_by_monai_nnunet_and_pytorch() {
    all_pass("reference.json.gz", 187, 0);
}

#[test]
fn values_printed_in_monais_own_tests() {
    all_pass("monai_tests.json.gz", 51, 0);
}

#[test]
fn a_wrong_case_fails() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/reference.json.gz");
    let mut case = cases::read(&path).expect("the file is there").cases.swap_remove(0);
    let gpu = common::gpu();
    assert_eq!(cases::run(&gpu.device, &gpu.queue, &case), Outcome::Passed);
    case.expected.loss.0 += 1e-5;
    let outcome = cases::run(&gpu.device, &gpu.queue, &case);
    assert!(
        matches!(&outcome, Outcome::Failed(what) if what.len() == 1 && what[0].starts_with("total")),
        "{outcome:?}"
    );
    case.expected.loss.0 -= 1e-5;
    case.expected.grads.as_mut().expect("it has gradients")[0][3].0 += 1e-5;
    let outcome = cases::run(&gpu.device, &gpu.queue, &case);
    assert!(
        matches!(&outcome, Outcome::Failed(what) if what.len() == 1 && what[0].contains("gradient")),
        "{outcome:?}"
    );
}
