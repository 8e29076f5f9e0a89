// What the invocations that hold a quad's classes tell each other: a maximum or a sum over them, by subgroup operations. The
// same functions as share_workgroup.wgsl, for a workgroup that is one subgroup and one quad.
//
// determinism   bit for bit on one device and driver: `subgroupAdd` has a fixed order there

fn share_max(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    return subgroupMax(value);
}

fn share_sum(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    return subgroupAdd(value);
}

fn sum_quads(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    return value;
}
