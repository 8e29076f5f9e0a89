// Load a quad of f32: logits, probabilities or weights of four voxels that follow each other in a row, as four words at once.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.

//# stand-in
fn quad_b0(first: u32) -> vec4<u32> { return vec4<u32>(first); }
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(quad_b0(first));
}
