// Store a quad of gradients as f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): four voxels that follow each other in a row, as
// two words at once. A word has two elements, the first in the low bits. Computed in f32, rounded once.
//
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.
// For rows that start at a multiple of four elements and have a multiple of four voxels: no word is shared by two quads.

//# stand-in
fn pair_b0(first: u32) -> vec2<u32> { return vec2<u32>(first); }
fn set_pair_b0(first: u32, pair: vec2<u32>) {}
fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> { return vec4<f32>(); }
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn encode_quad_x0(value: vec4<f32>) -> vec2<u32> { return vec2<u32>(); }
//# end

//# if accumulate
fn sum_x0(before: vec2<u32>, value: vec4<f32>) -> vec2<u32> {
    let sum = encode_quad_x0(decode_quad_x0(before) + value);
    // the bits that stay: those of the halves that 0 is added to
    let stays = select(vec4<u32>(), vec4<u32>(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), is_zero(value));
    let kept = stays.xz | stays.yw;
    return (sum & ~kept) | (before & kept);
}
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    var words = encode_quad_x0(value);
    words = sum_x0(pair_b0(first / 2u), value); //# if accumulate
    set_pair_b0(first / 2u, words);
    return !any(not_finite(decode_quad_x0(words)));
}
