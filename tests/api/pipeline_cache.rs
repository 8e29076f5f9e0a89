//! Pipelines that a caller keeps for the next process.

use segloss::{AdapterChoice, Head, Loss, LossSpec, Plan, PlanOptions, wgpu};

use crate::common::{self, Buffers, evaluate, random_tensors};

#[test]
fn a_plan_takes_the_callers_pipeline_cache_and_the_data_of_an_earlier_one() {
    let with_cache = |adapter: &wgpu::Adapter| adapter.features().contains(wgpu::Features::PIPELINE_CACHE);
    let adapter =
        AdapterChoice::default().adapters().into_iter().find(with_cache).expect("an adapter with the feature");
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: adapter.limits(),
        required_features: wgpu::Features::PIPELINE_CACHE,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).expect("the device opens");
    let gpu = common::Gpu::new(adapter.get_info().name, device, queue);
    let spec = LossSpec::new().head(Head::new([2, 3, 7, 5], Loss::monai_dice_ce()));
    let tensors = [random_tensors(&spec.heads[0], 3.0, &mut fastrand::Rng::with_seed(67))];
    let expected = evaluate(&spec, &tensors, 1.0);
    let mut data: Option<Vec<u8>> = None;
    for _ in 0..2 {
        let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
        // SAFETY: the data, if any, is from this device's cache in the round before.
        let cache = unsafe { gpu.device.create_pipeline_cache(&descriptor) };
        let empty = cache.get_data().expect("the cache has data").len();
        let options = PlanOptions { pipeline_cache: Some(cache.clone()), ..PlanOptions::default() };
        let plan = Plan::with_options(&gpu.device, &gpu.queue, &spec, options).expect("the plan is made");
        let buffers = Buffers::upload(&gpu, &spec, &tensors);
        let step = plan.bind(&buffers.bindings()).expect("the tensors are bound");
        step.warm_up().expect("warm");
        let total = buffers.step(&gpu, &step).report.total;
        assert!((f64::from(total) - expected.total).abs() <= 2e-6 * expected.total.abs());
        let after = cache.get_data().expect("the cache has data");
        assert!(after.len() >= empty, "{} {empty}", after.len());
        data = Some(after);
    }
}
