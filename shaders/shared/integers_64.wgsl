// Load a quad of integers of 64 bits: labels of four voxels that follow each other in a row, label by label, wherever the row
// starts. A label has two words, the low one first. One that fits in an i32 is read as its low word; any other as the least
// i32, which is neither a class nor an ignore label. Lanes past the end of the row repeat its last voxel, and are not
// counted.

//# stand-in
fn pair_b0(first: u32) -> vec2<u32> { return vec2<u32>(first); }
//# end

fn one_x0(element: u32) -> u32 {
    let words = pair_b0(2u * element);
    let sign = bitcast<u32>(bitcast<i32>(words.x) >> 31u);
    return select(0x80000000u, words.x, words.y == sign);
}

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    let i = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u));
    return vec4<u32>(one_x0(i.x), one_x0(i.y), one_x0(i.z), one_x0(i.w));
}
