// Four integers of 16 bits in two words, the first in the low bits. Signed ones keep their sign in 32 bits.

alias Quad_x0 = vec2<u32>;

fn unpack_x0(quad: Quad_x0) -> vec4<u32> {
    var labels = (quad.xxyy >> vec4<u32>(0u, 16u, 0u, 16u)) & vec4<u32>(0xffffu);
    labels = bitcast<vec4<u32>>(bitcast<vec4<i32>>(labels << vec4<u32>(16u)) >> vec4<u32>(16u)); //# if signed
    return labels;
}
