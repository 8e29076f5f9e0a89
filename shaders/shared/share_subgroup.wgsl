// What invocations of a workgroup exchange: a maximum or a sum over some of them, by subgroup operations. The same functions as
// share_workgroup.wgsl, for a workgroup that is one subgroup.
//
// determinism   bit for bit: a butterfly, which adds the same pairs for all that exchange

fn share_max(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> {
    var largest = value;
    for (var apart = stride; apart < span; apart *= 2u) {
        largest = max(largest, subgroupShuffleXor(largest, apart));
    }
    return largest;
}

fn share_sum(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> {
    var sum = value;
    for (var apart = stride; apart < span; apart *= 2u) {
        sum += subgroupShuffleXor(sum, apart);
    }
    return sum;
}
