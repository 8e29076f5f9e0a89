// Load a quad of f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): logits or probabilities of four voxels that follow each other
// in a row, wherever the row starts. A word has two elements, the first in the low bits. Lanes past the end of the row repeat
// its last voxel.

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
fn halves_b0(first: u32, left: u32) -> vec2<u32> { return vec2<u32>(first); }
fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> { return vec4<f32>(); }
//# end

fn half_x0(element: u32) -> u32 {
    return (word_b0(element / 2u) >> ((element % 2u) * 16u)) & 0xffffu;
}

// Four elements, wherever they lie.
fn pick_x0(i: vec4<u32>) -> vec4<f32> {
    let words = vec2<u32>(half_x0(i.x) | (half_x0(i.y) << 16u), half_x0(i.z) | (half_x0(i.w) << 16u));
    return decode_quad_x0(words);
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    let quad = decode_quad_x0(halves_b0(first, left));
    let y = select(quad.x, quad.y, left > 1u);
    let z = select(y, quad.z, left > 2u);
    return vec4<f32>(quad.x, y, z, select(z, quad.w, left > 3u));
}
