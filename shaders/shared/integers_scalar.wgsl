// Load a quad of integers: labels or a mask of four voxels that follow each other in a row, label by label, wherever the row
// starts.
//
// Labels of 8 and 16 bits lie packed in words, the first in the low bits; signed ones are extended to 32 bits by their sign.
// A negative label is read as a large u32, and so is out of range. Lanes past the end of the row repeat its last voxel, and
// are not counted.

const PER_WORD_x0 = 32u / BITS_x0;
const MASK_x0 = 0xffffffffu >> (32u - BITS_x0);
//# stand-in
const BITS_x0 = 8u;
fn word_b0(first: u32) -> u32 { return first; }
//# end

fn one_x0(element: u32) -> u32 {
    let word = word_b0(element / PER_WORD_x0);
    var label = (word >> ((element % PER_WORD_x0) * BITS_x0)) & MASK_x0;
    label = bitcast<u32>(bitcast<i32>(label << (32u - BITS_x0)) >> (32u - BITS_x0)); //# if signed
    return label;
}

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    let i = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u));
    return vec4<u32>(one_x0(i.x), one_x0(i.y), one_x0(i.z), one_x0(i.w));
}
