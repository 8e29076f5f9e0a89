// One value an invocation, folded into one value a workgroup, where the workgroup is one subgroup: the same functions as
// fold.wgsl, by subgroup operations, without a barrier.
//
// determinism   bit for bit on one device and driver: subgroup operations have a fixed order there

const FOLD_INVOCATIONS = 64u;

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

// Called by all invocations; all get the result.
fn fold_workgroup(kind: u32, invocation: u32, value: u32) -> u32 {
    let sum = bitcast<u32>(subgroupAdd(bitcast<f32>(value)));
    let all = subgroupAdd(value);
    let least = subgroupMin(value);
    return select(select(least, all, kind == COUNT), sum, kind == SUM);
}

fn sum_workgroup(invocation: u32, value: f32) -> f32 {
    return subgroupAdd(value);
}
