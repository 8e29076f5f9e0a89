// How two words become one: a sum of f32, a sum of u32, or the least u32.
//
// Values travel as u32 words, so that integers stay integers; a word is seen as f32 only where it is one.
// fold_workgroup.wgsl and fold_subgroup.wgsl fold one value an invocation into one a workgroup.

// what a word is, and how two become one
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
