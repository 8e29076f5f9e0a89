//! Every supported case of the published implementations, on every adapter of this machine. The combinations hardly
//! share kernels, so only a part of them runs here; `make check` and `make validate` run all of them on every adapter.

use std::path::Path;

use segloss::testing::cases::{self, Case, Expected, ExpectedHead, Outcome};
use segloss::{Loss, MemoryFormat};

use crate::common::{self, all_gpus};

/// All cases of a file pass on every adapter. `cases`: how many there are; `unsupported`: how many need something the
/// crate lacks.
fn all_pass(file: &str, cases: usize, unsupported: usize) {
    pass(file, cases, unsupported, [1, 1]);
}

/// As `all_pass`, but runs one case in `one_in[0]` on the best adapter, and one in `one_in[1]` on the others.
fn pass(file: &str, cases: usize, unsupported: usize, one_in: [usize; 2]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(file);
    let read = cases::read(&path).expect("the file is there").cases;
    assert_eq!(read.len(), cases);
    for (index, gpu) in all_gpus().into_iter().enumerate() {
        let mut lacking = 0;
        for case in read.iter().step_by(one_in[index.min(1)]) {
            match cases::run(&gpu.plans, case) {
                Outcome::Passed(_) => {}
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

/// Cases from public reports, in which a loss silently had another value than the published implementation's.
#[test]
fn what_people_reported() {
    all_pass("reported.json", 7, 0);
}

/// The losses of nine libraries. The others need heads of several terms or targets, and what such heads have.
#[test]
fn cases_of_nine_libraries() {
    all_pass("family.json.gz", 338, 141);
}

#[test]
fn combinations_of_published_terms() {
    pass("combinations.json.gz", 278, 0, [6, 48]);
}

/// The numbers are the same, wherever they lie.
#[test]
fn published_cases_pass_with_channels_last() {
    let gpu = common::gpu();
    for file in ["reference.json.gz", "monai_tests.json.gz", "combinations.json.gz"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(file);
        for case in cases::read(&path).expect("the file is there").cases.iter().step_by(6) {
            let outcome = cases::run_in(&gpu.plans, case, MemoryFormat::ChannelsLast);
            assert!(matches!(outcome, Outcome::Passed(_)), "{}: {outcome:?}", case.id);
        }
    }
}

fn results(case: &mut Case) -> &mut cases::Results {
    match &mut case.expected {
        Expected::Results(results) => results,
        Expected::Refused(refused) => panic!("{refused:?}"),
    }
}

/// Results that only these cases expect are compared as well.
#[test]
fn a_wrong_output_fails() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/combinations.json.gz");
    let all = cases::read(&path).expect("the file is there").cases;
    let gpu = common::gpu();
    let fails = |id: &str, word: &str, change: fn(&mut ExpectedHead)| {
        let mut case = all.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("{id}")).clone();
        assert!(matches!(cases::run(&gpu.plans, &case), Outcome::Passed(_)));
        change(&mut results(&mut case).heads.as_mut().expect("it has terms")[0]);
        let outcome = cases::run(&gpu.plans, &case);
        assert!(matches!(&outcome, Outcome::Failed(what) if what.len() == 1 && what[0].contains(word)), "{outcome:?}");
    };
    fails("hard counts/2x4x5x3/argmax", "hard_counts", |head| {
        head.metrics.as_mut().expect("metrics").hard_counts.as_mut().expect("counts")[2][1] += 1;
    });
    fails("unreduced/2x4x5x3/dice,batch=False", "overlap_losses[5]", |head| {
        head.overlap_losses.as_mut().expect("losses")[1][1].0 += 1e-3;
    });
    fails("unreduced/2x4x5x3/cross-entropy", "voxel_losses[29]", |head| {
        head.voxel_losses.as_mut().expect("losses")[29].0 += 1e-3;
    });
    fails("unreduced/2x4x5x3/cross-entropy", "numbers of voxel_losses: expected 29, got 30", |head| {
        head.voxel_losses.as_mut().expect("losses").truncate(29);
    });
}

#[test]
fn a_wrong_case_fails() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/reference.json.gz");
    let mut case = cases::read(&path).expect("the file is there").cases.swap_remove(0);
    let gpu = common::gpu();
    assert!(matches!(cases::run(&gpu.plans, &case), Outcome::Passed(_)));
    results(&mut case).loss.0 += 1e-5;
    let outcome = cases::run(&gpu.plans, &case);
    assert!(
        matches!(&outcome, Outcome::Failed(what) if what.len() == 1 && what[0].starts_with("total")),
        "{outcome:?}"
    );
    results(&mut case).loss.0 -= 1e-5;
    results(&mut case).grads.as_mut().expect("it has gradients")[0][3].0 += 1e-5;
    let outcome = cases::run(&gpu.plans, &case);
    assert!(
        matches!(&outcome, Outcome::Failed(what) if what.len() == 1 && what[0].contains("gradient")),
        "{outcome:?}"
    );
}

/// The presets have the same settings as the cases that the published classes wrote with their defaults.
#[test]
fn presets_are_the_published_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/reference.json.gz");
    let all = cases::read(&path).expect("the file is there").cases;
    // these cases sum over the batch, which the presets leave to the user's configuration
    let over_the_batch = |loss: Loss| Loss { overlap: loss.overlap.map(|overlap| overlap.batch(true)), ..loss };
    for (id, preset) in [
        ("monai/2x4x3x2/defaults", Loss::monai_dice_ce()),
        ("monai/2x4x3x2/tversky 0.5,0.5,bg=True", Loss::monai_tversky()),
        ("monai/2x4x3x2/generalized dice square,all", Loss::monai_generalized_dice()),
        ("nnunet/2x4x3x2/batch_dice=False,do_bg=False,ignore=False", Loss::nnunet_dc_ce()),
        ("nnunet/2x4x3x2/regions", over_the_batch(Loss::nnunet_dc_bce())),
        ("nnunet/2x3x2x3x2/top-k", over_the_batch(Loss::nnunet_dc_topk())),
        ("torch/2x4x3x2/mean,smoothing=0.0,weights=n,ignore=None", Loss::torch_cross_entropy()),
    ] {
        let case = all.iter().find(|case| case.id == id).unwrap_or_else(|| panic!("{id}"));
        let mut given = case.heads[0].to_head().expect("supported").loss;
        // the mean over no voxel is in no case
        if let (Some(given), Some(preset)) = (&mut given.pixel, &preset.pixel) {
            given.empty = preset.empty;
        }
        assert_eq!(given, preset, "{id}");
    }
}
