// Load a quad of integers of 64 bits: labels of four voxels that follow each other in a row, as eight words, the low word of
// each first. One that fits in an i32 is read as its low word; any other as the least i32, which is neither a class nor an
// ignore label.
//
// For rows that start at a multiple of four labels and have a multiple of four voxels.

//# stand-in
fn quad_b0(first: u32) -> vec4<u32> { return vec4<u32>(first); }
//# end

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    let one = quad_b0(2u * first);
    let other = quad_b0(2u * first + 4u);
    let low = vec4<u32>(one.xz, other.xz);
    let high = vec4<u32>(one.yw, other.yw);
    let sign = bitcast<vec4<u32>>(bitcast<vec4<i32>>(low) >> vec4<u32>(31u));
    return select(vec4<u32>(0x80000000u), low, high == sign);
}
