//! A device that computes nothing, with the limits and features that are asked for: plans are made on it for devices that this
//! machine lacks.

use anyhow::{Context as _, Result};
use segloss::testing::Plans;
use segloss::{Answers, Ask, Variant, wgpu};

/// A device, and the plans made on it.
pub struct Paper {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub plans: Plans,
    /// The variant of its kind.
    pub variant: Variant,
}

/// What a [`Paper`] states.
#[derive(Clone, Copy, Debug)]
pub struct States {
    /// The kind's variant, without subgroups.
    pub variant: Variant,
    pub subgroups: bool,
    /// The size of every subgroup; 0: several.
    pub subgroup_size: u32,
    pub storage_buffers: u32,
    /// The largest binding.
    pub binding: u64,
}

impl States {
    /// WebGPU's default limits, and no feature.
    pub fn of(variant: Variant) -> Self {
        let limits = wgpu::Limits::default();
        Self {
            variant,
            subgroups: false,
            subgroup_size: 0,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            binding: limits.max_storage_buffer_binding_size,
        }
    }
}

impl Paper {
    pub fn open(states: States) -> Result<Self> {
        let States { variant, subgroups, subgroup_size, storage_buffers, binding } = states;
        let limits = wgpu::Limits {
            max_storage_buffers_per_shader_stage: storage_buffers,
            max_storage_buffer_binding_size: binding,
            ..wgpu::Limits::default()
        };
        let features = if subgroups { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
        let sizes = if subgroup_size > 0 { [subgroup_size; 2] } else { [4, 128] };
        let noop = wgpu::NoopBackendOptions {
            enable: true,
            subgroup_min_size: Some(sizes[0]),
            subgroup_max_size: Some(sizes[1]),
            ..Default::default()
        };
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::NOOP,
            backend_options: wgpu::BackendOptions { noop, ..Default::default() },
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::NOOP));
        let adapter = adapters.first().context("wgpu's no-op back end")?;
        let descriptor =
            wgpu::DeviceDescriptor { required_features: features, required_limits: limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))?;
        let answers = Answers {
            workgroup_sums: true,
            subgroup_sums: subgroups,
            one_subgroup: subgroup_size > 0,
            workgroup_atomics: true,
            decodes_f16: true,
            encodes_f16: true,
        };
        let plans = Plans::asking(&device, &queue, Ask::Answered(answers));
        let variant = Variant { subgroups, subgroup_size, ..variant };
        Ok(Self { device, queue, plans, variant })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use segloss::{Head, Loss, LossSpec};

    #[test]
    fn a_plan_is_made_for_a_device_that_is_not_there() {
        let states = States { subgroups: true, subgroup_size: 32, ..States::of(Variant::hardware()) };
        let paper = Paper::open(states).expect("it opens");
        assert_eq!((paper.variant.subgroups, paper.variant.subgroup_size), (true, 32));
        paper.variant.validate(&paper.device).expect("it fits the device");
        assert_ne!(Variant::software().invocations, paper.variant.invocations);
        let spec = LossSpec::new().head(Head::new([1, 3, 8, 8], Loss::monai_dice_ce()));
        paper.plans.with_variant(&spec, paper.variant).expect("the plan is made");
        let few = Paper::open(States { storage_buffers: 4, ..states }).expect("it opens");
        assert_eq!(few.device.limits().max_storage_buffers_per_shader_stage, 4);
    }
}
