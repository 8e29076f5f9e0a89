//! The burn bridge: gradients against the same loss composed from burn's operations, and every kind of tensor.

mod graph;
mod memory;
mod metrics;
mod refusals;
mod tensors;

use burn::backend::wgpu::WgpuSetup;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use segloss::burn::{Bridge, LossTensor};
use segloss::{Head, Loss, LossSpec, Report};
use std::sync::OnceLock;

/// burn's default device can be initialised once per process.
fn setup() -> &'static (Device, WgpuSetup) {
    static SETUP: OnceLock<(Device, WgpuSetup)> = OnceLock::new();
    SETUP.get_or_init(|| Device::wgpu_options().init_with_setup().expect("an adapter"))
}

fn bridge() -> (Device, Bridge) {
    let (device, setup) = setup();
    (device.clone().autodiff(), Bridge::new(device, setup).unwrap())
}

fn random<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut random = fastrand::Rng::with_seed(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.f32() * 4.0 - 2.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn labels<const D: usize>(shape: [usize; D], classes: i32, seed: u64, device: &Device) -> Tensor<D, Int> {
    let mut random = fastrand::Rng::with_seed(seed);
    let values: Vec<i32> = (0..shape.iter().product()).map(|_| random.i32(0..classes)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn one_head(loss: Loss) -> LossSpec {
    LossSpec::new().head(Head::new([], loss))
}

/// MONAI's `DiceCELoss(softmax=True, to_onehot_y=True)` on `[N, C, V]`, in burn's operations.
fn composed(logits: Tensor<3>, labels: Tensor<2, Int>) -> Tensor<1> {
    let classes = logits.dims()[1];
    let log_p = log_softmax(logits, 1);
    let one_hot = labels.one_hot::<3>(classes).permute([0, 2, 1]).float();
    let cross_entropy = -(log_p.clone() * one_hot.clone()).sum_dim(1).mean().reshape([1]);
    let p = log_p.exp();
    let intersection = (p.clone() * one_hot.clone()).sum_dim(2);
    let dice = (intersection * 2.0 + 1e-5) / (p.sum_dim(2) + one_hot.sum_dim(2) + 1e-5);
    cross_entropy + (-dice + 1.0).mean()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_to_vec().unwrap()
}

fn assert_near(given: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(given.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (i, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert!((given - expected).abs() <= tolerance * scale, "{i}: {given} is not {expected}");
    }
}

fn report(loss: LossTensor) -> Report {
    loss.report.read_blocking().unwrap()
}
