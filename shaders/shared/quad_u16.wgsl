// Four integers of 16 bits in two words, the first in the low bits.

alias Quad_x0 = vec2<u32>;

fn unpack_x0(quad: Quad_x0) -> vec4<u32> {
    return (quad.xxyy >> vec4<u32>(0u, 16u, 0u, 16u)) & vec4<u32>(0xffffu);
}
