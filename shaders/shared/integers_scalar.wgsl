// Load a quad of integers: labels or a mask of four voxels that follow each other in a row, label by label, wherever the row
// starts.
//
// Labels of 8 and 16 bits lie packed in words, the first in the low bits; signed ones are extended to 32 bits by their sign.
// A negative label is read as a large u32, and so is out of range. Lanes past the end of the row repeat its last voxel, and
// are not counted.
//
// bindings   BINDING_x0_w0  tensor_y0_w0  (words)  read; u32. A tensor larger than a storage binding comes in windows of
//            2^WINDOW_x0 labels

const PER_WORD_x0 = 32u / BITS_x0;
const MASK_x0 = 0xffffffffu >> (32u - BITS_x0);
//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const BITS_x0 = 8u; const w0 = 0u;
//# end

//# if read_write
//#= @group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_y0_w0: array<u32>; //# each w
//# else
@group(0) @binding(BINDING_x0_w0) var<storage, read> tensor_y0_w0: array<u32>; //# each w
//# end

fn one_x0(element: u32) -> u32 {
    var word = 0u;
    //# if windows
    let at = (element & ((1u << WINDOW_x0) - 1u)) / PER_WORD_x0;
    switch element >> WINDOW_x0 {
        case w0: { word = tensor_y0_w0[at]; } //# each w
        default: {}
    }
    //# else
    word = tensor_y0_w0[element / PER_WORD_x0];
    //# end
    var label = (word >> ((element % PER_WORD_x0) * BITS_x0)) & MASK_x0;
    label = bitcast<u32>(bitcast<i32>(label << (32u - BITS_x0)) >> (32u - BITS_x0)); //# if signed
    return label;
}

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    let i = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u));
    return vec4<u32>(one_x0(i.x), one_x0(i.y), one_x0(i.z), one_x0(i.w));
}
