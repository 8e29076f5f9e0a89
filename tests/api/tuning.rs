//! Variants that are measured, and remembered.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use segloss::tuning::{Measured, Tuned, Verdict, remembered, tune};
use segloss::{Activation, Error, FloatType, Head, LabelType, Loss, LossSpec, Overlap, Pixel, Plan, Variant, wgpu};

use crate::common::{self, Gpu, all_gpus, differences, evaluate, gpu, gpu_with_limits, random_tensors};

/// A folder of one test, new and empty.
fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder is made");
    folder
}

fn spec() -> LossSpec {
    LossSpec::new()
        .head(Head::new([2, 4, 16, 16, 16], Loss::monai_dice_ce()).ignore_index(255))
        .head(Head::new([2, 14, 8, 8, 8], Loss::nnunet_dc_ce()).logits(FloatType::F16))
}

fn measure(gpu: &Gpu, spec: &LossSpec, file: &std::path::Path, seconds: u64) -> Result<Tuned, Error> {
    let measured = Measured::new(file).budget(Duration::from_secs(seconds));
    tune(&gpu.device, &gpu.queue, spec, &measured, &mut |_| {})
}

/// Lets the driver compile and cache the default. A measurement begins no candidate that may not end in time, judged by
/// the default; with the compilation in the default's time, beside other tests, it would begin none.
fn compile_the_default(gpu: &Gpu, spec: &LossSpec, file: &std::path::Path) {
    assert!(measure(gpu, spec, file, 0).expect("tuned").candidates.is_empty());
}

#[test]
fn a_measured_plan_equals_the_reference_and_the_next_one_measures_nothing() {
    let file = folder("measured").join("tuning.json");
    let spec = LossSpec::new().head(Head::new([2, 4, 16, 16], Loss::monai_dice_ce()).ignore_index(255));
    for gpu in all_gpus() {
        let plan = || {
            let variant = measure(&gpu, &spec, &file, 10).expect("tuned").variant;
            Plan::with_variant(&gpu.device, &gpu.queue, &spec, variant).expect("the plan is made")
        };
        let (again, plan) = (plan, plan());
        let random = &mut fastrand::Rng::with_seed(3);
        let tensors: Vec<_> = spec.heads.iter().map(|head| random_tensors(head, 3.0, random)).collect();
        let given = common::run_variant(&gpu, &spec, &tensors, 1.0, plan.variant());
        let expected = evaluate(&spec, &tensors, 1.0);
        let worst = differences(&given, &expected);
        assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {worst:?}", gpu.name);

        let text = std::fs::read_to_string(&file).expect("the choice is remembered");
        assert_eq!(again().variant(), plan.variant());
        let tuned = measure(&gpu, &spec, &file, 10).expect("tuned");
        assert!(tuned.remembered && tuned.candidates.is_empty());
        assert_eq!(std::fs::read_to_string(&file).expect("the file is there"), text);
    }
    let left: Vec<_> = std::fs::read_dir(file.parent().expect("a folder")).expect("read").collect();
    assert_eq!(left.len(), 1, "nothing is left beside the file: {left:?}");
}

#[test]
fn every_candidate_computes_what_the_default_does_whatever_a_head_has() {
    let gpu = gpu();
    let loss = || Loss::new().overlap(Overlap::dice().batch(true)).pixel(Pixel::cross_entropy().label_smoothing(0.1));
    let sigmoid = Loss {
        activation: Activation::Sigmoid,
        ..Loss::new().overlap(Overlap::dice()).pixel(Pixel::binary_cross_entropy())
    };
    let spec = LossSpec::new()
        .head(
            Head::new([2, 3, 9, 7], loss())
                .labels(LabelType::I32)
                .ignore_index(-1)
                .resample([18, 14])
                .sample_mask(true),
        )
        .head(
            Head::new([1, 5, 16, 16], sigmoid.clone())
                .probabilities(FloatType::Bf16)
                .logits(FloatType::Bf16)
                .mask(true),
        )
        .head(Head::new([1, 20, 12, 12], Loss::nnunet_dc_topk()).weight_map(true).unreduced(true))
        .head(Head::new([1, 1, 8, 8], sigmoid));
    let file = folder("every_head").join("tuning.json");
    compile_the_default(&gpu, &spec, &file);
    let tuned = measure(&gpu, &spec, &file, 20).expect("tuned");
    assert!(!tuned.candidates.is_empty());
    assert_eq!(tuned.kept, None, "this device can be measured");
    for candidate in &tuned.candidates {
        assert!(matches!(candidate.verdict, Verdict::Raced { .. }), "{candidate:?}");
    }
}

#[test]
fn no_candidate_begins_after_the_time_and_progress_says_which_is_tried() {
    let gpu = gpu();
    let file = folder("time").join("tuning.json");
    let budget = Duration::from_secs(3);
    let (start, mut begun) = (Instant::now(), Vec::new());
    let tuned = tune(&gpu.device, &gpu.queue, &spec(), &Measured::new(&file).budget(budget), &mut |progress| {
        assert_eq!(progress.budget, budget);
        assert!(progress.elapsed <= start.elapsed());
        if begun.last().is_none_or(|(trying, _)| trying != progress.trying) {
            begun.push((progress.trying.to_owned(), progress.elapsed));
        }
    })
    .expect("tuned");
    assert_eq!(begun.remove(0).0, "the default");
    assert!(begun.len() >= tuned.candidates.len());
    for (candidate, (trying, at)) in tuned.candidates.iter().zip(&begun) {
        assert_eq!(candidate.change, *trying);
        assert!(*at < budget, "{trying} began after {at:?}");
    }
}

#[test]
fn a_measurement_without_time_for_a_candidate_keeps_the_default_and_remembers_nothing() {
    let gpu = gpu();
    let file = folder("no_time").join("tuning.json");
    let tuned = measure(&gpu, &spec(), &file, 0).expect("tuned");
    assert_eq!(tuned.variant, Variant::for_device(&gpu.device));
    assert!(!tuned.remembered && tuned.candidates.is_empty() && !file.exists());
    assert_eq!(tuned.kept, None, "the time decided, not the device");
}

#[test]
fn a_choice_holds_for_one_adapter_driver_device_and_specification() {
    let gpu = gpu();
    let file = folder("key").join("tuning.json");
    let spec = LossSpec::new().head(Head::new([1, 3, 16, 16], Loss::monai_dice_ce()));
    compile_the_default(&gpu, &spec, &file);
    let chosen = measure(&gpu, &spec, &file, 3).expect("tuned");
    assert!(!chosen.candidates.is_empty());
    let found = |gpu: &Gpu, spec: &LossSpec| remembered(&gpu.device, spec, &file).expect("the file is read");
    assert_eq!(found(&gpu, &spec), Some(chosen.variant));
    for other in [
        Head::new([1, 3, 16, 12], Loss::monai_dice_ce()),
        Head::new([1, 3, 16, 16], Loss::nnunet_dc_ce()),
        Head::new([1, 3, 16, 16], Loss::monai_dice_ce()).logits(FloatType::F16),
    ] {
        assert_eq!(found(&gpu, &LossSpec::new().head(other)), None);
    }
    let small = gpu_with_limits(wgpu::Limits { max_compute_invocations_per_workgroup: 64, ..wgpu::Limits::default() });
    assert_eq!(found(&small, &spec), None);
    let text = std::fs::read_to_string(&file).expect("the file is there");
    for field in ["adapter", "backend", "driver", "segloss"] {
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let value = &mut json["choices"][0]["key"][field];
        assert!(value.is_string(), "{field}: {value}");
        *value = "another".into();
        std::fs::write(&file, json.to_string()).expect("written");
        assert_eq!(found(&gpu, &spec), None, "{field}");
    }
}

#[test]
fn a_file_that_is_no_file_of_choices_is_an_error_that_names_it_and_stays_as_it_is() {
    let gpu = gpu();
    let folder = folder("corrupt");
    let file = folder.join("tuning.json");
    let refused = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let error = measure(&gpu, &spec(), &file, 0).expect_err("refused");
        assert_eq!(std::fs::read_to_string(&file).expect("the file is there"), text);
        let message = error.to_string();
        assert!(matches!(error, Error::TuningFile { path, .. } if path == file.display().to_string()), "{message}");
        message
    };
    assert!(refused("{\"schema\": \"segloss-tu").contains("EOF"));
    let other = refused("{\"schema\": \"segloss-tuning/2\", \"choices\": []}");
    assert!(other.ends_with("expected schema segloss-tuning/1, got segloss-tuning/2"), "{other}");
    let unknown = refused("{\"schema\": \"segloss-tuning/1\", \"choices\": [], \"more\": 1}");
    assert!(unknown.contains("unknown field `more`"), "{unknown}");
    let nowhere = folder.join("no/such/tuning.json");
    let error = measure(&gpu, &spec(), &nowhere, 0).expect_err("refused");
    assert!(error.to_string().contains("expected a file in a folder that exists"), "{error}");
}
