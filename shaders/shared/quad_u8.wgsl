// Four labels of 8 bits in one word, the first in the low bits.

alias Quad_t0 = u32;

fn unpack_t0(quad: Quad_t0) -> vec4<u32> {
    return (vec4<u32>(quad) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
}
