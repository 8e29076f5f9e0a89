// Store a quad of gradients as f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): four voxels that follow each other in a row,
// element by element, wherever the row starts. A word has two elements, the first in the low bits. Computed in f32, rounded
// once; lanes past the end of the row are not stored.
//
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.
// Two rows may share a word, whose halves two invocations then store.

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
fn set_half_b0(first: u32, shift: u32, half_bits: u32) {}
fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> { return vec4<f32>(); }
fn encode_quad_x0(value: vec4<f32>) -> vec2<u32> { return vec2<u32>(); }
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
//# end

//# if accumulate
fn stored_half_x0(element: u32) -> u32 {
    return (word_b0(element / 2u) >> ((element % 2u) * 16u)) & 0xffffu;
}
//# end

fn store_half_x0(element: u32, half_bits: u32) {
    set_half_b0(element / 2u, (element % 2u) * 16u, half_bits);
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    let inside = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(left);
    var words = encode_quad_x0(value);
    //# if accumulate
    let i = vec4<u32>(first) + select(vec4<u32>(), vec4<u32>(0u, 1u, 2u, 3u), inside);
    let halves = vec4<u32>(stored_half_x0(i.x), stored_half_x0(i.y), stored_half_x0(i.z), stored_half_x0(i.w));
    let before = halves.xz | (halves.yw << vec2<u32>(16u));
    let sum = encode_quad_x0(decode_quad_x0(before) + value);
    // the bits that stay: those of the halves that 0 is added to
    let stays = select(vec4<u32>(), vec4<u32>(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), is_zero(value));
    let kept = stays.xz | stays.yw;
    words = (sum & ~kept) | (before & kept);
    //# end
    store_half_x0(first, words.x & 0xffffu);
    if left > 1u { store_half_x0(first + 1u, words.x >> 16u); }
    if left > 2u { store_half_x0(first + 2u, words.y & 0xffffu); }
    if left > 3u { store_half_x0(first + 3u, words.y >> 16u); }
    return !any(not_finite(decode_quad_x0(words)) & inside);
}
