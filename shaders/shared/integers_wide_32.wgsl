// Load a quad of integers of 32 bits: labels of four voxels that follow each other in a row, as four words at once. A
// negative i32 is read as a large u32, and so is out of range.
//
// For rows that start at a multiple of four labels and have a multiple of four voxels.

//# stand-in
fn quad_b0(first: u32) -> vec4<u32> { return vec4<u32>(first); }
//# end

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    return quad_b0(first);
}
