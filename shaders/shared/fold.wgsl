// Folds two words into one: a sum of f32, a sum of u32, or the least u32.
//
// Values are kept as u32 words, so that integers stay exact; a word is read as f32 only where it is one.
// fold_workgroup.wgsl and fold_subgroup.wgsl fold one value per invocation into one value per workgroup.

// what a word is, and how two are folded
const SUM = 0u;
const COUNT = 1u;
const LEAST = 2u;

fn fold(kind: u32, a: u32, b: u32) -> u32 {
    switch kind {
        case SUM: { return bitcast<u32>(bitcast<f32>(a) + bitcast<f32>(b)); }
        case COUNT: { return a + b; }
        default: { return min(a, b); }
    }
}

fn identity(kind: u32) -> u32 {
    return select(0u, 0xffffffffu, kind == LEAST);
}
