// Store a quad of gradients as f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): four voxels that follow each other in a row,
// element by element, wherever the row starts. A word has two elements, the first in the low bits. Computed in f32, rounded
// once; lanes past the end of the row are not stored.
//
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.
// Two rows may share a word, whose halves two invocations then store.

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
fn set_half_b0(first: u32, shift: u32, half_bits: u32) {}
fn decode_x0(half: u32) -> f32 { return f32(half); }
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn encode_x0(value: f32) -> u32 { return u32(value); }
//# end

//# if accumulate
fn sum_x0(before: u32, value: f32) -> u32 {
    return select(encode_x0(decode_x0(before) + value), before, is_zero(vec4<f32>(value)).x);
}
//# end

fn store_one_x0(element: u32, value: f32) -> f32 {
    let shift = (element % 2u) * 16u;
    var half_bits = encode_x0(value);
    half_bits = sum_x0((word_b0(element / 2u) >> shift) & 0xffffu, value); //# if accumulate
    set_half_b0(element / 2u, shift, half_bits);
    return decode_x0(half_bits);
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    var stored = value;
    stored.x = store_one_x0(first, value.x);
    if left > 1u { stored.y = store_one_x0(first + 1u, value.y); }
    if left > 2u { stored.z = store_one_x0(first + 2u, value.z); }
    if left > 3u { stored.w = store_one_x0(first + 3u, value.w); }
    return !any(not_finite(stored));
}
