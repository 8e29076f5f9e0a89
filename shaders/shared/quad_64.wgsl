// Four integers of 64 bits in eight words, the low word of each first. One that fits in an i32 is read as its low word; any
// other as the least i32, which is neither a class nor an ignore label.

struct Quad_x0 {
    first: vec4<u32>,
    second: vec4<u32>,
}

fn unpack_x0(quad: Quad_x0) -> vec4<u32> {
    let low = vec4<u32>(quad.first.xz, quad.second.xz);
    let high = vec4<u32>(quad.first.yw, quad.second.yw);
    let sign = bitcast<vec4<u32>>(bitcast<vec4<i32>>(low) >> vec4<u32>(31u));
    return select(vec4<u32>(0x80000000u), low, high == sign);
}
