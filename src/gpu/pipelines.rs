//! Pipelines, compiled once a text: a plan's dispatches, and its siblings, share those whose stages compose to the same text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::{self, Access};

/// A pipeline, the layout of its bindings, and the text that it was made of.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    pub text: Arc<str>,
    pub entry: &'static str,
}

/// All that a pipeline depends on.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    text: Arc<str>,
    entry: &'static str,
    accesses: Vec<Access>,
    unchecked: bool,
}

/// The pipelines of a plan and its siblings, which are all on one device.
#[derive(Debug)]
pub(crate) struct Pipelines {
    device: wgpu::Device,
    /// The caller's.
    cache: Option<wgpu::PipelineCache>,
    compiled: Mutex<HashMap<Key, Compiled>>,
}

impl Pipelines {
    pub(crate) fn new(device: &wgpu::Device, cache: Option<wgpu::PipelineCache>) -> Self {
        Self { device: device.clone(), cache, compiled: Mutex::default() }
    }

    /// The pipeline of a shader; compiled once.
    pub(crate) fn pipeline(
        &self,
        text: Arc<str>,
        entry: &'static str,
        accesses: Vec<Access>,
        unchecked: bool,
    ) -> Compiled {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key { text, entry, accesses, unchecked };
        compiled.entry(key).or_insert_with_key(|key| compile(&self.device, key, self.cache.as_ref())).clone()
    }

    /// Forgets all: after a call that wgpu refused, so that no pipeline of that call is found again.
    pub(crate) fn forget(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn compile(device: &wgpu::Device, key: &Key, cache: Option<&wgpu::PipelineCache>) -> Compiled {
    let label = format!("segloss: {}", key.entry);
    let layout = device::bind_group_layout(device, &label, key.accesses.iter().copied());
    let source = wgpu::ShaderSource::Wgsl((&*key.text).into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&label), source };
    let module = if key.unchecked {
        // SAFETY: every loop has a counter, and every index follows from the shapes and from the sizes of the bindings, which
        // were checked against each other; no label or other content of a tensor is an index, see shared/target.wgsl.
        unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    } else {
        device.create_shader_module(descriptor)
    };
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(&label),
        bind_group_layouts: &[Some(&layout)],
        ..Default::default()
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some(key.entry),
        // every cell of workgroup memory is written before it is read
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache,
    });
    Compiled { pipeline, layout, text: key.text.clone(), entry: key.entry }
}
