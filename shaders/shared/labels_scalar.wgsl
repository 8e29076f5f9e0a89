// Load a quad of labels: four voxels that follow each other in a row, label by label, wherever the row starts.
//
// Labels of 8 and 16 bits lie packed in words, the first in the low bits; i32 labels are read as u32, so a negative label
// is a large one and out of range. Lanes past the end of the row repeat its last voxel, and count nowhere.
//
// bindings   LABELS_t0_w0  labels_t0_w0  (words)  read; u32. A tensor larger than a storage binding comes in windows of
//            2^WINDOW_t0 labels

const LABELS_t0_w0 = 1u;
const WINDOW_t0 = 31u;
const BITS_t0 = 8u;
const PER_WORD_t0 = 32u / BITS_t0;
const MASK_t0 = 0xffffffffu >> (32u - BITS_t0);
//# stand-in
const w0 = 0u;
//# end

//# each w
@group(0) @binding(LABELS_t0_w0) var<storage, read> labels_t0_w0: array<u32>;
//# end

fn label_t0(element: u32) -> u32 {
    var word = 0u;
    //# if not windows
    word = labels_t0_w0[element / PER_WORD_t0];
    //# end
    //# if windows
    let at = (element & ((1u << WINDOW_t0) - 1u)) / PER_WORD_t0;
    switch element >> WINDOW_t0 {
        //# each w
        case w0: { word = labels_t0_w0[at]; }
        //# end
        default: {}
    }
    //# end
    return (word >> ((element % PER_WORD_t0) * BITS_t0)) & MASK_t0;
}

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_labels_t0(first: u32, left: u32) -> vec4<u32> {
    let i = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u));
    return vec4<u32>(label_t0(i.x), label_t0(i.y), label_t0(i.z), label_t0(i.w));
}
