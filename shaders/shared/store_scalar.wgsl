// Store a quad of f32: gradients, or losses, of four voxels that follow each other in a row, element by element, wherever
// the row starts. An element is a word. Lanes past the end of the row are not stored.
//
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
fn set_word_b0(first: u32, word: u32) {}
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
//# end

//# if accumulate
fn sum_x0(before: f32, value: f32) -> f32 {
    return select(before + value, before, is_zero(vec4<f32>(value)).x);
}
//# end

fn store_one_x0(element: u32, value: f32) -> f32 {
    var stored = value;
    stored = sum_x0(bitcast<f32>(word_b0(element)), value); //# if accumulate
    set_word_b0(element, bitcast<u32>(stored));
    return stored;
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
