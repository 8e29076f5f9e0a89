// bf16, two in a word, the first in the low bits: to f32 exactly, and from f32 rounded once, to nearest, ties to even. It needs
// no device feature.

fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> {
    let high = vec2<u32>(0xffff0000u);
    let odd = words & high;
    let even = words << vec2<u32>(16u);
    return bitcast<vec4<f32>>(vec4<u32>(even.x, odd.x, even.y, odd.y));
}

fn encode_quad_x0(value: vec4<f32>) -> vec2<u32> {
    let bits = bitcast<vec4<u32>>(value);
    let rounded = bits + vec4<u32>(0x7fffu) + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u));
    let is_nan = (bits & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
    let halves = select(rounded, bits | vec4<u32>(0x400000u), is_nan);
    return (halves.xz >> vec2<u32>(16u)) | (halves.yw & vec2<u32>(0xffff0000u));
}
