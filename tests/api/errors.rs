//! Every documented refusal is a typed error with the head, what was expected and what was given; nothing panics.

use std::num::NonZeroU64;

use segloss::host::{self, HostTensors};
use segloss::{
    AdapterChoice, Bound, Error, Gradient, Head, HeadTensors, LabelType, Loss, LossSpec, Plan, Scalars, Tensor,
    Variant, wgpu,
};

use crate::common::{Gpu, gpu, gpu_with_limits, storage};

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

/// Binds the specification above with one mistake in head 1.
fn bind_error(gpu: &Gpu, change: impl for<'a> FnOnce(&mut HeadTensors<'a>, &'a wgpu::Buffer)) -> Error {
    let buffers = [64, 8, 64, 120, 20, 120, 256].map(|bytes| storage(gpu, &vec![0; bytes]));
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
    let error = bind_error(&gpu, |head, spare| head.mask = Some(whole(spare).into()));
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
    let buffers = [64, 8, 64, 120, 20, 120].map(|bytes| storage(&gpu, &vec![0; bytes]));
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

/// A likely mistake: a tensor of another type or shape, which has more bytes.
#[test]
fn a_binding_that_is_larger_than_its_tensor_is_refused() {
    let gpu = gpu();
    // 16 labels, and 2 classes
    let bind = |labels: LabelType, target: wgpu::BufferBinding<'_>| {
        let spec = LossSpec::new().head(Head::new([1, 2, 16], Loss::monai_dice_ce()).labels(labels));
        let logits = storage(&gpu, &[0; 2 * 16 * 4]);
        let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
        plan.bind(&[HeadTensors::new(whole(&logits), target)]).map(|_| ()).map_err(|error| error.to_string())
    };
    let refused = |needed: u64, given: &str| {
        Err(format!(
            "head 0: target: expected {needed} bytes at offset 0, filled up to a whole word at most, got {given}"
        ))
    };
    let bytes = |bytes: usize| storage(&gpu, &vec![0; bytes]);
    // i64 bound as i32, u16 as u8, a one-hot as labels: with an explicit size, and as the rest of a buffer
    let (longs, shorts, one_hot) = (bytes(16 * 8), bytes(16 * 2), bytes(2 * 16));
    assert_eq!(bind(LabelType::I32, at(&longs, 0, 128)), refused(64, "128"));
    assert_eq!(bind(LabelType::U8, at(&shorts, 0, 32)), refused(16, "32"));
    assert_eq!(bind(LabelType::U8, whole(&one_hot)), refused(16, "32 to the end of its buffer: state the size"));
    assert_eq!(bind(LabelType::I64, whole(&longs)), Ok(()));
    assert_eq!(bind(LabelType::U8, at(&one_hot, 0, 16)), Ok(()));

    // padded to a word, wherever it begins
    let spec = LossSpec::new().head(Head::new([1, 2, 5], Loss::monai_dice_ce()));
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let (logits, labels) = (bytes(40), bytes(8));
    let bind = |offset, size| {
        let target = wgpu::BufferBinding { buffer: &labels, offset, size: NonZeroU64::new(size) };
        plan.bind(&[HeadTensors::new(whole(&logits), target)]).is_ok()
    };
    for (offset, size, fits) in [
        (0, 5, true),
        (0, 8, true),
        (0, 4, false),
        (0, 9, false),
        (3, 5, true),
        (3, 0, true),
        (1, 0, true),
        (2, 7, true),
    ] {
        assert_eq!(bind(offset, size), fits, "{size} at {offset}");
    }
}

#[test]
fn slices_of_another_size_and_labels_of_another_type_are_refused() {
    let gpu = gpu();
    let spec = LossSpec::new().head(Head::new([1, 2, 4], Loss::monai_dice_ce()).mask(true));
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let logits = [0.5; 8];
    let refused = |tensors: HostTensors<'_>| host::run(&plan, &[tensors], 1.0).map(|_| ()).unwrap_err().to_string();
    let mask: &[u8] = &[1; 4];
    let with = |labels: &'static [i64]| HostTensors { mask: Some(mask), ..HostTensors::labels(&logits, labels) };
    // too short by less than a word
    assert_eq!(refused(with(&[0, 1, 1])), "head 0: target: expected 4 elements, got 3");
    assert_eq!(refused(with(&[0, 1, 1, 0, 0])), "head 0: target: expected 4 elements, got 5");
    assert_eq!(refused(with(&[0, 1, 1, 256])), "head 0: target: expected labels of u8, got 256");
    assert_eq!(refused(with(&[0, -1, 1, 1])), "head 0: target: expected labels of u8, got -1");
    let short = HostTensors { mask: Some(&[1; 3]), ..with(&[0; 4]) };
    assert_eq!(refused(short), "head 0: mask: expected 4 elements, got 3");
    let short = HostTensors { logits: &logits[..7], ..with(&[0; 4]) };
    assert_eq!(refused(short), "head 0: logits: expected 8 elements, got 7");
    let other = HostTensors { mask: Some(mask), ..HostTensors::probabilities(&logits, &logits) };
    assert_eq!(refused(other), "head 0: target: expected labels, as the head says, got probabilities");
    assert_eq!(
        refused(HostTensors::labels(&logits, &[0; 4])),
        "head 0: mask: expected a tensor, as the head says, got none"
    );
    assert!(host::run(&plan, &[with(&[0; 4])], 1.0).is_ok());
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
            HeadTensors::new(at(&pool, 0, first), at(&labels, 0, 8)).gradient(at(&pool, gradient_0, first)),
            HeadTensors::new(at(&pool, 1024, second), at(&labels, 0, 20)).gradient(at(&pool, gradient_1, second)),
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
    let heads = [HeadTensors::new(whole(&buffers[0]), at(&buffers[1], 0, 8)).gradient(whole(&buffers[2]))];
    let refused = |upstream| {
        let scalars = Scalars { upstream: Some(upstream), weights: None };
        plan.bind_with(&heads, &scalars).map(|_| ()).expect_err("refused").to_string()
    };
    assert_eq!(
        refused(at(&buffers[1], 2, 4)),
        "upstream gradient: expected an offset that is a multiple of 4 bytes, got 2"
    );
    assert_eq!(refused(at(&buffers[1], 64, 4)), "upstream gradient: expected a buffer of at least 68 bytes, got 64");
    assert_eq!(refused(at(&buffers[1], 0, 2)), "upstream gradient: expected 4 bytes at offset 0, got 2");
    assert_eq!(
        refused(at(&buffers[1], 0, 8)),
        "upstream gradient: expected 4 bytes at offset 0, filled up to a whole word at most, got 8"
    );
    assert_eq!(
        refused(whole(&buffers[1])),
        "upstream gradient: expected 4 bytes at offset 0, filled up to a whole word at most, \
         got 64 to the end of its buffer: state the size"
    );
    let weights = Scalars { upstream: None, weights: Some(at(&buffers[1], 0, 16)) };
    let error = plan.bind_with(&heads, &weights).map(|_| ()).expect_err("refused").to_string();
    assert_eq!(error, "weights: expected 12 bytes at offset 0, filled up to a whole word at most, got 16");
    let inside = refused(at(&buffers[2], 32, 4));
    assert_eq!(
        inside,
        "upstream gradient: expected numbers that no stage writes, got some inside the gradient of head 0"
    );
}

#[test]
fn what_the_device_cannot_hold_is_refused_with_the_limit() {
    let gpu = gpu_with_limits(wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() });
    // 3 of 4 buffers are left in the gradient stage, and a head with a mask has 4
    let spec = LossSpec::new().head(Head::new([1, 2, 8], Loss::monai_dice_ce()).mask(true));
    let plan = Plan::new(&gpu.device, &gpu.queue, &spec).expect("the plan is made");
    let buffers: Vec<_> = (0..3).map(|_| storage(&gpu, &[0; 64])).collect();
    // labels and mask in one buffer, which the statistics stage binds once
    let [labels, mask] = [0, 16].map(|offset| at(&buffers[1], offset, 8));
    let apart = storage(&gpu, &[0; 8]);
    let mut heads = [HeadTensors::new(whole(&buffers[0]), labels).gradient(whole(&buffers[2])).mask(whole(&apart))];
    let error = plan.bind(&heads).map(|_| ()).expect_err("refused");
    let words = "head 0: the tensors of one item, and what its stage needs: expected at most 4 storage buffers \
                 (maxStorageBuffersPerShaderStage), got 5";
    assert_eq!(error.to_string(), words);
    heads[0].mask = Some(mask.into());
    assert!(plan.bind(&heads).is_ok());

    let too_many = Head::new([1 << 20, 1 << 10, 1 << 10], Loss::monai_dice_ce()).labels(LabelType::U16);
    let too_many = LossSpec::new().head(too_many);
    let error = Plan::new(&gpu.device, &gpu.queue, &too_many).map(|_| ()).expect_err("refused");
    assert!(matches!(error, Error::Limit { head: Some(0), bound: Bound::Index, .. }), "{error:?}");

    let wide = LossSpec::new().head(Head::new([1, 1 << 24], Loss::monai_dice_ce()).labels(LabelType::U32));
    let error = Plan::new(&gpu.device, &gpu.queue, &wide).map(|_| ()).expect_err("refused");
    assert!(matches!(error, Error::Limit { bound: Bound::StorageBinding, .. }), "{error:?}");

    let many = LossSpec { heads: vec![Head::new([1, 2, 8], Loss::monai_dice_ce()); 1000] };
    let error = Plan::new(&gpu.device, &gpu.queue, &many).map(|_| ()).expect_err("refused");
    assert!(matches!(error, Error::Limit { bound: Bound::UniformBinding, .. }), "{error:?}");
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
        "variant: subgroups: expected false: the device lacks the subgroup feature, got true"
    );
    let unknown = refused(Variant { subgroup_size: 5, ..good });
    assert!(unknown.starts_with("variant: subgroup_size: expected 0, or") && unknown.ends_with("got 5"), "{unknown}");
    assert_eq!(
        refused(Variant { invocations: 512, tile: 4096, ..good }),
        "a workgroup: expected at most 256 invocations (maxComputeInvocationsPerWorkgroup), got 512"
    );
    assert_eq!(
        refused(Variant { invocations: 256, tile: 4096, chunk: 16, ..good }),
        "workgroup memory: expected at most 16384 bytes (maxComputeWorkgroupStorageSize), got 53440"
    );
}

#[test]
fn no_adapter_is_an_error_that_names_what_there_is() {
    let choice = AdapterChoice { name: Some("no such GPU".into()), ..AdapterChoice::default() };
    let error = choice.open().expect_err("refused");
    let Error::NoAdapter { wanted, found } = &error else { panic!("{error:?}") };
    assert!(wanted.contains("no such GPU") && !found.is_empty(), "{error}");
}
