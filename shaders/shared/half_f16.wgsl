// f16, two in a word, the first in the low bits: to f32 exactly, and from f32 rounded once, to nearest, ties to even. It needs
// no device feature.
//
// WGSL lets a device flush subnormal halves to 0 where it unpacks them, and round either way where it packs. A device that was
// asked and does neither uses the built-in functions; any other uses integers, with the same bits but for those of a NaN.

//# if decodes_f16
fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}
//# else
//#= fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> {
//#=     let halves = (words.xxyy >> vec4<u32>(0u, 16u, 0u, 16u)) & vec4<u32>(0xffffu);
//#=     let size = halves & vec4<u32>(0x7fffu);
//#=     // below 2^−14 the steps are 2^−24 wide; ∞ and NaN have the largest exponent in both types
//#=     let below = bitcast<vec4<u32>>(vec4<f32>(size) * 5.9604645e-8);
//#=     let above = (size << vec4<u32>(13u)) + select(vec4<u32>(0x38000000u), vec4<u32>(0x70000000u), size >= vec4<u32>(0x7c00u));
//#=     let bits = select(above, below, size < vec4<u32>(0x400u));
//#=     return bitcast<vec4<f32>>(bits | ((halves & vec4<u32>(0x8000u)) << vec4<u32>(16u)));
//#= }
//# end

//# if encodes_f16
fn encode_quad_x0(value: vec4<f32>) -> vec2<u32> {
    return vec2<u32>(pack2x16float(value.xy), pack2x16float(value.zw));
}
//# else
//#= fn encode_quad_x0(value: vec4<f32>) -> vec2<u32> {
//#=     let bits = bitcast<vec4<u32>>(value);
//#=     let size = bits & vec4<u32>(0x7fffffffu);
//#=     // below 2^−14 the steps are 2^−24 wide; from 2^16 on all is infinite, and just below rounding carries to that by itself
//#=     let below = vec4<u32>(round(min(abs(value), vec4<f32>(1.0)) * 16777216.0));
//#=     let odd = (size >> vec4<u32>(13u)) & vec4<u32>(1u);
//#=     let between = (size + vec4<u32>(0xfffu) + odd - vec4<u32>(0x38000000u)) >> vec4<u32>(13u);
//#=     let above = select(vec4<u32>(0x7c00u), vec4<u32>(0x7e00u), size > vec4<u32>(0x7f800000u));
//#=     let finite = select(between, below, size < vec4<u32>(0x38800000u));
//#=     let halves = select(finite, above, size >= vec4<u32>(0x47800000u)) | ((bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u));
//#=     return halves.xz | (halves.yw << vec2<u32>(16u));
//#= }
//# end
