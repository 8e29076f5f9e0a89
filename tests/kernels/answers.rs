//! What devices are asked before a plan rests on it, and what a plan makes of a wrong answer.

use segloss::{Answers, Ask, Error, FloatType, Head, Loss, LossSpec, Pixel, Plan, PlanOptions, Variant, host};

use crate::common::{self, Gpu, Tensors, all_gpus, differences, evaluate, gpu, random_tensors};

fn spec() -> LossSpec {
    let loss = || Loss::monai_dice().pixel(Pixel::cross_entropy().label_smoothing(0.1));
    // 17 classes are split over invocations, which exchange
    LossSpec::new().head(Head::new([2, 3, 6, 5], loss())).head(Head::new([1, 17, 8, 4], loss()).logits(FloatType::F16))
}

fn tensors() -> Vec<Tensors> {
    spec()
        .heads
        .iter()
        .zip(1..)
        .map(|(head, seed)| random_tensors(head, 3.0, &mut fastrand::Rng::with_seed(seed)))
        .collect()
}

fn check(gpu: &Gpu, plan: &Plan) {
    let tensors = tensors();
    let data: Vec<_> = tensors.iter().map(Tensors::data).collect();
    let given = host::run(plan, &data, 1.0).expect("the step runs");
    let worst = differences(&given, &evaluate(&spec(), &tensors, 1.0));
    assert!(worst.loss <= 2e-6 && worst.gradient <= 4e-6, "{}: {worst:?}", gpu.name);
}

fn with(gpu: &Gpu, answers: Answers, variant: Option<Variant>) -> Result<Plan, Error> {
    let options = PlanOptions { ask: Ask::Answered(answers), variant, ..PlanOptions::default() };
    Plan::with_options(&gpu.device, &gpu.queue, &spec(), options)
}

#[test]
fn every_adapter_answers_right_what_its_kernels_rest_on() {
    for gpu in all_gpus() {
        let answers = common::answers(&gpu);
        let stated = Variant::for_device(&gpu.device);
        println!("{}: {answers:?}", gpu.name);
        assert!(answers.workgroup_sums && answers.workgroup_atomics, "{answers:?}");
        assert_eq!((answers.subgroup_sums, answers.one_subgroup), (stated.subgroups, stated.subgroup_size > 0));
        // WGSL leaves these open; SwiftShader makes a NaN of what is beyond the largest half
        let f16 = (answers.decodes_f16, answers.encodes_f16);
        if gpu.name.contains("llvmpipe") {
            assert_eq!(f16, (true, true));
        } else if gpu.name.contains("SwiftShader") {
            assert_eq!(f16, (true, false));
        }
        let plan = Plan::new(&gpu.device, &gpu.queue, &spec()).expect("the plan is made");
        assert_eq!((plan.answers(), plan.variant()), (answers, stated));
        check(&gpu, &plan);
    }
}

#[test]
fn a_plan_whose_device_cannot_sum_over_subgroups_sums_through_workgroup_memory() {
    let gpu = gpu();
    let right = common::answers(&gpu);
    let stated = Variant::for_device(&gpu.device);
    for answers in [
        Answers { subgroup_sums: false, ..right },
        Answers { one_subgroup: false, ..right },
        Answers { decodes_f16: false, encodes_f16: false, ..right },
    ] {
        let subgroups = stated.subgroups && answers.subgroup_sums;
        let expected = (subgroups, if subgroups && answers.one_subgroup { stated.subgroup_size } else { 0 });
        let plan = with(&gpu, answers, None).expect("the plan is made");
        assert_eq!(plan.answers(), answers);
        assert_eq!((plan.variant().subgroups, plan.variant().subgroup_size), expected, "{answers:?}");
        assert_eq!(plan.sibling(&spec()).expect("the plan is made").answers(), answers);
        check(&gpu, &plan);
    }
}

#[test]
fn what_contradicts_an_answer_is_a_typed_error() {
    let gpu = gpu();
    let right = common::answers(&gpu);
    let stated = Variant::for_device(&gpu.device);
    let refused = |answers, variant| with(&gpu, answers, variant).map(|_| ()).expect_err("refused").to_string();
    if stated.subgroups {
        assert_eq!(
            refused(Answers { subgroup_sums: false, ..right }, Some(stated)),
            "variant: subgroups: expected false: the device's sums over subgroups are wrong, got true"
        );
    }
    if stated.subgroup_size > 0 {
        let expected =
            "variant: subgroup_size: expected 0: a workgroup of that size is not one subgroup with lanes in order";
        let error = refused(Answers { one_subgroup: false, ..right }, Some(stated));
        assert_eq!(error, format!("{expected}, got {}", stated.subgroup_size));
    }
    assert_eq!(
        refused(Answers { workgroup_sums: false, ..right }, None),
        "the device answers wrong: a sum through workgroup memory"
    );
    let options = PlanOptions {
        ask: Ask::Answered(Answers { encodes_f16: false, ..right }),
        built_in_f16: Some(true),
        ..PlanOptions::default()
    };
    let error = Plan::with_options(&gpu.device, &gpu.queue, &spec(), options).map(|_| ()).expect_err("refused");
    assert_eq!(error.to_string(), "the device answers wrong: the conversion of f16 by built-in functions");

    let top_k = LossSpec::new().head(Head::new([1, 2, 64], Loss::nnunet_dc_topk()));
    let options =
        PlanOptions { ask: Ask::Answered(Answers { workgroup_atomics: false, ..right }), ..PlanOptions::default() };
    let plan = Plan::with_options(&gpu.device, &gpu.queue, &spec(), options).expect("a plan without a top-k is made");
    let error = plan.sibling(&top_k).map(|_| ()).expect_err("refused");
    assert_eq!(error.to_string(), "the device answers wrong: a histogram by workgroup atomics, which a top-k needs");
}

#[test]
fn a_driver_that_is_trusted_is_not_asked() {
    let gpu = gpu();
    let options = PlanOptions { ask: Ask::TrustDriver, ..PlanOptions::default() };
    let plan = Plan::with_options(&gpu.device, &gpu.queue, &spec(), options).expect("the plan is made");
    let answers = plan.answers();
    assert!(answers.subgroup_sums && answers.workgroup_atomics && !answers.decodes_f16 && !answers.encodes_f16);
    check(&gpu, &plan);
}
