//! Which files make the shader of a stage, and with which values.

use super::groups::{Group, Groups};
use super::template::{Values, constant, numbered, numbers, renamed, render};
use crate::layout::Layout;
use crate::layout::slots::{DispatchText, Role, SlotKind};
use crate::layout::tensors::Format;
use crate::layout::variant::{Split, Variant};
use crate::layout::words::declared;
use crate::spec::{FloatType, LabelType};

/// The files under `shaders/`.
mod files {
    macro_rules! file {
        ($path:literal) => {
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path))
        };
    }
    pub const HEADS: &str = file!("shared/heads.wgsl");
    pub const MATH: &str = file!("shared/math.wgsl");
    pub const TARGET: &str = file!("shared/target.wgsl");
    pub const FOLD: &str = file!("shared/fold.wgsl");
    pub const FOLD_WORKGROUP: &str = file!("shared/fold_workgroup.wgsl");
    pub const FOLD_SUBGROUP: &str = file!("shared/fold_subgroup.wgsl");
    pub const REDUCE_SUBGROUP: &str = file!("shared/reduce_subgroup.wgsl");
    pub const SHARE_SUBGROUP: &str = file!("shared/share_subgroup.wgsl");
    pub const SHARE_WORKGROUP: &str = file!("shared/share_workgroup.wgsl");
    pub const REDUCE_WORKGROUP: &str = file!("shared/reduce_workgroup.wgsl");
    pub const FLOATS_WIDE: &str = file!("shared/floats_wide.wgsl");
    pub const FLOATS_SCALAR: &str = file!("shared/floats_scalar.wgsl");
    pub const INTEGERS_WIDE: &str = file!("shared/integers_wide.wgsl");
    pub const INTEGERS_SCALAR: &str = file!("shared/integers_scalar.wgsl");
    pub const INTEGERS_64: &str = file!("shared/integers_64.wgsl");
    pub const QUAD_8: &str = file!("shared/quad_8.wgsl");
    pub const QUAD_16: &str = file!("shared/quad_16.wgsl");
    pub const QUAD_32: &str = file!("shared/quad_32.wgsl");
    pub const QUAD_64: &str = file!("shared/quad_64.wgsl");
    pub const HALF_F16: &str = file!("shared/half_f16.wgsl");
    pub const HALF_BF16: &str = file!("shared/half_bf16.wgsl");
    pub const HALVES_WIDE: &str = file!("shared/halves_wide.wgsl");
    pub const HALVES_SCALAR: &str = file!("shared/halves_scalar.wgsl");
    pub const STORE_HALVES_WIDE: &str = file!("shared/store_halves_wide.wgsl");
    pub const STORE_HALVES_SCALAR: &str = file!("shared/store_halves_scalar.wgsl");
    pub const STORE_WIDE: &str = file!("shared/store_wide.wgsl");
    pub const STORE_SCALAR: &str = file!("shared/store_scalar.wgsl");
    pub const VOXELS: &str = file!("voxels.wgsl");
    pub const TERMS: &str = file!("terms.wgsl");
    pub const STATISTICS: &str = file!("statistics.wgsl");
    pub const STATISTICS_REGISTERS: &str = file!("statistics_registers.wgsl");
    pub const STATISTICS_STREAMED: &str = file!("statistics_streamed.wgsl");
    pub const SOFTMAX_STREAMED: &str = file!("softmax_streamed.wgsl");
    pub const COMBINE: &str = file!("combine.wgsl");
    pub const TOP_K: &str = file!("top_k.wgsl");
    pub const FINISH: &str = file!("finish.wgsl");
    pub const FINISH_OVERLAP: &str = file!("finish_overlap.wgsl");
    pub const FINISH_PIXEL: &str = file!("finish_pixel.wgsl");
    pub const GRADIENT: &str = file!("gradient.wgsl");
    pub const GRADIENT_REGISTERS: &str = file!("gradient_registers.wgsl");
    pub const GRADIENT_STREAMED: &str = file!("gradient_streamed.wgsl");
}

/// A stage that touches voxels: the file of its entry point and of its arithmetic.
struct VoxelStage {
    main: &'static str,
    registers: &'static str,
    streamed: &'static str,
    writes_gradient: bool,
    /// The upstream scalar lies in a buffer that is written.
    upstream_read_write: bool,
    /// Storage bindings besides the slots.
    own: u32,
}

/// The shader of a statistics dispatch.
pub(crate) fn statistics(dispatch: &DispatchText, layout: &Layout, variant: Variant) -> String {
    let stage = VoxelStage {
        main: files::STATISTICS,
        registers: files::STATISTICS_REGISTERS,
        streamed: files::STATISTICS_STREAMED,
        writes_gradient: false,
        upstream_read_write: false,
        own: layout.statistics_bindings(),
    };
    let reduce = if variant.subgroups { files::REDUCE_SUBGROUP } else { files::REDUCE_WORKGROUP };
    let rows = constant("ROWS", variant.rows());
    whole(&(rows + &voxel_stage(&stage, dispatch, layout, variant) + &render(reduce, &Values::default())))
}

/// The shader of a gradient dispatch. `upstream_read_write`: the upstream scalar lies in a buffer that is written.
pub(crate) fn gradient(
    dispatch: &DispatchText,
    layout: &Layout,
    variant: Variant,
    upstream_read_write: bool,
) -> String {
    let stage = VoxelStage {
        main: files::GRADIENT,
        registers: files::GRADIENT_REGISTERS,
        streamed: files::GRADIENT_STREAMED,
        writes_gradient: true,
        upstream_read_write,
        own: layout.gradient_bindings(),
    };
    whole(&voxel_stage(&stage, dispatch, layout, variant))
}

/// The shader of the combine stage.
pub(crate) fn combine(heads: usize, variant: Variant) -> String {
    constant("TILE", variant.tile) + &folding(&[files::COMBINE], heads, variant, &Values::default())
}

/// The shader of the finish stage: entry point `finish`, and `row_sums` where the batch is distributed.
pub(crate) fn finish(layout: &Layout, variant: Variant, distributed: bool) -> String {
    let values = Values::default()
        .flag("losses", layout.has_top_k())
        .flag("item_means", layout.has_item_means())
        .flag("row_notes", layout.heads.iter().any(|head| head.row_notes))
        .flag("distributed", distributed);
    folding(&[files::FINISH, files::FINISH_OVERLAP, files::FINISH_PIXEL], layout.heads.len(), variant, &values)
}

/// The shader of the top-k selection: entry points `begin`, `histogram`, `pick`, `sum_top`.
pub(crate) fn top_k(heads: usize, variant: Variant) -> String {
    folding(&[files::TOP_K], heads, variant, &Values::default())
}

/// A stage whose workgroups fold. A workgroup that is one subgroup folds without a barrier.
fn folding(stage: &[&str], heads: usize, variant: Variant, values: &Values) -> String {
    let one_subgroup = variant.subgroups && variant.subgroup_size == variant.fold_invocations;
    let fold_workgroup = if one_subgroup { files::FOLD_SUBGROUP } else { files::FOLD_WORKGROUP };
    let shared = [files::HEADS, files::FOLD, fold_workgroup];
    let text: String = shared.iter().chain(stage).map(|file| render(file, values)).collect();
    whole(&(heads_constant(heads) + &constant("FOLD_INVOCATIONS", variant.fold_invocations) + &text))
}

fn heads_constant(heads: usize) -> String {
    constant("HEADS", u32::try_from(heads).expect("a table has few heads"))
}

/// A text, behind the declarations of the words that it shares with the host.
fn whole(text: &str) -> String {
    declared(text) + text
}

fn voxel_stage(stage: &VoxelStage, dispatch: &DispatchText, layout: &Layout, variant: Variant) -> String {
    let groups = Groups::new(dispatch, &layout.heads);
    let values = Values::default()
        .flag("losses", layout.has_top_k())
        .flag("check_finite", layout.checks_finite())
        .flag("subgroups", variant.subgroups)
        .flag("upstream_read_write", stage.upstream_read_write)
        .list("g", groups.numbers.values().copied());
    let mut text = heads_constant(dispatch.heads.len())
        + &constant("TILE", variant.tile)
        + &constant("CHUNK", variant.chunk)
        + &constant("INVOCATIONS", variant.invocations);
    if stage.writes_gradient && layout.checks_finite() {
        text += &constant("REPORT_BINDING", layout.gradient_bindings());
    }

    let splits: Vec<Split> = groups.numbers.keys().filter_map(|group| groups.split(group, variant)).collect();
    let unrolled = splits.iter().map(|split| split.held).max().unwrap_or(0);
    let slots = u32::try_from(dispatch.kinds.len()).expect("a dispatch has few slots");
    let windows = dispatch.kinds.iter().map(|kind| kind.windows).max().unwrap_or(1);
    let group_count = u32::try_from(groups.numbers.len()).expect("a dispatch has few groups");
    for (list, count) in [("c", unrolled), ("k", variant.chunk), ("g", group_count), ("w", windows)] {
        text += &numbers(list, count);
    }
    for role in Role::LISTS {
        text += &numbers(role.list(), slots);
    }
    for file in [files::HEADS, files::MATH, files::TARGET, stage.main] {
        text += &render(file, &values);
    }

    let mut binding = 1 + stage.own;
    for (index, kind) in (0..).zip(&dispatch.kinds) {
        text += &load_or_store(*kind, index, binding);
        binding += kind.windows;
    }
    if splits.iter().any(|split| split.lanes > 1) {
        let share = if variant.shares_by_subgroup() { files::SHARE_SUBGROUP } else { files::SHARE_WORKGROUP };
        text += &render(share, &values);
    }
    for (group, &number) in &groups.numbers {
        text += &arithmetic_text(stage, &groups, variant, group, number);
    }
    text
}

/// The arithmetic of one group, with the loads and stores of its heads.
fn arithmetic_text(stage: &VoxelStage, groups: &Groups<'_>, variant: Variant, group: &Group, number: u32) -> String {
    let (arithmetic, _) = group;
    let split = groups.split(group, variant);
    let mut values = Values::default()
        .flag("gradient", stage.writes_gradient)
        .flag("split", split.is_some_and(|split| split.lanes > 1))
        .flag("ragged", split.is_some_and(|split| split.lanes * split.held != arithmetic.classes))
        .list("c", 0..split.map_or(0, |split| split.held))
        .list("k", 0..variant.chunk);
    for &(name, set) in &arithmetic.flags {
        values = values.flag(name, set);
    }
    for role in Role::LISTS {
        let used = groups.slots(group, role);
        values = values.flag(role.alone(), used.len() == 1).list(role.list(), used);
    }
    let mut text = constant("CLASSES_g0", arithmetic.classes);
    let kernel: &[&str] = if let Some(Split { lanes, held }) = split {
        text += &(constant("CLASS_LANES_g0", lanes) + &constant("HELD_g0", held));
        &[stage.registers]
    } else {
        &[files::SOFTMAX_STREAMED, stage.streamed]
    };
    for file in [files::VOXELS, files::TERMS].iter().chain(kernel) {
        text += &render(file, &values);
    }
    numbered(&text, "g", number)
}

/// The load or store of one slot; both for a gradient in place.
fn load_or_store(kind: SlotKind, index: u32, binding: u32) -> String {
    let text = slot_text(kind, index, binding, kind.role);
    if kind.role != Role::GradientInPlace {
        return text;
    }
    // the store declares the tensor
    slot_text(SlotKind { role: Role::Logits, ..kind }, index, binding, kind.role) + &text
}

/// A load or store; `tensor`: the role under which its tensor is declared.
fn slot_text(kind: SlotKind, index: u32, binding: u32, tensor: Role) -> String {
    let files: &[&str] = match (kind.format, kind.role.is_written(), kind.wide) {
        (Format::Integer(LabelType::I64), _, false) => &[files::INTEGERS_64],
        (Format::Integer(_), _, false) => &[files::INTEGERS_SCALAR],
        (Format::Integer(LabelType::U8 | LabelType::I8), _, true) => &[files::QUAD_8, files::INTEGERS_WIDE],
        (Format::Integer(LabelType::U16 | LabelType::I16), _, true) => &[files::QUAD_16, files::INTEGERS_WIDE],
        (Format::Integer(LabelType::U32 | LabelType::I32), _, true) => &[files::QUAD_32, files::INTEGERS_WIDE],
        (Format::Integer(LabelType::I64), _, true) => &[files::QUAD_64, files::INTEGERS_WIDE],
        (Format::Float(FloatType::F32), false, true) => &[files::FLOATS_WIDE],
        (Format::Float(FloatType::F32), false, false) => &[files::FLOATS_SCALAR],
        (Format::Float(FloatType::F32), true, true) => &[files::STORE_WIDE],
        (Format::Float(FloatType::F32), true, false) => &[files::STORE_SCALAR],
        (Format::Float(half), false, true) => &[half_file(half), files::HALVES_WIDE],
        (Format::Float(half), false, false) => &[half_file(half), files::HALVES_SCALAR],
        (Format::Float(half), true, true) => &[half_file(half), files::STORE_HALVES_WIDE],
        (Format::Float(half), true, false) => &[half_file(half), files::STORE_HALVES_SCALAR],
    };
    let in_place = tensor == Role::GradientInPlace;
    let values = Values::default()
        .flag("windows", kind.windows > 1)
        .flag("accumulate", kind.role == Role::AccumulatedGradient)
        .flag("in_place", in_place)
        .flag("signed", matches!(kind.format, Format::Integer(LabelType::I8 | LabelType::I16)))
        .flag("read_write", kind.read_write)
        .list("w", 0..kind.windows);
    let mut text = String::new();
    // for a gradient in place, the load uses the bindings and the decoding of the store
    if !in_place || kind.role == tensor {
        text += &(0..kind.windows).map(|w| constant(&format!("BINDING_x0_w{w}"), binding + w)).collect::<String>();
    }
    text += &constant("WINDOW_x0", kind.window);
    if matches!(kind.format, Format::Integer(_)) {
        text += &constant("BITS_x0", kind.format.bits().min(32));
    }
    text.extend(files.iter().map(|file| render(file, &values)));
    // in the files x0 is the slot and y0 its tensor; each is renamed to the list of its role
    renamed(&renamed(&text, "x", kind.role.list(), index), "y", tensor.list(), index)
}

fn half_file(float: FloatType) -> &'static str {
    if float == FloatType::Bf16 { files::HALF_BF16 } else { files::HALF_F16 }
}

#[cfg(test)]
mod tests {
    use crate::layout::table::HeadRow;

    /// naga's layout of the struct against the host's, field by field.
    #[test]
    fn the_table_row_mirrors_its_shader_struct() {
        let source = super::combine(1, crate::layout::defaults::INTEGRATED);
        let module = naga::front::wgsl::parse_str(&source).expect("valid");
        let (_, head) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Head")).expect("Head");
        let naga::TypeInner::Struct { members, span } = &head.inner else { panic!("Head is a struct") };
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("layout");

        macro_rules! offsets {
            ($($field:ident),* $(,)?) => {
                [$((stringify!($field), std::mem::offset_of!(HeadRow, $field))),*]
            };
        }
        let host = offsets![
            items,
            classes,
            voxels,
            group,
            logits_slot,
            logits_first,
            target_slot,
            target_first,
            gradient_slot,
            gradient_first,
            mask_slot,
            mask_first,
            weight_map_slot,
            weight_map_first,
            sample_mask_slot,
            sample_mask_first,
            voxel_losses_slot,
            voxel_losses_first,
            upstream,
            first_workgroup,
            tiles,
            first_column,
            partials,
            statistics,
            coefficients,
            kappa_row,
            slopes,
            slope_row,
            report,
            class_columns,
            item_words,
            hard_counts,
            item_counts,
            overlap_losses,
            check_finite,
            weights,
            has_ignore_index,
            ignore_index,
            target_voxels,
            axes,
            axis_parameters,
            has_labels,
            counts,
            has_pixel,
            pixel_reduction,
            on_target,
            off_target,
            gamma,
            has_class_parameters,
            class_parameters,
            pixel_first_class,
            pixel_denominator,
            empty,
            top_k,
            losses,
            selection,
            first_loss_run,
            loss_runs,
            top_coefficients,
            overlap_kind,
            overlap_reduction,
            first_class,
            batch,
            smooth_nr,
            smooth_dr,
            denominator_floor,
            form,
            form_parameter,
            alpha,
            beta,
            class_weighting,
            present_classes_only,
            weighted_overlap,
            overlap_class_weights,
            masked_samples,
            rows,
            all_items,
            first_item,
        ];
        let shader: Vec<_> = members.iter().map(|m| (m.name.as_deref().expect("named"), m.offset as usize)).collect();
        assert_eq!(shader, host);
        // in a uniform array, the stride is the size rounded up to 16 bytes
        assert_eq!(span.next_multiple_of(16) as usize, size_of::<HeadRow>());
    }
}
