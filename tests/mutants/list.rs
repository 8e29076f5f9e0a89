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
    /// The test that catches it, `file::name`.
    pub test: &'static str,
}

/// All faults.
pub const MUTANTS: [Mutant; 14] = [
    Mutant {
        name: "a dropped barrier",
        file: "shaders/shared/fold_workgroup.wgsl",
        find: "    sh_fold[invocation] = value;\n    workgroupBarrier();\n",
        replace: "    sh_fold[invocation] = value;\n",
        test: "workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a dropped barrier between classes",
        file: "shaders/statistics.wgsl",
        find: "begin: bool) {\n    workgroupBarrier();\n    for",
        replace: "begin: bool) {\n    for",
        test: "workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a sum that keeps half a tree",
        file: "shaders/shared/fold_workgroup.wgsl",
        find: "half > 0u; half /= 2u",
        replace: "half > 1u; half /= 2u",
        test: "workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a wrong smoothing term",
        file: "shaders/terms.wgsl",
        find: "vec4<f32>(on * (head.on_target + head.off_target)), t != NONE",
        replace: "vec4<f32>(on * head.on_target), t != NONE",
        test: "workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "a sign in the quotient rule",
        file: "shaders/finish.wgsl",
        find: "(ratio * r.den_by_i - r.num_by_i) / r.den",
        replace: "(ratio * r.den_by_i + r.num_by_i) / r.den",
        test: "workgroups::workgroups_of_any_size_equal_the_reference",
    },
    Mutant {
        name: "an off-by-one at the last tile",
        file: "shaders/statistics_registers.wgsl",
        find: "let tile_end = min(tile_first + TILE, head.voxels);",
        replace: "let tile_end = min(tile_first + TILE, head.voxels - 1u);",
        test: "big::odd_shapes_on_every_adapter",
    },
    Mutant {
        name: "a missing mask",
        file: "shaders/voxels.wgsl",
        find: "    inside = inside & (mask != vec4<u32>());\n",
        replace: "",
        test: "hostile::masks_of_garbage_count_where_they_are_not_zero",
    },
    Mutant {
        name: "a mask of ones alone",
        file: "shaders/voxels.wgsl",
        find: "inside & (mask != vec4<u32>())",
        replace: "inside & (mask == vec4<u32>(1u))",
        test: "hostile::masks_of_garbage_count_where_they_are_not_zero",
    },
    Mutant {
        name: "a label past the last class",
        file: "shaders/shared/target.wgsl",
        find: "let known = labels < vec4<u32>(classes);",
        replace: "let known = labels <= vec4<u32>(classes);",
        test: "hostile::labels_of_all_bit_patterns_are_classes_or_counted_out_of_range",
    },
    Mutant {
        name: "an ignore label that counts",
        file: "shaders/shared/target.wgsl",
        find: "let present = inside & !ignored;",
        replace: "let present = inside;",
        test: "hostile::labels_of_all_bit_patterns_are_classes_or_counted_out_of_range",
    },
    Mutant {
        name: "peak and logarithm in one number",
        file: "shaders/statistics_registers.wgsl",
        find: "loss += q_sum * log(sum);",
        // a largest number between them, or the compiler takes the peak out again
        replace: "loss += q_sum * (max(log(sum) + peak, LOWEST) - peak);",
        test: "random::large_logits_and_shared_offsets_stay_exact",
    },
    Mutant {
        name: "a store past the end of a row",
        file: "shaders/shared/store_scalar.wgsl",
        find: "if left > 3u {",
        replace: "if left > 2u {",
        test: "views::eight_heads_in_one_pooled_buffer_at_odd_offsets",
    },
    Mutant {
        name: "half of a word that is not cleared",
        file: "shaders/shared/store_halves_scalar.wgsl",
        find: "    half_bits = encode_x0(stored);\n    atomicAnd(&tensor_x0_w0[element / 2u], others);\n",
        replace: "    half_bits = encode_x0(stored);\n",
        test: "halves::odd_rows_at_odd_offsets_share_words_and_nothing_else_changes",
    },
    Mutant {
        name: "a NaN that is multiplied away",
        file: "shaders/statistics_registers.wgsl",
        find: "let counted_loss = select(NONE, quad.m * loss, quad.valid);",
        replace: "let counted_loss = quad.m * loss;",
        test: "errors::ignored_voxels_have_zero_gradient_whatever_their_logits",
    },
];
