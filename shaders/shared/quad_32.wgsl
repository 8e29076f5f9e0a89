// Four integers of 32 bits in four words. A negative i32 is read as a large u32, and so is out of range.

alias Quad_x0 = vec4<u32>;

fn unpack_x0(quad: Quad_x0) -> vec4<u32> {
    return quad;
}
