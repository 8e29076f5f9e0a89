// Load a quad of f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): logits or probabilities of four voxels that follow each other
// in a row, as two words at once. A word has two elements, the first in the low bits. Arithmetic is f32; no device feature is
// needed.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.

//# stand-in
fn pair_b0(first: u32) -> vec2<u32> { return vec2<u32>(first); }
fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> { return vec4<f32>(); }
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    return decode_quad_x0(pair_b0(first / 2u));
}
