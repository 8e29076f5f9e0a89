//! The steps that a page and a Dawn replay check, in sets: `headline`, `cases`, `covering`, `pooled`, `windows`, `sizes`.

use anyhow::{Result, anyhow, ensure};
use segloss::testing::cases::{self, Case};
use segloss::testing::shaders::{CoveringStep, covering_steps};
use segloss::testing::{self, Place, Pool, PooledGradient, Tolerance};
use segloss::{FloatType, Head, LabelType, Loss, LossSpec, Scalars, Variant, wgpu};

use super::document::{Dispatch, Needs};
use super::export::{About, Export, Source};
use super::paper::{Paper, States};
use super::trial::{Evaluated, Kind, Trial, apart, buffers, smallest_tile};
use crate::validate::steps;

/// The upstream gradient of the headline steps.
const UPSTREAM: f32 = 0.5;
/// Sizes that every subgroup of a device may have, for the steps whose workgroup is one subgroup.
const SUBGROUP_SIZES: [u32; 2] = [4, 32];
/// Storage buffers of devices that have more than WebGPU demands.
const MORE_STORAGE_BUFFERS: u32 = 16;

/// Where an allocator may place tensors: at the largest offset alignment of a device, and at odd elements.
const PLACES: [Place; 3] = [
    Place { buffer: 0, alignment: 256, gap: 0 },
    Place { buffer: 0, alignment: 256, gap: 1 },
    Place { buffer: 0, alignment: 1, gap: 3 },
];

pub fn scalar(device: &wgpu::Device, value: f32) -> wgpu::Buffer {
    use wgpu::util::DeviceExt as _;
    device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents: bytemuck::bytes_of(&value),
        usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
    })
}

/// Steps that have every kernel, in every kind's variant; one head also of 16 bits.
pub fn headline(export: &mut Export, kinds: &[&Kind]) -> Result<()> {
    let mut all: Vec<(String, LossSpec)> = steps().into_iter().map(|(name, spec)| (name.to_owned(), spec)).collect();
    for float in [FloatType::F16, FloatType::Bf16] {
        let head = Head::new([2, 4, 33, 17, 9], Loss::monai_dice_ce()).logits(float);
        all.push((format!("4 classes, {}", float.name()), LossSpec::new().head(head)));
    }
    for (name, spec) in all {
        let trial = Trial::new(export, Evaluated::new(name, spec, UPSTREAM)?, smallest_tile(kinds));
        let Trial { name, spec, pool, loss } = &trial;
        for kind in kinds {
            if kind.states.subgroups && spec.heads[0].logits != FloatType::F32 {
                continue;
            }
            let subgroups = if kind.states.subgroups { ", subgroups" } else { "" };
            let name = format!("{name}, {}{subgroups}", kind.name);
            let Paper { device, queue, plans, variant } = &kind.paper;
            let (upstream, buffers) = (scalar(device, UPSTREAM), buffers(device, pool));
            let scalars = Scalars { upstream: Some(upstream.as_entire_buffer_binding()), weights: None };
            let step = plans.with(spec, Some(*variant), Some(false))?.bind_with(&pool.bindings(&buffers), &scalars)?;
            let about = About { name: &name, ..trial.about("headline", kind) };
            let index = export.step(about, *loss, (pool, &buffers), (device, queue), &step)?;
            export.bits(index, spec, pool, *variant, UPSTREAM);
        }
    }
    Ok(())
}

/// Every `every`-th case of published implementations, in the variant of the adapter's kind.
pub fn published(export: &mut Export, all: &[Case], every: usize, kinds: &[&Kind]) -> Result<()> {
    for case in all.iter().step_by(every.max(1)) {
        let (Ok((spec, tensors)), Some(expected)) = (cases::trial(case), cases::expected(case)) else { continue };
        let tolerance = Tolerance { loss: case.tolerance.loss, gradient: case.tolerance.grad, ..Tolerance::DEVICE };
        let tile = smallest_tile(kinds);
        let pool = apart(&spec, &tensors);
        let loss = export.loss(&case.id, &spec, (&pool, Source::Data), (expected, tolerance), tile);
        let trial = Trial { name: case.id.clone(), spec, pool, loss };
        for kind in kinds {
            let about = About { own_kind_only: kinds.len() > 1, ..trial.about("cases", kind) };
            trial.step(export, about, &kind.paper, kind.paper.variant, false)?;
        }
    }
    Ok(())
}

/// Steps that cover every pair of choices, in variants of hardware.
pub fn covering(export: &mut Export) -> Result<()> {
    let states = States::of(Variant::hardware());
    let plain = Kind::open("hardware", states)?;
    let more = Kind::open("hardware", States { storage_buffers: MORE_STORAGE_BUFFERS, ..states })?;
    let subgroups =
        Kind::open("hardware", States { subgroups: true, storage_buffers: MORE_STORAGE_BUFFERS, ..states })?;
    let one_size = |subgroup_size| {
        Kind::open(
            "hardware",
            States { subgroups: true, subgroup_size, storage_buffers: MORE_STORAGE_BUFFERS, ..states },
        )
    };
    let one_size = SUBGROUP_SIZES.map(|size| (size, one_size(size)));
    let chunk = Variant::software().chunk;
    for CoveringStep { name, spec, variant: wanted, built_in_f16 } in covering_steps() {
        let of_sizes =
            one_size.iter().map(|(size, kind)| Ok((*size, kind.as_ref().map_err(|error| anyhow!("{error:#}"))?)));
        let kinds: Vec<(u32, &Kind)> = match (wanted.subgroup_size > 0, wanted.subgroups) {
            (true, _) => of_sizes.collect::<Result<_>>()?,
            (_, true) => vec![(0, &subgroups)],
            _ => vec![(0, &plain)],
        };
        let trial = Trial::new(export, Evaluated::new(name, spec, 1.0)?, wanted.tile);
        let name = &trial.name;
        for (subgroup_size, kind) in kinds {
            let invocations = if subgroup_size > 0 { subgroup_size } else { wanted.invocations };
            // the chunk of a software driver: SwiftShader's compiler cannot take every one
            let variant = Variant { invocations, subgroup_size, chunk, ..wanted };
            let name = if subgroup_size > 0 { format!("{name}, {subgroup_size} lanes") } else { name.clone() };
            let needs = Needs { built_in_f16, subgroup_size: subgroup_size.into(), ..Needs::default() };
            let about = About { name: &name, needs, ..trial.about("covering", kind) };
            if trial.step(export, about, &kind.paper, variant, built_in_f16).is_err() {
                // it does not bind at the default limits
                let needs = Needs { built_in_f16, subgroup_size: subgroup_size.into(), ..Needs::default() };
                let about = About { name: &name, needs, ..trial.about("covering", kind) };
                trial.step(export, about, &more.paper, variant, built_in_f16)?;
            }
        }
    }
    Ok(())
}

/// Eight heads whose tensors lie in one buffer, in dispatches of one head and in one of all; and gradients that are added to, or
/// overwrite the logits.
pub fn pooled(export: &mut Export, kinds: &[&Kind]) -> Result<()> {
    for (number, place) in PLACES.into_iter().enumerate() {
        let mut spec = testing::eight_heads();
        if place.alignment == 1 {
            // f32 and f16 in turns, where tensors follow each other closely
            spec.heads.iter_mut().step_by(2).for_each(|head| head.logits = FloatType::F16);
        }
        let where_ = ["aligned", "one element past it", "packed"][number];
        let evaluated = Evaluated::new(format!("eight heads in one buffer, {where_}"), spec, 1.0)?;
        let place_all =
            |mode: fn(usize) -> PooledGradient| Pool::new(&evaluated.spec, &evaluated.tensors, mode, |_, _| place);
        let overwritten = place_all(|_| PooledGradient::Overwrite);
        let in_turns = place_all(|head| {
            [PooledGradient::Accumulate, PooledGradient::InPlace, PooledGradient::Overwrite][head % 3]
        });
        let trial = Trial::pooled(export, evaluated, (overwritten, Source::Data), smallest_tile(kinds));
        let in_turns = Trial {
            name: format!("{}, added to or in place", trial.name),
            spec: trial.spec.clone(),
            pool: in_turns,
            ..trial
        };
        for kind in kinds {
            let one_dispatch = Variant { heads_per_dispatch: u32::MAX, ..kind.paper.variant };
            let apart = Variant { heads_per_dispatch: 1, ..one_dispatch };
            // SwiftShader takes long to compile all heads at odd places, so that is for hardware alone
            let one = (number == 0 || kind.name == "hardware").then_some(("one dispatch", one_dispatch));
            for (dispatches, variant) in one.into_iter().chain([("a dispatch each", apart)]) {
                let name = format!("{}, {dispatches}, {}", trial.name, kind.name);
                let about = About { name: &name, own_kind_only: true, ..trial.about("pooled", kind) };
                trial.step(export, about, &kind.paper, variant, false)?;
            }
            // at an odd place, a gradient that is added to or overwrites the logits
            if number == 1 {
                let name = format!("{}, {}", in_turns.name, kind.name);
                let about = About { name: &name, restore: true, own_kind_only: true, ..in_turns.about("pooled", kind) };
                in_turns.step(export, about, &kind.paper, apart, false)?;
            }
        }
    }
    Ok(())
}

/// Logits and gradients in two windows of a binding that is made small, so that every device runs them. Few classes, in rows that
/// are loaded four at a time: SwiftShader's compiler cannot take more.
pub fn windows(export: &mut Export, kinds: &[&Kind]) -> Result<()> {
    for (float, label_type, binding) in
        [(FloatType::F32, LabelType::U8, 1 << 17), (FloatType::Bf16, LabelType::I32, 1 << 16)]
    {
        let head = Head::new([1, 2, 32, 24, 28], Loss::monai_dice_ce()).logits(float).labels(label_type);
        let spec = LossSpec::new().head(head);
        let name = format!("logits of {} in windows of {binding} bytes", float.name());
        let trial = Trial::new(export, Evaluated::new(name, spec, 1.0)?, smallest_tile(kinds));
        for kind in kinds {
            let small = Kind::open(kind.name, States { binding, ..kind.states })?;
            let name = format!("{}, {}", trial.name, kind.name);
            let about = About { name: &name, ..trial.about("windows", &small) };
            let step = trial.step(export, about, &small.paper, small.paper.variant, false)?;
            let dispatches = &export.document.steps[step].dispatches;
            // the first buffer has the logits
            let windows = |dispatch: &Dispatch| dispatch.bindings.iter().filter(|(_, buffer, ..)| *buffer == 0).count();
            ensure!(dispatches.iter().map(windows).max() == Some(2), "{name}: expected two windows of logits");
        }
    }
    Ok(())
}

/// Shapes at the limits that WebGPU lets every device state.
pub fn sizes() -> Vec<(String, LossSpec)> {
    let head = |shape| Head::new(shape, Loss::monai_dice_ce()).labels(LabelType::U16);
    let shapes = crate::validate::shapes(&wgpu::Limits::default()).into_iter();
    shapes.map(|(name, shape)| (name, LossSpec::new().head(head(shape)))).collect()
}

/// Steps of [`sizes`].
pub fn at_limits(export: &mut Export, sizes: impl Iterator<Item = Evaluated>, kinds: &[&Kind]) -> Result<()> {
    for evaluated in sizes {
        let trial = Trial::new(export, evaluated, smallest_tile(kinds));
        for kind in kinds {
            let about = About { own_kind_only: true, ..trial.about("sizes", kind) };
            trial.step(export, about, &kind.paper, kind.paper.variant, false)?;
        }
    }
    Ok(())
}
