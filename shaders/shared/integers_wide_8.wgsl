// Load a quad of integers of 8 bits: labels or a mask of four voxels that follow each other in a row, as one word, the first
// in the low bits. Signed ones keep their sign in 32 bits.
//
// For rows that start at a multiple of four labels and have a multiple of four voxels.

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
//# end

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    var labels = (vec4<u32>(word_b0(first / 4u)) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
    labels = bitcast<vec4<u32>>(bitcast<vec4<i32>>(labels << vec4<u32>(24u)) >> vec4<u32>(24u)); //# if signed
    return labels;
}
