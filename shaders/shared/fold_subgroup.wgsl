// Folds one value per invocation into one value per workgroup, where the workgroup is one subgroup: the same functions as
// fold_workgroup.wgsl, by subgroup operations, without a barrier.
//
// determinism   bit for bit on one device and driver: subgroup operations have a fixed order there

//# stand-in
const SUM = 0u; const COUNT = 1u;
//# end

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
