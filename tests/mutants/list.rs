//! The faults, and the test that catches each. `docs/mutants.md` is this list as a table.

/// One fault.
pub struct Mutant {
    /// What is wrong.
    pub name: &'static str,
    /// Where.
    pub file: &'static str,
    /// What is there, once.
    pub find: &'static str,
    /// What the fault puts there.
    pub replace: &'static str,
    /// The test that catches it, `binary::file::name`.
    pub test: &'static str,
}

/// All faults.
pub const MUTANTS: [Mutant; 26] = [
    Mutant {
        name: "a dropped barrier",
        file: "shaders/shared/fold_workgroup.wgsl",
        find: "    sh_fold[invocation] = value;\n    workgroupBarrier();\n",
        replace: "    sh_fold[invocation] = value;\n",
        test: "kernels::workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a dropped barrier between classes",
        file: "shaders/statistics.wgsl",
        find: "begin: bool) {\n    workgroupBarrier();\n    for",
        replace: "begin: bool) {\n    for",
        test: "kernels::workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a sum that keeps half a tree",
        file: "shaders/shared/fold_workgroup.wgsl",
        find: "half > 0u; half /= 2u",
        replace: "half > 1u; half /= 2u",
        test: "kernels::workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a wrong smoothing term",
        file: "shaders/terms.wgsl",
        find: "vec4<f32>(on * (head.on_target + head.off_target)), t != NONE",
        replace: "vec4<f32>(on * head.on_target), t != NONE",
        test: "kernels::workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a sign in the quotient rule",
        file: "shaders/finish.wgsl",
        find: "(ratio * r.den_by_i - r.num_by_i) / r.den",
        replace: "(ratio * r.den_by_i + r.num_by_i) / r.den",
        test: "kernels::workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "an off-by-one at the last tile",
        file: "shaders/statistics_registers.wgsl",
        find: "let tile_end = min(tile_first + TILE, head.voxels);",
        replace: "let tile_end = min(tile_first + TILE, head.voxels - 1u);",
        test: "kernels::big::odd_shapes_on_every_adapter",
    },
    Mutant {
        name: "a missing mask",
        file: "shaders/voxels.wgsl",
        find: "    inside = inside & (mask != vec4<u32>());\n",
        replace: "",
        test: "kernels::hostile::masks_of_garbage_count_where_they_are_not_zero",
    },
    Mutant {
        name: "a mask of ones alone",
        file: "shaders/voxels.wgsl",
        find: "inside & (mask != vec4<u32>())",
        replace: "inside & (mask == vec4<u32>(1u))",
        test: "kernels::hostile::masks_of_garbage_count_where_they_are_not_zero",
    },
    Mutant {
        name: "a label past the last class",
        file: "shaders/shared/target.wgsl",
        find: "let known = labels < vec4<u32>(classes + background);",
        replace: "let known = labels <= vec4<u32>(classes + background);",
        test: "kernels::hostile::labels_of_all_bit_patterns_are_classes_or_counted_out_of_range",
    },
    Mutant {
        name: "an ignore label that counts",
        file: "shaders/shared/target.wgsl",
        find: "let present = inside & !ignored;",
        replace: "let present = inside;",
        test: "kernels::hostile::labels_of_all_bit_patterns_are_classes_or_counted_out_of_range",
    },
    Mutant {
        name: "peak and logarithm in one number",
        file: "shaders/statistics_registers.wgsl",
        find: "loss += q_sum * log(sum);",
        // a largest number between them, or the compiler takes the peak out again
        replace: "loss += q_sum * (max(log(sum) + peak, LOWEST) - peak);",
        test: "kernels::random::large_logits_and_shared_offsets_stay_exact",
    },
    Mutant {
        name: "a store past the end of a row",
        file: "shaders/shared/store_scalar.wgsl",
        find: "if left > 3u {",
        replace: "if left > 2u {",
        test: "kernels::views::eight_heads_in_one_pooled_buffer_at_odd_offsets",
    },
    Mutant {
        name: "half of a word that is not cleared",
        file: "shaders/shared/store_halves_scalar.wgsl",
        find: "    atomicAnd(&tensor_x0_w0[element / 2u], others);\n",
        replace: "",
        test: "kernels::halves::odd_rows_at_odd_offsets_share_words_and_nothing_else_changes",
    },
    Mutant {
        name: "a NaN that is multiplied away",
        file: "shaders/statistics_registers.wgsl",
        find: "let counted_loss = select(NONE, worth_g0(quad, loss), quad.valid);",
        replace: "let counted_loss = quad.m * loss;",
        test: "api::errors::ignored_voxels_have_zero_gradient_whatever_their_logits",
    },
    Mutant {
        name: "a weight of 0 that is multiplied",
        file: "shaders/finish.wgsl",
        find: "return select(weight * value, 0.0, is_off(weight));",
        replace: "return weight * value;",
        test: "kernels::weights::a_head_of_weight_0_adds_exactly_0_whatever_its_logits_hold",
    },
    Mutant {
        name: "a switched-off term in the other's gradient",
        file: "shaders/gradient_registers.wgsl",
        find: "            of_overlap = select(NONE, of_overlap, vec4<bool>(is_on.overlap));\n",
        replace: "",
        test: "kernels::weights::logits_that_spoil_a_term_of_weight_0_leave_the_other_terms_gradient",
    },
    Mutant {
        name: "a voxel weight of 0 that is multiplied",
        file: "shaders/voxels.wgsl",
        find: "worth = select(quad.m * x, NONE, is_zero(quad.m));",
        replace: "worth = quad.m * x;",
        test: "kernels::weights::a_voxel_of_weight_0_adds_exactly_0_whatever_its_logits_hold",
    },
    Mutant {
        name: "a 0 that is accumulated",
        file: "shaders/shared/store_scalar.wgsl",
        find: "return select(before + value, before, is_zero(vec4<f32>(value)).x);",
        replace: "return before + value;",
        test: "kernels::weights::a_head_of_weight_0_writes_zeros_and_leaves_what_it_accumulates_onto_bit_for_bit",
    },
    Mutant {
        name: "a share of 0 of an infinite distance",
        file: "shaders/shared/math.wgsl",
        find: "return select(q * x, NONE, is_zero(q));",
        replace: "return q * x;",
        test: "kernels::hostile::a_class_at_minus_infinity_is_a_class_that_cannot_be",
    },
    Mutant {
        name: "a NaN that leaves the top-k",
        file: "shaders/statistics.wgsl",
        find: "let kept = select(bitcast<vec4<u32>>(max(loss, NONE)), size, size > vec4<u32>(0x7f800000u));",
        replace: "let kept = select(bitcast<vec4<u32>>(max(loss, NONE)), vec4<u32>(), size > vec4<u32>(0x7f800000u));",
        test: "kernels::hostile::a_nan_that_counts_is_seen",
    },
    Mutant {
        name: "one channel with one label",
        file: "shaders/shared/target.wgsl",
        find: "let background = select(0u, 1u, classes == 1u);",
        replace: "let background = 0u;",
        test: "kernels::one_channel::labels_0_and_1_are_the_probabilities_0_and_1",
    },
    Mutant {
        name: "a label without its sign",
        file: "shaders/shared/quad_8.wgsl",
        find: "bitcast<vec4<u32>>(bitcast<vec4<i32>>(labels << vec4<u32>(24u)) >> vec4<u32>(24u))",
        replace: "labels",
        test: "kernels::hostile::labels_of_all_bit_patterns_are_classes_or_counted_out_of_range",
    },
    Mutant {
        name: "a high word that is not read",
        file: "shaders/shared/integers_64.wgsl",
        find: "words.x, words.y == sign",
        replace: "words.x, true",
        test: "kernels::hostile::labels_of_all_bit_patterns_are_classes_or_counted_out_of_range",
    },
    Mutant {
        name: "high words that are not read",
        file: "shaders/shared/quad_64.wgsl",
        find: "low, high == sign",
        replace: "low, vec4<bool>(true)",
        test: "kernels::hostile::labels_of_all_bit_patterns_are_classes_or_counted_out_of_range",
    },
    Mutant {
        name: "a kind that finish does not know",
        file: "shaders/finish.wgsl",
        find: "case JACCARD: {",
        replace: "case 99u: {",
        test: "kernels::kinds::every_overlap_kind_is_its_own_formula",
    },
    Mutant {
        name: "the first item's scale for every item",
        file: "shaders/gradient_registers.wgsl",
        find: "SWITCHES + (head.first_item + place.item) * head.kappa_row",
        replace: "SWITCHES + head.first_item * head.kappa_row",
        test: "kernels::kinds::each_item_has_a_scale_of_its_own_in_a_sum_of_item_means",
    },
];
