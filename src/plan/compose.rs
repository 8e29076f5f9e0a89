//! Which files make the shader of a stage, and with which values.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::layout::{Arithmetic, HeadLayout, REPORT_WORDS};
use super::shader::{Values, numbered, numbers, render};
use super::slots::{HeadSlots, PartText, Role, SlotKind};
use super::variant::Variant;

/// The files under `shaders/`.
mod files {
    macro_rules! file {
        ($path:literal) => {
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path))
        };
    }
    pub const HEADS: &str = file!("shared/heads.wgsl");
    pub const LABELS: &str = file!("shared/labels.wgsl");
    pub const FOLD: &str = file!("shared/fold.wgsl");
    pub const REDUCE_SUBGROUP: &str = file!("shared/reduce_subgroup.wgsl");
    pub const REDUCE_WORKGROUP: &str = file!("shared/reduce_workgroup.wgsl");
    pub const LOGITS_WIDE: &str = file!("shared/logits_wide.wgsl");
    pub const LOGITS_SCALAR: &str = file!("shared/logits_scalar.wgsl");
    pub const LABELS_WIDE: &str = file!("shared/labels_wide.wgsl");
    pub const LABELS_SCALAR: &str = file!("shared/labels_scalar.wgsl");
    pub const QUAD_U8: &str = file!("shared/quad_u8.wgsl");
    pub const QUAD_U16: &str = file!("shared/quad_u16.wgsl");
    pub const QUAD_U32: &str = file!("shared/quad_u32.wgsl");
    pub const GRADIENT_WIDE: &str = file!("shared/gradient_wide.wgsl");
    pub const GRADIENT_SCALAR: &str = file!("shared/gradient_scalar.wgsl");
    pub const STATISTICS: &str = file!("statistics.wgsl");
    pub const STATISTICS_REGISTERS: &str = file!("statistics_registers.wgsl");
    pub const STATISTICS_STREAMED: &str = file!("statistics_streamed.wgsl");
    pub const COMBINE: &str = file!("combine.wgsl");
    pub const FINISH: &str = file!("finish.wgsl");
    pub const GRADIENT: &str = file!("gradient.wgsl");
    pub const GRADIENT_REGISTERS: &str = file!("gradient_registers.wgsl");
    pub const GRADIENT_STREAMED: &str = file!("gradient_streamed.wgsl");
}

/// Storage bindings of the statistics stage besides the slots: class weights, partials.
pub(crate) const STATISTICS_OWN: u32 = 2;
/// Storage bindings of the gradient stage besides the slots: coefficients, upstream.
pub(crate) const GRADIENT_OWN: u32 = 2;
/// Binding 0 is the table; then come the stage's own; then the slots.
pub(crate) const FIRST_SLOT: u32 = 3;

/// A stage that touches voxels: the file of its entry point and of its arithmetic.
struct VoxelStage {
    main: &'static str,
    registers: &'static str,
    streamed: &'static str,
}

/// The shader of a statistics dispatch.
pub(crate) fn statistics(part: &PartText, heads: &[HeadLayout], variant: Variant) -> String {
    let stage = VoxelStage {
        main: files::STATISTICS,
        registers: files::STATISTICS_REGISTERS,
        streamed: files::STATISTICS_STREAMED,
    };
    let reduce = if variant.subgroups { files::REDUCE_SUBGROUP } else { files::REDUCE_WORKGROUP };
    let values = Values::default()
        .constant("INVOCATIONS", unsigned(variant.invocations))
        .constant("ROWS", unsigned(variant.rows()));
    voxel_stage(&stage, part, heads, variant) + &render(reduce, &values)
}

/// The shader of a gradient dispatch. `upstream_read_write`: the upstream scalar lies in a buffer that is written.
pub(crate) fn gradient(part: &PartText, heads: &[HeadLayout], variant: Variant, upstream_read_write: bool) -> String {
    let stage =
        VoxelStage { main: files::GRADIENT, registers: files::GRADIENT_REGISTERS, streamed: files::GRADIENT_STREAMED };
    let invocations = format!("const INVOCATIONS = {};\n", unsigned(variant.invocations));
    let text = voxel_stage(&stage, part, heads, variant) + &invocations;
    if !upstream_read_write {
        return text;
    }
    let upstream = "var<storage, read> upstream";
    text.replace(upstream, "var<storage, read_write> upstream")
}

/// The shader of the combine stage.
pub(crate) fn combine(heads: usize, variant: Variant) -> String {
    let values = fold_values(heads, variant).constant("TILE", unsigned(variant.tile));
    [files::HEADS, files::FOLD, files::COMBINE].map(|file| render(file, &values)).concat()
}

/// The shader of the finish stage.
pub(crate) fn finish(heads: usize, variant: Variant) -> String {
    let values = fold_values(heads, variant).constant("REPORT_WORDS", unsigned(REPORT_WORDS));
    [files::HEADS, files::FOLD, files::FINISH].map(|file| render(file, &values)).concat()
}

/// The groups of a part: heads with the same arithmetic share one.
pub(crate) fn groups(part: &PartText, heads: &[HeadLayout]) -> BTreeMap<Arithmetic, u32> {
    let mut groups: BTreeMap<Arithmetic, u32> =
        part.heads.iter().map(|slots| (heads[slots.head].arithmetic, 0)).collect();
    groups.values_mut().zip(0..).for_each(|(group, index)| *group = index);
    groups
}

fn fold_values(heads: usize, variant: Variant) -> Values {
    Values::default()
        .constant("HEADS", format!("{heads}u"))
        .constant("FOLD_INVOCATIONS", unsigned(variant.fold_invocations))
}

fn voxel_stage(stage: &VoxelStage, part: &PartText, heads: &[HeadLayout], variant: Variant) -> String {
    let groups = groups(part, heads);
    let values = Values::default()
        .constant("HEADS", format!("{}u", part.heads.len()))
        .constant("TILE", unsigned(variant.tile))
        .list('g', groups.values().copied());
    let mut text = render(files::HEADS, &values) + &render(files::LABELS, &values) + &render(stage.main, &values);
    let _ = writeln!(text, "const CHUNK = {}u;", variant.chunk);

    let unrolled = groups.keys().map(|a| a.classes).filter(|&c| c <= variant.register_classes).max().unwrap_or(0);
    let slots = u32::try_from(part.kinds.len()).expect("a dispatch has few slots");
    let windows = part.kinds.iter().map(|kind| kind.windows).max().unwrap_or(1);
    let group_count = u32::try_from(groups.len()).expect("a dispatch has few groups");
    for (letter, count) in [
        ('c', unrolled),
        ('k', variant.chunk),
        ('s', slots),
        ('t', slots),
        ('d', slots),
        ('g', group_count),
        ('w', windows),
    ] {
        text += &numbers(letter, count);
    }

    let mut binding = FIRST_SLOT;
    for (index, kind) in (0..).zip(&part.kinds) {
        text += &load_or_store(*kind, index, binding);
        binding += kind.windows;
    }
    for (arithmetic, &group) in &groups {
        text += &arithmetic_text(stage, part, heads, variant, *arithmetic, group);
    }
    text
}

/// The arithmetic of one group, with the loads and stores of its heads.
fn arithmetic_text(
    stage: &VoxelStage,
    part: &PartText,
    heads: &[HeadLayout],
    variant: Variant,
    arithmetic: Arithmetic,
    group: u32,
) -> String {
    let mine = || part.heads.iter().filter(|slots| heads[slots.head].arithmetic == arithmetic);
    let used = |slot: fn(&HeadSlots) -> u32| {
        let mut used: Vec<u32> = mine().map(slot).collect();
        used.sort_unstable();
        used.dedup();
        used
    };
    let values = Values::default()
        .flag("overlap", arithmetic.overlap)
        .flag("squared", arithmetic.squared)
        .flag("cross_entropy", arithmetic.cross_entropy)
        .flag("smoothing", arithmetic.smoothing)
        .flag("class_weights", arithmetic.class_weights)
        .list('c', 0..arithmetic.classes)
        .list('k', 0..variant.chunk)
        .list('s', used(|slots| slots.logits.0))
        .list('t', used(|slots| slots.target.0))
        .list('d', used(|slots| slots.gradient.0))
        .constant("CLASSES_g0", unsigned(arithmetic.classes));
    let in_registers = arithmetic.classes <= variant.register_classes;
    let file = if in_registers { stage.registers } else { stage.streamed };
    numbered(&render(file, &values), 'g', group)
}

/// The load or store of one slot.
fn load_or_store(kind: SlotKind, index: u32, binding: u32) -> String {
    let (list, name, files) = match (kind.role, kind.wide) {
        (Role::Logits, true) => ('s', "LOGITS", vec![files::LOGITS_WIDE]),
        (Role::Logits, false) => ('s', "LOGITS", vec![files::LOGITS_SCALAR]),
        (Role::Gradient, true) => ('d', "GRADIENT", vec![files::GRADIENT_WIDE]),
        (Role::Gradient, false) => ('d', "GRADIENT", vec![files::GRADIENT_SCALAR]),
        (Role::Labels, false) => ('t', "LABELS", vec![files::LABELS_SCALAR]),
        (Role::Labels, true) => match kind.bits {
            8 => ('t', "LABELS", vec![files::QUAD_U8, files::LABELS_WIDE]),
            16 => ('t', "LABELS", vec![files::QUAD_U16, files::LABELS_WIDE]),
            _ => ('t', "LABELS", vec![files::QUAD_U32, files::LABELS_WIDE]),
        },
    };
    let values = Values::default()
        .flag("windows", kind.windows > 1)
        .list('w', 0..kind.windows)
        .constant(&format!("WINDOW_{list}0"), unsigned(kind.window))
        .constant(&format!("BITS_{list}0"), unsigned(kind.bits))
        .constant(&format!("{name}_{list}0_w0"), unsigned(binding));
    let mut text: String = files.iter().map(|file| render(file, &values)).collect();
    for window in 1..kind.windows {
        let _ = writeln!(text, "const {name}_{list}0_w{window} = {}u;", binding + window);
    }
    if kind.read_write {
        text = text.replace("var<storage, read>", "var<storage, read_write>");
    }
    numbered(&text, list, index)
}

fn unsigned(value: u32) -> String {
    format!("{value}u")
}
