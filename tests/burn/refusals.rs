//! What does not fit is refused, by head and tensor.

use burn::tensor::{Bool, DType, Device, Tensor};
use segloss::burn::HeadTensors;
use segloss::{Error, Head, Loss, LossSpec};

use crate::{bridge, labels, one_head, random};

fn refusal(heads: HeadTensors, spec: &LossSpec) -> String {
    let (_, bridge) = bridge();
    let error = bridge.loss(spec, [heads]).expect_err("must be refused");
    assert!(matches!(error, Error::Binding { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (device, bridge) = bridge();
    let spec = one_head(Loss::monai_dice_ce());
    let (logits, labels) = (random([2, 3, 8], 120, &device), labels([2, 8], 3, 121, &device));
    let with_labels = |labels| refusal(HeadTensors::labels(logits.clone(), labels), &spec);
    assert_eq!(with_labels(crate::labels([2, 9], 3, 1, &device)), "head 0: target: expected [2, 8], got [2, 9]");
    assert_eq!(
        with_labels(labels.clone().cast(DType::U64)),
        "head 0: target: expected integers of up to 64 bits, u64 aside: cast the labels first, got U64"
    );
    assert_eq!(
        refusal(HeadTensors::labels(random([8], 1, &device), labels.clone()), &spec),
        "head 0: logits: expected [N, C, *spatial], got [8]"
    );
    let empty = Tensor::<3>::empty([0, 3, 8], &device);
    assert_eq!(
        refusal(HeadTensors::labels(empty, labels.clone()), &spec),
        "head 0: logits: expected at least one element, got shape [0, 3, 8]"
    );
    let probabilities = Tensor::<3>::zeros([2, 4, 8], &device);
    assert_eq!(
        refusal(HeadTensors::probabilities(logits.clone(), probabilities), &spec),
        "head 0: target: expected [2, 3, 8], got [2, 4, 8]"
    );
    let mask = Tensor::<2, Bool>::full([2, 9], true, &device);
    assert_eq!(
        refusal(HeadTensors::labels(logits.clone(), labels.clone()).mask(mask), &spec),
        "head 0: mask: expected [2, 8], got [2, 9]"
    );
    let mask = Tensor::<1, Bool>::full([3], true, &device);
    assert_eq!(
        refusal(HeadTensors::labels(logits.clone(), labels.clone()).sample_mask(mask), &spec),
        "head 0: sample_mask: expected [2], got [3]"
    );
    let two = spec.clone().head(Head::new([], Loss::monai_dice_ce()));
    let error = bridge.loss(&two, [HeadTensors::labels(logits, labels)]).unwrap_err();
    assert_eq!(error, Error::WrongHeadCount { expected: 2, given: 1 });
}

#[test]
fn tensors_of_another_device_are_refused() {
    let (other, _) =
        Device::wgpu_options().graphics_api(burn::backend::wgpu::WgpuBackend::Vulkan).init_with_setup().unwrap();
    let logits = random([2, 3, 8], 130, &other.clone().autodiff());
    let labels = labels([2, 8], 3, 131, &other);
    let message = refusal(HeadTensors::labels(logits, labels), &one_head(Loss::monai_dice_ce()));
    assert!(message.starts_with("head 0: logits: expected a tensor on "), "{message}");
}
