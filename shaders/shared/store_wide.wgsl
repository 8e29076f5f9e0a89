// Store a quad of f32: gradients, or losses, of four voxels that follow each other in a row, as four words at once.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.

//# stand-in
fn quad_b0(first: u32) -> vec4<u32> { return vec4<u32>(first); }
fn set_quad_b0(first: u32, quad: vec4<u32>) {}
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
//# end

//# if accumulate
fn sum_x0(before: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
    return select(before + value, before, is_zero(value));
}
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    var stored = value;
    stored = sum_x0(bitcast<vec4<f32>>(quad_b0(first)), value); //# if accumulate
    set_quad_b0(first, bitcast<vec4<u32>>(stored));
    return !any(not_finite(stored));
}
