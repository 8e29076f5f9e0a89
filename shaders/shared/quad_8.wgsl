// Four integers of 8 bits in one word, the first in the low bits. Signed ones keep their sign in 32 bits.

alias Quad_x0 = u32;

fn unpack_x0(quad: Quad_x0) -> vec4<u32> {
    var labels = (vec4<u32>(quad) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
    labels = bitcast<vec4<u32>>(bitcast<vec4<i32>>(labels << vec4<u32>(24u)) >> vec4<u32>(24u)); //# if signed
    return labels;
}
