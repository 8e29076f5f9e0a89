//! What steps are made of: a kind of device, and a loss on tensors with what the reference says of it.

use anyhow::Result;
use rayon::prelude::*;
use segloss::testing::{self, Expected, Pool, PooledGradient, Tensors, Tolerance};
use segloss::{LossSpec, Variant, wgpu};

use super::document::Needs;
use super::export::{About, Export, Source};
use super::paper::{Paper, States};

/// A kind of device that plans are made for.
pub struct Kind {
    pub name: &'static str,
    pub states: States,
    pub paper: Paper,
}

impl Kind {
    pub fn open(name: &'static str, states: States) -> Result<Self> {
        Ok(Self { name, states, paper: Paper::open(states)? })
    }

    pub fn hardware() -> Result<Self> {
        Self::open("hardware", States::of(Variant::hardware()))
    }

    pub fn hardware_with_subgroups() -> Result<Self> {
        Self::open("hardware", States { subgroups: true, ..States::of(Variant::hardware()) })
    }

    pub fn software() -> Result<Self> {
        Self::open("software", States::of(Variant::software()))
    }
}

/// The smallest tile of the kinds' variants, in voxels.
pub fn smallest_tile(kinds: &[&Kind]) -> u32 {
    kinds.iter().map(|kind| kind.paper.variant.tile).min().unwrap_or(1)
}

/// A loss on hashed tensors, and what the reference says of it.
pub struct Evaluated {
    pub name: String,
    pub spec: LossSpec,
    pub tensors: Vec<Tensors>,
    pub expected: Expected,
}

impl Evaluated {
    pub fn new(name: String, spec: LossSpec, upstream: f32) -> Result<Self> {
        let tensors: Vec<_> = spec.heads.iter().zip(1..).map(|(head, seed)| Tensors::hashed(head, seed)).collect();
        let expected = Expected::of_evaluation(&testing::evaluate(&spec, &tensors, upstream)?);
        Ok(Self { name, spec, tensors, expected })
    }

    /// Side by side, since the reference is slow.
    pub fn all(losses: Vec<(String, LossSpec)>) -> Result<Vec<Self>> {
        losses.into_par_iter().map(|(name, spec)| Self::new(name, spec, 1.0)).collect()
    }
}

/// A loss of the document, that steps are made of.
pub struct Trial {
    pub name: String,
    pub spec: LossSpec,
    pub pool: Pool,
    pub loss: usize,
}

impl Trial {
    /// Each tensor in a buffer of its own, filled by the reader. `tile`: voxels of the smallest tile of its steps.
    pub fn new(export: &mut Export, evaluated: Evaluated, tile: u32) -> Self {
        let pool = apart(&evaluated.spec, &evaluated.tensors);
        Self::pooled(export, evaluated, (pool, Source::Hashed), tile)
    }

    /// The tensors lie in a pool.
    pub fn pooled(export: &mut Export, evaluated: Evaluated, (pool, source): (Pool, Source), tile: u32) -> Self {
        let Evaluated { name, spec, expected, .. } = evaluated;
        let loss = export.loss(&name, &spec, (&pool, source), (expected, Tolerance::DEVICE), tile);
        Self { name, spec, pool, loss }
    }

    /// A step of it.
    pub fn step(
        &self,
        export: &mut Export,
        about: About<'_>,
        paper: &Paper,
        variant: Variant,
        built_in_f16: bool,
    ) -> Result<usize> {
        let plan = paper.plans.with(&self.spec, Some(variant), Some(built_in_f16))?;
        let buffers = buffers(&paper.device, &self.pool);
        let step = plan.bind(&self.pool.bindings(&buffers))?;
        export.step(about, self.loss, (&self.pool, &buffers), (&paper.device, &paper.queue), &step)
    }

    pub fn about(&self, set: &'static str, kind: &Kind) -> About<'_> {
        About {
            set,
            name: &self.name,
            variant: kind.name,
            own_kind_only: false,
            needs: Needs::default(),
            restore: false,
        }
    }
}

/// Each tensor in a buffer of its own.
pub fn apart(spec: &LossSpec, tensors: &[Tensors]) -> Pool {
    let mut buffers = 0..;
    let place = |_, _| testing::Place { buffer: buffers.next().expect("endless"), alignment: 1, gap: 0 };
    Pool::new(spec, tensors, |_| PooledGradient::Overwrite, place)
}

/// Buffers of the pool's sizes, with nothing in them.
pub fn buffers(device: &wgpu::Device, pool: &Pool) -> Vec<wgpu::Buffer> {
    let buffer = |contents: &Vec<u8>| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: contents.len() as u64,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    };
    pool.contents().iter().map(buffer).collect()
}
