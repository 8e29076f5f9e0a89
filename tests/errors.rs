//! Every documented refusal: typed, with the head, what was expected and what was given; nothing panics, nothing is lost.
#![allow(missing_docs, reason = "a test's name is its claim")]

mod common;

use std::num::NonZeroU64;

use common::{Gpu, Tensors, gpu, gpu_with_limits, run, storage};
use segloss::{
    AdapterChoice, Alpha, ClassWeighting, Empty, Error, FloatType, Gradient, Head, HeadTensors, LabelType, Loss,
    LossSpec, Overlap, Pixel, Plan, Product, Scalars, Tensor, Variant, wgpu,
};

fn refusal(head: Head) -> String {
    let good = Head::new([1, 2, 4], Loss::monai_dice_ce());
    let spec = LossSpec::new().head(good).head(head);
    let error = spec.validate().expect_err("refused");
    assert!(matches!(error, Error::Spec { head: 1, .. }), "{error:?}");
    error.to_string()
}

fn with_pixel(pixel: Pixel) -> Head {
    Head::new([1, 3, 4], Loss::new().pixel(pixel))
}

fn with_overlap(overlap: Overlap) -> Head {
    Head::new([1, 3, 4], Loss::new().overlap(overlap))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn wrong_settings_are_refused_by_name() {
    let ce = Pixel::cross_entropy;
    let cases = [
        (Head::new([3], Loss::monai_dice_ce()), "head 1: shape: expected at least two axes, [N, C, *spatial], got [3]"),
        (Head::new([1, 0, 4], Loss::monai_dice_ce()), "head 1: shape: expected at least one class, got [1, 0, 4]"),
        (Head::new([0, 2, 4], Loss::monai_dice_ce()), "head 1: shape: expected no axis of length 0, got [0, 2, 4]"),
        (
            Head::new([1, (1 << 24) + 1], Loss::monai_dice_ce()),
            "head 1: shape: expected at most 16777216 classes, got [1, 16777217]",
        ),
        (Head::new([1, 2, 0], Loss::monai_dice_ce()), "head 1: shape: expected no axis of length 0, got [1, 2, 0]"),
        (
            Head::new([1, 2, 4], Loss::new()),
            "head 1: loss: expected an overlap term, a pixel term, or both, got neither",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).weight(-1.0),
            "head 1: weight: expected a finite number, not negative, got -1",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).ignore_index(1 << 40),
            "head 1: ignore_index: expected a label of 32 bits, got 1099511627776",
        ),
        (with_pixel(ce().label_smoothing(1.5)), "head 1: pixel.label_smoothing: expected a number in [0, 1], got 1.5"),
        (
            with_pixel(ce().mean_over_voxels(true)),
            "head 1: pixel.mean_over_voxels: expected false, except for binary_cross_entropy and focal, got true",
        ),
        (
            with_pixel(ce().label_smoothing(f32::NAN)),
            "head 1: pixel.label_smoothing: expected a number in [0, 1], got NaN",
        ),
        (
            with_pixel(ce().weight(f32::INFINITY)),
            "head 1: pixel.weight: expected a finite number, not negative, got inf",
        ),
        (
            with_pixel(ce().class_weights([1.0, 2.0])),
            "head 1: pixel.class_weights: expected 3 weights, one per class that takes part, got 2 weights",
        ),
        (
            with_pixel(ce().class_weights([1.0, -2.0, 1.0])),
            "head 1: pixel.class_weights: expected a finite number, not negative, got -2",
        ),
        (
            with_overlap(Overlap::dice().include_background(false).class_weights([1.0; 3])),
            "head 1: overlap.class_weights: expected 2 weights, one per class that takes part, got 3 weights",
        ),
        (
            with_overlap(Overlap::dice().smooth(-1.0, 0.0)),
            "head 1: overlap.smooth_nr: expected a finite number, not negative, got -1",
        ),
        (
            with_overlap(Overlap::dice().smooth(0.0, f32::NAN)),
            "head 1: overlap.smooth_dr: expected a finite number, not negative, got NaN",
        ),
        (
            with_overlap(Overlap::dice().denominator_floor(-1e-8)),
            "head 1: overlap.denominator_floor: expected a finite number, not negative, got -0.00000001",
        ),
        (
            with_overlap(Overlap::dice().weight(f32::NAN)),
            "head 1: overlap.weight: expected a finite number, not negative, got NaN",
        ),
        (
            Head::new([1, 2, 4, 4], Loss::monai_dice_ce()).resample([8]),
            "head 1: resample: expected 2 axes of at least one voxel, as the logits, got [8]",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).probabilities(FloatType::F32).resample([8]),
            "head 1: resample: expected none, since the target is probabilities, got [8]",
        ),
        (
            Head::new([1, 2, 4], Loss::monai_dice_ce()).probabilities(FloatType::F32).ignore_index(3),
            "head 1: ignore_index: expected none, since the target is probabilities, got 3",
        ),
        (
            with_overlap(Overlap::tversky(-0.5, 0.5)),
            "head 1: overlap.alpha: expected a finite number, not negative, got -0.5",
        ),
        (
            with_overlap(Overlap::tversky(0.5, 0.5).squared(true)),
            "head 1: overlap.squared: expected false, except for dice and jaccard, got true",
        ),
        (
            with_overlap(Overlap::dice().squared(true).product(Product::Minimum)),
            "head 1: overlap.squared: expected false, with the minimum as product, got true",
        ),
        (
            with_overlap(Overlap::generalized_dice(ClassWeighting::Square).class_weights([1.0; 3])),
            "head 1: overlap.class_weights: expected none, since no class axis is left, got weights",
        ),
        (
            with_overlap(Overlap::generalized_dice(ClassWeighting::Square).present_classes_only(true)),
            "head 1: overlap.present_classes_only: expected false, since no class axis is left, got true",
        ),
        (with_pixel(Pixel::top_k_cross_entropy(0.0)), "head 1: pixel.k_percent: expected a number in (0, 100], got 0"),
        (
            with_pixel(Pixel::top_k_cross_entropy(10.0)),
            "head 1: pixel.k_percent: expected enough for one voxel, got 10 of 4 voxels",
        ),
        (
            with_pixel(Pixel::binary_cross_entropy_with([1.0])),
            "head 1: pixel.pos_weight: expected 3 weights, one per class that takes part, got 1 weights",
        ),
        (
            with_pixel(Pixel::binary_cross_entropy().class_weights([1.0; 3])),
            "head 1: pixel.class_weights: expected none: binary_cross_entropy has pos_weight, got weights",
        ),
        (
            with_pixel(Pixel::focal(-1.0, Alpha::None)),
            "head 1: pixel.gamma: expected a finite number, not negative, got -1",
        ),
        (
            with_pixel(Pixel::focal(2.0, Alpha::Scalar(1.5))),
            "head 1: pixel.alpha: expected a number in [0, 1], got 1.5",
        ),
        (
            with_pixel(Pixel::focal(2.0, Alpha::None).label_smoothing(0.1)),
            "head 1: pixel.label_smoothing: expected 0, for focal, got 0.1",
        ),
    ];
    for (head, words) in cases {
        assert_eq!(refusal(head), words);
    }
    assert_eq!(LossSpec::new().validate(), Err(Error::NoHeads));
}

fn spec() -> LossSpec {
    LossSpec::new()
        .head(Head::new([1, 2, 8], Loss::monai_dice_ce()))
        .head(Head::new([2, 3, 5], Loss::monai_dice_ce()).labels(LabelType::U16))
}

fn whole(buffer: &wgpu::Buffer) -> wgpu::BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
}

fn at(buffer: &wgpu::Buffer, offset: u64, size: u64) -> wgpu::BufferBinding<'_> {
    wgpu::BufferBinding { buffer, offset, size: NonZeroU64::new(size) }
}

/// Binds the specification above with one thing wrong in head 1.
fn bind_error(gpu: &Gpu, change: impl for<'a> FnOnce(&mut HeadTensors<'a>, &'a wgpu::Buffer)) -> Error {
    let buffers: Vec<_> = (0..7).map(|_| storage(gpu, &[0; 256])).collect();
    let head = |i: usize| HeadTensors::new(whole(&buffers[i]), whole(&buffers[i + 1])).gradient(whole(&buffers[i + 2]));
    let mut heads = [head(0), head(3)];
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec()).expect("the plan is made");
    plan.bind(&heads).expect("nothing is wrong yet");
    change(&mut heads[1], &buffers[6]);
    plan.bind(&heads).expect_err("refused")
}

#[test]
fn wrong_tensors_are_refused_with_head_and_tensor() {
    let gpu = gpu();
    let not_storage = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 256,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let small = storage(&gpu, &[0; 116]);
    let odd = storage(&gpu, &[0; 20]);
    let logits_needed = 2 * 3 * 5 * 4;

    let error = bind_error(&gpu, |head, spare| head.logits = at(spare, 2, 200));
    assert_eq!(error.to_string(), "head 1: logits: expected an offset that is a multiple of 4 bytes, got 2");
    let error = bind_error(&gpu, |head, spare| head.target = at(spare, 1, 200));
    assert_eq!(error.to_string(), "head 1: target: expected an offset that is a multiple of 2 bytes, got 1");
    let error =
        bind_error(&gpu, |head, spare| head.gradient = Some(Gradient::Overwrite(at(spare, 0, logits_needed - 4))));
    assert_eq!(error.to_string(), "head 1: gradient: expected 120 bytes at offset 0, got 116");
    let error = bind_error(&gpu, |head, spare| head.mask = Some(whole(spare)));
    assert_eq!(error.to_string(), "head 1: mask: expected none, as the head says, got a tensor");
    let error = bind_error(&gpu, |head, spare| head.voxel_losses = Some(whole(spare)));
    assert_eq!(error.to_string(), "head 1: voxel_losses: expected none, as the head says, got a tensor");
    let error = bind_error(&gpu, |head, spare| head.logits = at(spare, 160, logits_needed));
    assert_eq!(
        error.to_string(),
        "head 1: logits: expected a buffer of at least 280 bytes, whole words for 120 bytes at offset 160, got 256"
    );

    // the lifetimes of these two buffers end here, so they are bound by hand
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec()).expect("the plan is made");
    let buffers: Vec<_> = (0..6).map(|_| storage(&gpu, &[0; 256])).collect();
    let bind = |logits: &wgpu::Buffer, target: &wgpu::Buffer| {
        let first = HeadTensors::new(whole(&buffers[0]), whole(&buffers[1])).gradient(whole(&buffers[2]));
        let second = HeadTensors::new(whole(logits), whole(target)).gradient(whole(&buffers[5]));
        plan.bind(&[first, second]).map(|_| ())
    };
    let refused = |result: Result<(), Error>, tensor| match result.expect_err("refused") {
        Error::Binding { head: 1, tensor: given, expected, given: what } if given == tensor => (expected, what),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(bind(&small, &buffers[4]), Tensor::Logits), ("120 bytes at offset 0".into(), "116".into()));
    let (expected, given) = refused(bind(&not_storage, &buffers[4]), Tensor::Logits);
    assert_eq!((expected.as_str(), given.contains("COPY_DST")), ("a buffer with usage STORAGE", true));
    assert_eq!(bind(&buffers[3], &odd), Ok(()));
    assert_eq!(plan.bind(&[]).map(|_| ()), Err(Error::WrongHeadCount { expected: 2, given: 0 }));
}

#[test]
fn overlapping_writes_are_refused() {
    let gpu = gpu();
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec()).expect("the plan is made");
    let pool = storage(&gpu, &[0; 4096]);
    let (first, second) = (64, 120);
    let labels = storage(&gpu, &[0; 64]);
    let heads = |gradient_0: u64, gradient_1: u64| {
        [
            HeadTensors::new(at(&pool, 0, first), whole(&labels)).gradient(at(&pool, gradient_0, first)),
            HeadTensors::new(at(&pool, 1024, second), whole(&labels)).gradient(at(&pool, gradient_1, second)),
        ]
    };
    assert!(plan.bind(&heads(64, 2048)).is_ok());
    let overlap = |gradient_0, gradient_1| plan.bind(&heads(gradient_0, gradient_1)).map(|_| ());
    let error = |head, first, end, other_head, other| {
        Err(Error::Overlapping { head, tensor: Tensor::Gradient, first, end, other_head, other })
    };
    assert_eq!(overlap(60, 2048), error(0, 60, 124, 0, Tensor::Logits));
    assert_eq!(overlap(1100, 2048), error(0, 1100, 1164, 1, Tensor::Logits));
    assert_eq!(overlap(2040, 2048), error(0, 2040, 2104, 1, Tensor::Gradient));
    let words = overlap(2040, 2048).expect_err("refused").to_string();
    assert_eq!(
        words,
        "head 0: gradient: expected bytes of its own, got 2040..2104 of a buffer, which overlap the gradient of head 1"
    );
}

#[test]
fn wrong_scalars_are_refused() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([1, 2, 8], Loss::monai_dice_ce()));
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let buffers: Vec<_> = (0..3).map(|_| storage(&gpu, &[0; 64])).collect();
    let heads = [HeadTensors::new(whole(&buffers[0]), whole(&buffers[1])).gradient(whole(&buffers[2]))];
    let refused = |upstream| {
        let scalars = Scalars { upstream: Some(upstream), weights: None };
        plan.bind_with(&heads, &scalars).map(|_| ()).expect_err("refused").to_string()
    };
    assert_eq!(
        refused(at(&buffers[1], 2, 4)),
        "upstream gradient: expected an offset that is a multiple of 4 bytes, got 2"
    );
    assert_eq!(refused(at(&buffers[1], 64, 4)), "upstream gradient: expected 4 bytes at offset 64, got 0");
    let inside = refused(at(&buffers[2], 32, 4));
    assert_eq!(
        inside,
        "upstream gradient: expected numbers that no stage writes, got some inside the gradient of head 0"
    );
}

#[test]
fn what_the_device_cannot_hold_is_refused_with_the_limit() {
    let gpu = gpu_with_limits(wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() });
    // 2 of 4 buffers are left in the gradient stage, and a head needs 3
    let spec = LossSpec::new().head(Head::new([1, 2, 8], Loss::monai_dice_ce()));
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let buffers: Vec<_> = (0..3).map(|_| storage(&gpu, &[0; 64])).collect();
    let mut heads = [HeadTensors::new(whole(&buffers[0]), whole(&buffers[1])).gradient(whole(&buffers[2]))];
    let error = plan.bind(&heads).map(|_| ()).expect_err("refused");
    let words = "head 0: the bindings of one item's tensors needs 5, and the device's max_storage_buffers_per_shader_stage is 4";
    assert_eq!(error.to_string(), words);
    heads[0].gradient = None;
    assert!(plan.bind(&heads).is_ok());

    let too_many = LossSpec::new().head(Head::new([1 << 20, 1 << 10, 1 << 10], Loss::monai_dice_ce()));
    let error = Plan::new(&gpu.device, &gpu.queue, &too_many).map(|_| ()).expect_err("refused");
    assert!(matches!(error, Error::Limit { head: Some(0), limit: "range of a 32-bit index", .. }), "{error:?}");

    let wide = LossSpec::new().head(Head::new([1, 1 << 24], Loss::monai_dice_ce()));
    let error = Plan::new(&gpu.device, &gpu.queue, &wide).map(|_| ()).expect_err("refused");
    assert!(matches!(error, Error::Limit { limit: "max_storage_buffer_binding_size", .. }), "{error:?}");

    let many = LossSpec { heads: vec![Head::new([1, 2, 8], Loss::monai_dice_ce()); 1000] };
    let error = Plan::new(&gpu.device, &gpu.queue, &many).map(|_| ()).expect_err("refused");
    assert!(matches!(error, Error::Limit { limit: "max_uniform_buffer_binding_size", .. }), "{error:?}");
}

#[test]
fn a_wrong_variant_is_refused() {
    let gpu = gpu_with_limits(wgpu::Limits::default());
    let good = Variant::for_device(&gpu.device);
    let spec = LossSpec::new().head(Head::new([1, 2, 8], Loss::monai_dice_ce()));
    let refused = |variant| {
        Plan::with_variant(&gpu.device, &gpu.queue, &spec, variant).map(|_| ()).expect_err("refused").to_string()
    };
    assert_eq!(
        refused(Variant { invocations: 8, tile: 48, ..good }),
        "variant: tile: expected a multiple of 32, 4 · invocations, at most 2^24, got 48"
    );
    assert_eq!(
        refused(Variant { fold_invocations: 48, ..good }),
        "variant: fold_invocations: expected a power of two, got 48"
    );
    assert_eq!(refused(Variant { chunk: 0, ..good }), "variant: chunk: expected at least 1, got 0");
    assert_eq!(refused(Variant { invocations: 0, ..good }), "variant: invocations: expected at least 1, got 0");
    assert_eq!(
        refused(Variant { subgroups: true, ..good }),
        "variant: subgroups: expected false: the device has no subgroup feature, got true"
    );
    let unknown = refused(Variant { subgroup_size: 5, ..good });
    assert!(unknown.starts_with("variant: subgroup_size: expected 0, or") && unknown.ends_with("got 5"), "{unknown}");
    assert_eq!(
        refused(Variant { invocations: 512, tile: 4096, ..good }),
        "a workgroup needs 512, and the device's max_compute_invocations_per_workgroup is 256"
    );
    assert_eq!(
        refused(Variant { invocations: 256, tile: 4096, chunk: 16, ..good }),
        "workgroup memory needs 53440, and the device's max_compute_workgroup_storage_size is 16384"
    );
}

#[test]
fn no_adapter_is_an_error_that_names_what_there_is() {
    let choice = AdapterChoice { name: Some("no such GPU".into()), ..AdapterChoice::default() };
    let error = choice.open().expect_err("refused");
    let Error::NoAdapter { wanted, found } = &error else { panic!("{error:?}") };
    assert!(wanted.contains("no such GPU") && !found.is_empty(), "{error}");
}

#[test]
fn labels_out_of_range_count_nowhere_and_are_reported() {
    let gpu = gpu();
    let types = [(LabelType::U8, 200), (LabelType::U16, 65_535), (LabelType::I32, -7), (LabelType::U32, 1 << 31)];
    for (labels, strange) in types {
        for classes in [3, 30] {
            let loss =
                Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().class_weights(vec![1.5; classes]));
            let head = Head::new([2, classes, 5, 37], loss).labels(labels).ignore_index(1);
            let spec = LossSpec::new().head(head.clone());
            let mut tensors = vec![common::random_tensors(&head, 3.0, &mut fastrand::Rng::with_seed(41))];
            for at in [185 + 50, 185 + 184, 369] {
                tensors[0].labels[at] = strange;
            }
            let result = run(&gpu, &spec, &tensors, 1.0);
            let worst = common::differences(&result, &common::evaluate(&spec, &tensors, 1.0));
            assert!(worst.loss <= 2e-6 && worst.gradient <= 2e-6, "{labels:?}: {worst:?}");
            let first = result.report.heads[0].first_out_of_range.expect("there is one");
            assert_eq!((result.report.heads[0].out_of_range, first.item, first.voxel), (2, 1, 50));
        }
    }
}

#[test]
fn ignored_voxels_have_zero_gradient_whatever_their_logits() {
    let gpu = gpu();
    for classes in [4, 20] {
        let head = Head::new([1, classes, 64], Loss::monai_dice_ce()).ignore_index(255);
        let mut tensors = vec![common::random_tensors(&head, 3.0, &mut fastrand::Rng::with_seed(43))];
        let ignored: Vec<usize> = (0..64).filter(|v| tensors[0].labels[*v] == 255).collect();
        assert!(ignored.len() > 5);
        for &voxel in &ignored {
            tensors[0].logits[voxel] = f32::NAN;
        }
        let result = run(&gpu, &LossSpec::new().head(head), &tensors, 1.0);
        assert!(result.report.total.is_finite());
        for c in 0..classes {
            assert!(ignored.iter().all(|v| result.gradients[0][c * 64 + v].to_bits() << 1 == 0));
        }
    }
}

#[test]
fn all_voxels_ignored_is_zero_or_nan_as_chosen() {
    let gpu = gpu();
    for (empty, expected) in [(Empty::Zero, Some(0.0_f32)), (Empty::Nan, None)] {
        let loss = Loss::new().pixel(Pixel::cross_entropy().empty(empty).label_smoothing(0.1));
        let spec = LossSpec::new().head(Head::new([1, 3, 16], loss).ignore_index(9));
        let tensors = [Tensors { logits: vec![0.5; 48], labels: vec![9; 16], ..Tensors::default() }];
        let result = run(&gpu, &spec, &tensors, 1.0);
        match expected {
            Some(zero) => assert!((result.report.total - zero).abs() < f32::EPSILON),
            None => assert!(result.report.total.is_nan()),
        }
        assert!(result.gradients[0].iter().all(|g| *g == 0.0));
        assert_eq!((result.report.heads[0].counted, result.report.heads[0].ignored), (0, 16));
        assert!(result.report.heads[0].soft_dice.iter().all(|dice| dice.is_nan()));
    }
}
