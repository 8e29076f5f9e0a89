// Load a quad of integers of 16 bits: labels of four voxels that follow each other in a row, as two words at once, the first
// in the low bits. Signed ones keep their sign in 32 bits.
//
// For rows that start at a multiple of four labels and have a multiple of four voxels.

//# stand-in
fn pair_b0(first: u32) -> vec2<u32> { return vec2<u32>(first); }
//# end

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    var labels = (pair_b0(first / 2u).xxyy >> vec4<u32>(0u, 16u, 0u, 16u)) & vec4<u32>(0xffffu);
    labels = bitcast<vec4<u32>>(bitcast<vec4<i32>>(labels << vec4<u32>(16u)) >> vec4<u32>(16u)); //# if signed
    return labels;
}
