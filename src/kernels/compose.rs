//! Which files make the shader of a stage, and with which values.

use std::collections::BTreeSet;

use super::groups::{Group, Groups};
use super::template::{Values, constant, numbered, numbers, renamed, render};
use crate::layout::Layout;
use crate::layout::answers::BuiltInF16;
use crate::layout::slots::{BindingKind, DispatchText, Role, SlotKind, Unit};
use crate::layout::tensors::Format;
use crate::layout::variant::{STREAM_QUADS, Split, Variant};
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
    pub const INTEGERS_SCALAR: &str = file!("shared/integers_scalar.wgsl");
    pub const INTEGERS_64: &str = file!("shared/integers_64.wgsl");
    pub const INTEGERS_WIDE_8: &str = file!("shared/integers_wide_8.wgsl");
    pub const INTEGERS_WIDE_16: &str = file!("shared/integers_wide_16.wgsl");
    pub const INTEGERS_WIDE_32: &str = file!("shared/integers_wide_32.wgsl");
    pub const INTEGERS_WIDE_64: &str = file!("shared/integers_wide_64.wgsl");
    pub const BINDING_WORDS: &str = file!("shared/binding_words.wgsl");
    pub const BINDING_ATOMICS: &str = file!("shared/binding_atomics.wgsl");
    pub const BINDING_PAIRS: &str = file!("shared/binding_pairs.wgsl");
    pub const BINDING_QUADS: &str = file!("shared/binding_quads.wgsl");
    pub const PAIRS_OF_WORDS: &str = file!("shared/pairs_of_words.wgsl");
    pub const HALVES_OF_WORDS: &str = file!("shared/halves_of_words.wgsl");
    pub const HALF_F16: &str = file!("shared/half_f16.wgsl");
    pub const HALF_BF16: &str = file!("shared/half_bf16.wgsl");
    pub const HALVES_WIDE: &str = file!("shared/halves_wide.wgsl");
    pub const HALVES_SCALAR: &str = file!("shared/halves_scalar.wgsl");
    pub const STORE_HALVES_WIDE: &str = file!("shared/store_halves_wide.wgsl");
    pub const STORE_HALVES_SCALAR: &str = file!("shared/store_halves_scalar.wgsl");
    pub const STORE_WIDE: &str = file!("shared/store_wide.wgsl");
    pub const STORE_SCALAR: &str = file!("shared/store_scalar.wgsl");
    pub const VOXELS: &str = file!("voxels.wgsl");
    pub const CLASSES: &str = file!("classes.wgsl");
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
    pub const ASK: &str = file!("ask.wgsl");
    pub const UPSTREAM: &str = file!("upstream.wgsl");
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
    /// The upstream gradient is read from the caller's buffer.
    upstream_bound: bool,
    /// Storage bindings besides the slots.
    own: u32,
    f16: BuiltInF16,
}

/// The shader of a statistics dispatch.
pub(crate) fn statistics(dispatch: &DispatchText, layout: &Layout, variant: Variant, f16: BuiltInF16) -> String {
    let stage = VoxelStage {
        main: files::STATISTICS,
        registers: files::STATISTICS_REGISTERS,
        streamed: files::STATISTICS_STREAMED,
        writes_gradient: false,
        upstream_bound: false,
        own: layout.statistics_bindings(),
        f16,
    };
    let reduce = if variant.subgroups { files::REDUCE_SUBGROUP } else { files::REDUCE_WORKGROUP };
    let rows = constant("ROWS", variant.rows());
    whole(&(rows + &voxel_stage(&stage, dispatch, layout, variant) + &render(reduce, &Values::default())))
}

/// The shader of a gradient dispatch. `upstream_bound`: the upstream gradient is read from the caller's buffer.
pub(crate) fn gradient(
    dispatch: &DispatchText,
    layout: &Layout,
    variant: Variant,
    f16: BuiltInF16,
    upstream_bound: bool,
) -> String {
    let stage = VoxelStage {
        main: files::GRADIENT,
        registers: files::GRADIENT_REGISTERS,
        streamed: files::GRADIENT_STREAMED,
        writes_gradient: true,
        upstream_bound,
        own: layout.gradient_bindings(upstream_bound),
        f16,
    };
    whole(&voxel_stage(&stage, dispatch, layout, variant))
}

/// The questions to a device, in a workgroup of so many invocations: entry point `ask`.
pub(crate) fn ask(invocations: u32, halves: u32, subgroups: bool, one_subgroup: bool) -> String {
    let values = Values::default().flag("subgroups", subgroups).flag("one_subgroup", one_subgroup);
    whole(&(constant("INVOCATIONS", invocations) + &constant("HALVES", halves) + &render(files::ASK, &values)))
}

/// The shader that copies the caller's upstream gradient: entry point `copy_upstream`.
pub(crate) fn upstream() -> String {
    let values = Values::default();
    whole(&(heads_constant(1) + &render(files::HEADS, &values) + &render(files::UPSTREAM, &values)))
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
        .flag("upstream_bound", stage.upstream_bound)
        .list("g", groups.numbers.values().copied());
    let mut text = heads_constant(dispatch.heads.len())
        + &constant("TILE", variant.tile)
        + &constant("CHUNK", variant.chunk)
        + &constant("STREAM_QUADS", STREAM_QUADS)
        + &constant("INVOCATIONS", variant.invocations);
    if stage.writes_gradient && layout.has_top_k() {
        text += &constant("LOSSES_BINDING", 2 + u32::from(stage.upstream_bound));
    }
    if stage.writes_gradient && layout.checks_finite() {
        text += &constant("REPORT_BINDING", stage.own);
    }

    let splits: Vec<Split> =
        groups.numbers.keys().filter_map(|group| groups.split(group, variant, stage.writes_gradient)).collect();
    let unrolled = splits.iter().map(|split| split.held).max().unwrap_or(0);
    let slots = u32::try_from(dispatch.slots.len()).expect("a dispatch has few slots");
    let windows = dispatch.bindings.iter().map(|kind| kind.windows).max().unwrap_or(1);
    let group_count = u32::try_from(groups.numbers.len()).expect("a dispatch has few groups");
    for (list, count) in [("c", unrolled), ("v", STREAM_QUADS), ("g", group_count), ("w", windows)] {
        text += &numbers(list, count);
    }
    for role in Role::LISTS {
        text += &numbers(role.list(), slots);
    }
    for file in [files::HEADS, files::MATH, files::TARGET, stage.main] {
        text += &render(file, &values);
    }

    let mut number = 1 + stage.own;
    for (index, kind) in (0..).zip(&dispatch.bindings) {
        text += &binding(*kind, index, number, dispatch.slots.iter().filter(|slot| slot.binding == index));
        number += kind.windows;
    }
    for (index, slot) in (0..).zip(&dispatch.slots) {
        text.extend(slot.role.lists().iter().map(|list| load_or_store(*slot, *list, index, stage.f16)));
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
    let split = groups.split(group, variant, stage.writes_gradient);
    // whether the slope of the overlap depends on p: then D needs the softmax, else it is added up with it
    let by_p = arithmetic.is("squared") || arithmetic.is("minimum");
    let of_softmax = arithmetic.is("overlap_softmax");
    let mut values = Values::default()
        .flag("gradient", stage.writes_gradient)
        .flag("split", split.is_some_and(|split| split.lanes > 1))
        .flag("target_runs", arithmetic.is("channels_last") && arithmetic.is("probabilities"))
        .flag("by_element", arithmetic.is("channels_last") && split.is_none())
        .flag("one_subgroup", variant.shares_by_subgroup())
        .flag("linear_slope", of_softmax && !by_p)
        .flag("softmax_slope", of_softmax && by_p)
        .flag("third_read", of_softmax && by_p || arithmetic.is("bent"))
        .flag("ragged", split.is_some_and(|split| split.lanes * split.held != arithmetic.classes))
        .list("c", 0..split.map_or(0, |split| split.held))
        .list("v", 0..STREAM_QUADS);
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
        &[files::CLASSES, stage.registers]
    } else {
        &[files::SOFTMAX_STREAMED, stage.streamed]
    };
    for file in [files::VOXELS, files::TERMS].iter().chain(kernel) {
        text += &render(file, &values);
    }
    numbered(&text, "g", number)
}

/// A binding, and the functions through which its slots read and write it. `number`: of its first window.
fn binding<'a>(kind: BindingKind, index: u32, number: u32, slots: impl Iterator<Item = &'a SlotKind>) -> String {
    let (mut reads, mut writes, mut reads_halves) = (BTreeSet::new(), BTreeSet::new(), false);
    for slot in slots {
        if slot.role.is_read() {
            reads.insert(slot.unit());
            reads_halves |= slot.has_halves();
        }
        if slot.role.is_written() {
            writes.insert(slot.unit());
        }
    }
    let files: &[&str] = match kind.unit {
        Unit::AtomicWord => &[files::BINDING_ATOMICS, files::PAIRS_OF_WORDS],
        Unit::Word => &[files::BINDING_WORDS, files::PAIRS_OF_WORDS],
        Unit::Pair => &[files::BINDING_PAIRS],
        Unit::Quad => &[files::BINDING_QUADS],
    };
    // a function for each unit, and for those that its own text calls
    let by_words = kind.unit <= Unit::Word;
    let reads_quad = reads.contains(&Unit::Quad);
    let reads_pair = reads.contains(&Unit::Pair) || reads_quad && kind.unit == Unit::Pair;
    let words = reads.contains(&Unit::Word) || reads.contains(&Unit::AtomicWord);
    let reads_word = words || by_words && !reads.is_empty() || reads_pair && kind.unit == Unit::Quad;
    let writes_quad = writes.contains(&Unit::Quad);
    let writes_pair = writes.contains(&Unit::Pair) || writes_quad && kind.unit <= Unit::Pair;
    let writes_word = writes.contains(&Unit::Word) || writes.contains(&Unit::AtomicWord) || writes_pair && by_words;
    let values = Values::default()
        .flag("read_write", kind.read_write)
        .flag("windows", kind.windows > 1)
        .flag("reads_word", reads_word)
        .flag("reads_pair", reads_pair)
        .flag("reads_quad", reads_quad)
        .flag("writes_word", writes_word)
        .flag("writes_pair", writes_pair)
        .flag("writes_quad", writes_quad)
        .list("w", 0..kind.windows);
    let mut text: String =
        (0..kind.windows).map(|w| constant(&format!("BINDING_b0_w{w}"), number + w)).collect::<String>();
    text += &constant("WINDOW_b0", kind.window);
    let halves = reads_halves.then_some(&files::HALVES_OF_WORDS);
    text.extend(files.iter().chain(halves).map(|file| render(file, &values)));
    numbered(&text, "b", index)
}

/// The load or store of one slot in one of its lists.
fn load_or_store(kind: SlotKind, list: Role, index: u32, f16: BuiltInF16) -> String {
    let stores = matches!(list, Role::VoxelLosses | Role::Gradient);
    let files: &[&str] = match (kind.format, stores, kind.wide) {
        (Format::Integer(LabelType::I64), _, false) => &[files::INTEGERS_64],
        (Format::Integer(_), _, false) => &[files::INTEGERS_SCALAR],
        (Format::Integer(LabelType::U8 | LabelType::I8), _, true) => &[files::INTEGERS_WIDE_8],
        (Format::Integer(LabelType::U16 | LabelType::I16), _, true) => &[files::INTEGERS_WIDE_16],
        (Format::Integer(LabelType::U32 | LabelType::I32), _, true) => &[files::INTEGERS_WIDE_32],
        (Format::Integer(LabelType::I64), _, true) => &[files::INTEGERS_WIDE_64],
        (Format::Float(FloatType::F32), false, true) => &[files::FLOATS_WIDE],
        (Format::Float(FloatType::F32), false, false) => &[files::FLOATS_SCALAR],
        (Format::Float(FloatType::F32), true, true) => &[files::STORE_WIDE],
        (Format::Float(FloatType::F32), true, false) => &[files::STORE_SCALAR],
        (Format::Float(half), false, true) => &[half_file(half), files::HALVES_WIDE],
        (Format::Float(half), false, false) => &[half_file(half), files::HALVES_SCALAR],
        (Format::Float(half), true, true) => &[half_file(half), files::STORE_HALVES_WIDE],
        (Format::Float(half), true, false) => &[half_file(half), files::STORE_HALVES_SCALAR],
    };
    let values = Values::default()
        .flag("accumulate", kind.role == Role::AccumulatedGradient)
        .flag("decodes_f16", f16.decodes)
        .flag("encodes_f16", f16.encodes)
        .flag("signed", matches!(kind.format, Format::Integer(LabelType::I8 | LabelType::I16)));
    let mut text = String::new();
    if matches!(kind.format, Format::Integer(_)) && !kind.wide {
        text += &constant("BITS_x0", kind.format.bits().min(32));
    }
    text.extend(files.iter().map(|file| render(file, &values)));
    // in the files x0 is the slot, and b0 its binding
    renamed(&numbered(&text, "b", kind.binding), "x", list.list(), index)
}

fn half_file(float: FloatType) -> &'static str {
    if float == FloatType::Bf16 { files::HALF_BF16 } else { files::HALF_F16 }
}

#[cfg(test)]
mod tests {
    use crate::layout::table::HeadRow;

    /// naga's layout of the struct against the host's, field by field.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
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
            label_table,
            table_labels,
            table_words,
            has_labels,
            counts,
            has_pixel,
            pixel_reduction,
            on_target,
            off_target,
            bend,
            bends,
            has_class_parameters,
            class_parameters,
            pixel_first_class,
            pixel_denominator,
            pixel_classes,
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
            form_gamma,
            eps,
            alpha,
            beta,
            class_weighting,
            micro,
            absent,
            power_of_mean,
            taking_part,
            mean_terms,
            has_class_numbers,
            class_numbers,
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
