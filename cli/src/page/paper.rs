//! A device that computes nothing, with the limits, features and kind that are asked for: plans are made on it for devices that
//! this machine lacks.

use anyhow::{Context as _, Result};
use segloss::testing::Plans;
use segloss::{Answers, Ask, Variant, wgpu};

/// A device, and the plans made on it.
pub struct Paper {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub plans: Plans,
    /// The default variant of such a device.
    pub variant: Variant,
}

/// What a [`Paper`] states.
#[derive(Clone, Copy, Debug)]
pub struct States {
    pub kind: wgpu::DeviceType,
    pub subgroups: bool,
    /// The size of every subgroup; 0: several.
    pub subgroup_size: u32,
    pub storage_buffers: u32,
    /// The largest binding.
    pub binding: u64,
}

impl States {
    /// WebGPU's default limits, and no feature.
    pub fn of(kind: wgpu::DeviceType) -> Self {
        let limits = wgpu::Limits::default();
        Self {
            kind,
            subgroups: false,
            subgroup_size: 0,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
            binding: limits.max_storage_buffer_binding_size,
        }
    }
}

impl Paper {
    pub fn open(states: States) -> Result<Self> {
        let States { kind, subgroups, subgroup_size, storage_buffers, binding } = states;
        let limits = wgpu::Limits {
            max_storage_buffers_per_shader_stage: storage_buffers,
            max_storage_buffer_binding_size: binding,
            ..wgpu::Limits::default()
        };
        let features = if subgroups { wgpu::Features::SUBGROUP } else { wgpu::Features::empty() };
        let sizes = if subgroup_size > 0 { [subgroup_size; 2] } else { [4, 128] };
        let noop = wgpu::NoopBackendOptions {
            enable: true,
            device_type: Some(kind),
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
        let variant = Variant::for_device(&device);
        Ok(Self { device, queue, plans, variant })
    }
}
