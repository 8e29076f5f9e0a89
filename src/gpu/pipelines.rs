//! Pipelines, compiled once per shader text: the dispatches of a plan and of its siblings share those with equal text.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::device::{self, Access};

/// A pipeline, its bind group layout, and the shader text that it was compiled from.
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

/// The pipelines of a plan and its siblings, all on one device.
#[derive(Debug)]
pub(crate) struct Pipelines {
    device: wgpu::Device,
    /// The caller's pipeline cache.
    cache: Option<wgpu::PipelineCache>,
    compiled: Mutex<HashMap<Key, Compiled>>,
    /// The plan's number in this process, for labels and for the file names of `SEGLOSS_SHADER_DUMP`; siblings share
    /// it.
    plan: usize,
}

impl Pipelines {
    pub(crate) fn new(device: &wgpu::Device, cache: Option<wgpu::PipelineCache>) -> Self {
        static PLANS: AtomicUsize = AtomicUsize::new(1);
        let plan = PLANS.fetch_add(1, Ordering::Relaxed);
        Self { device: device.clone(), cache, compiled: Mutex::default(), plan }
    }

    /// The pipeline of this text, compiled at its first use. `heads` only names it.
    pub(crate) fn pipeline(
        &self,
        text: Arc<str>,
        entry: &'static str,
        heads: &[usize],
        accesses: Vec<Access>,
        unchecked: bool,
    ) -> Compiled {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let number = compiled.len();
        let compile = |key: &Key| {
            let heads = heads.iter().map(usize::to_string).collect::<Vec<_>>().join("-");
            let heads = if heads.is_empty() { "all heads".to_owned() } else { format!("head {heads}") };
            let name = format!("{entry}, plan {}, {heads}", self.plan);
            dump(&format!("{name}, {number}"), &key.text);
            compile(&self.device, key, &name, self.cache.as_ref())
        };
        compiled.entry(Key { text, entry, accesses, unchecked }).or_insert_with_key(compile).clone()
    }

    /// Forgets all pipelines, after a call that wgpu refused: an invalid pipeline of that call must not be found again.
    pub(crate) fn forget(&self) {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// With `SEGLOSS_SHADER_DUMP=DIR`, writes every text that a plan compiles to that folder. The file's name has stage,
/// plan and heads.
fn dump(name: &str, text: &str) {
    let Some(folder) = std::env::var_os("SEGLOSS_SHADER_DUMP").map(PathBuf::from) else { return };
    let file = folder.join(format!("{}.wgsl", name.replace(", ", "_").replace(' ', "-")));
    if let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, text)) {
        eprintln!("segloss: SEGLOSS_SHADER_DUMP: {}: {error}", file.display());
    }
}

fn compile(device: &wgpu::Device, key: &Key, name: &str, cache: Option<&wgpu::PipelineCache>) -> Compiled {
    let label = format!("segloss: {name}");
    let layout = device::bind_group_layout(device, &label, key.accesses.iter().copied());
    let source = wgpu::ShaderSource::Wgsl((&*key.text).into());
    let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&label), source };
    let module = if key.unchecked {
        // SAFETY: every loop has a counter. Every index follows from the shapes and from the sizes of the bindings,
        // which were checked against each other. No label or other content of a tensor is an index, see
        // shared/target.wgsl.
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
