// What the invocations that hold a quad's classes exchange: a maximum or a sum over them, by subgroup operations. The same
// functions as share_workgroup.wgsl, for a workgroup that is one subgroup.
//
// determinism   bit for bit: a butterfly, which adds the same pairs for every invocation of a quad

//# stand-in
const INVOCATIONS = 8u;
//# end

fn share_max(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    var largest = value;
    for (var apart = quads; apart < INVOCATIONS; apart *= 2u) {
        largest = max(largest, subgroupShuffleXor(largest, apart));
    }
    return largest;
}

fn share_sum(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    var sum = value;
    for (var apart = quads; apart < INVOCATIONS; apart *= 2u) {
        sum += subgroupShuffleXor(sum, apart);
    }
    return sum;
}

// The sum over the quads of a workgroup: the invocations that hold the same classes have consecutive indices.
fn sum_quads(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    var sum = value;
    for (var apart = 1u; apart < quads; apart *= 2u) {
        sum += subgroupShuffleXor(sum, apart);
    }
    return sum;
}
