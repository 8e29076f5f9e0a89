//! What a page times: a step of each shape with label smoothing and without, several heads in one dispatch and in one each, and
//! the floors.

use anyhow::Result;
use segloss::testing::{Place, Pool, PooledGradient, Tensors};
use segloss::{Alpha, FloatType, Head, Loss, LossSpec, Overlap, Pixel, Tensor, Variant};

use super::document::{Bench, Contender, Floor};
use super::export::{About, Export, Source};
use super::trial::{Evaluated, Kind, Trial, smallest_tile};
use crate::bench::floor;
use crate::bench::workload::{SMOOTHING, Shape, dice_ce, head, shape_name};

/// The largest offset alignment that a device may state.
const ALIGNMENT: usize = 256;
/// The floors that are tried: elements per load, invocations, loads per invocation.
const FLOORS: [[u32; 3]; 6] = [[1, 8, 64], [4, 8, 16], [1, 64, 16], [4, 64, 4], [4, 64, 16], [4, 256, 4]];

/// A step that is timed.
fn timed(export: &mut Export, trial: &Trial, name: &str, kind: &Kind, variant: Variant) -> Result<usize> {
    let about = About { name, own_kind_only: true, ..trial.about("bench", kind) };
    trial.step(export, about, &kind.paper, variant, false)
}

/// A buffer per role.
fn by_role(spec: &LossSpec, tensors: &[Tensors]) -> Pool {
    let place = |_, tensor| {
        let buffer = match tensor {
            Tensor::Logits => 0,
            Tensor::Gradient => 1,
            _ => 2,
        };
        Place { buffer, alignment: ALIGNMENT, gap: 0 }
    };
    Pool::new(spec, tensors, |_| PooledGradient::Overwrite, place)
}

/// Bytes that a forward must read, and a backward must read and write.
fn bytes(spec: &LossSpec) -> [u64; 2] {
    let of = |head: &Head| (head.items() * head.voxels()) as u64;
    let labels: u64 = spec.heads.iter().map(of).sum();
    let logits: u64 = spec.heads.iter().map(|head| of(head) * head.classes() as u64 * 4).sum();
    [logits + labels, 2 * logits + labels]
}

fn logits(spec: &LossSpec) -> u64 {
    spec.heads.iter().map(|head| (head.items() * head.voxels() * head.classes()) as u64).sum()
}

/// Soft Dice and cross-entropy of each shape, with label smoothing and without.
pub fn shapes(shapes: &[Shape]) -> Vec<(String, LossSpec)> {
    let spec = |shape: &[usize], smoothing| LossSpec { heads: vec![head(shape, dice_ce(smoothing), FloatType::F32)] };
    let with_and_without = |Shape(shape): &Shape| {
        let name = shape_name(shape);
        [(name.clone(), spec(shape, SMOOTHING)), (format!("{name} without smoothing"), spec(shape, 0.0))]
    };
    shapes.iter().flat_map(with_and_without).collect()
}

/// Times [`shapes`]; on hardware that has subgroups, also with them.
pub fn of_shapes(
    export: &mut Export,
    shapes: impl Iterator<Item = Evaluated>,
    kinds: &[&Kind],
    subgroups: &Kind,
) -> Result<()> {
    let trials: Vec<_> = shapes.map(|evaluated| Trial::new(export, evaluated, smallest_tile(kinds))).collect();
    for both in trials.chunks(2) {
        for kind in kinds {
            let mut contenders = Vec::new();
            for (trial, name) in both.iter().zip(["segloss", "segloss without smoothing"]) {
                let step = timed(export, trial, &trial.name, kind, kind.paper.variant)?;
                contenders.push(Contender { name, step });
            }
            let Trial { name, spec, .. } = &both[0];
            if kind.name == subgroups.name {
                let step = timed(export, &both[0], name, subgroups, subgroups.paper.variant)?;
                contenders.push(Contender { name: "segloss with subgroups", step });
            }
            let (shape, variant, floors) = (name.clone(), kind.name, true);
            let (bytes, logits) = (bytes(spec), logits(spec));
            export.document.benches.push(Bench { shape, variant, contenders, bytes, logits, floors });
        }
    }
    Ok(())
}

/// Five unlike heads, in one dispatch and in one each; tensors are pooled by role, so that few bindings suffice.
pub fn five_heads(export: &mut Export, kinds: &[&Kind]) -> Result<()> {
    let focal = Loss::new().overlap(Overlap::tversky(0.3, 0.7)).pixel(Pixel::focal(2.0, Alpha::None));
    let heads = vec![
        head(&[1, 4, 48, 48, 48], dice_ce(SMOOTHING), FloatType::F32),
        head(&[1, 14, 24, 24, 24], Loss::nnunet_dc_ce(), FloatType::F32),
        head(&[1, 2, 48, 48, 48], focal, FloatType::F32),
        head(&[1, 3, 24, 24, 24], Loss::monai_generalized_dice(), FloatType::F32),
        head(&[1, 8, 12, 12, 12], Loss::torch_cross_entropy(), FloatType::F32),
    ];
    let spec = LossSpec { heads };
    let name = "five unlike heads";
    let evaluated = Evaluated::new(name.to_owned(), spec, 1.0)?;
    let pool = by_role(&evaluated.spec, &evaluated.tensors);
    let trial = Trial::pooled(export, evaluated, (pool, Source::Hashed), smallest_tile(kinds));
    for kind in kinds {
        let one = Variant { heads_per_dispatch: u32::MAX, ..kind.paper.variant };
        let each = Variant { heads_per_dispatch: 1, ..one };
        let mut contenders = Vec::new();
        for (contender, variant) in [("one dispatch", one), ("a dispatch each", each)] {
            let name = format!("{name}, {contender}");
            let step = timed(export, &trial, &name, kind, variant)?;
            contenders.push(Contender { name: contender, step });
        }
        let (bytes, logits) = (bytes(&trial.spec), logits(&trial.spec));
        export.document.benches.push(Bench {
            shape: name.to_owned(),
            variant: kind.name,
            contenders,
            bytes,
            logits,
            floors: false,
        });
    }
    Ok(())
}

/// The floors that a page chooses from.
pub fn floors(export: &mut Export) {
    for [width, workgroup, loads] in FLOORS {
        for kind in [floor::Kind::Read, floor::Kind::Copy] {
            let (name, text) = floor::candidate(kind, [width, workgroup, loads]);
            let shader = export.shader(&text, "main");
            let copies = kind == floor::Kind::Copy;
            export.document.floors.push(Floor { name, copies, shader, tile: u64::from(width * workgroup * loads) * 4 });
        }
    }
}
