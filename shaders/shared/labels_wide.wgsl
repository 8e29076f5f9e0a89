// Load a quad of labels: four voxels that follow each other in a row, in one load of one, two or four words
// (quad_u8.wgsl, quad_u16.wgsl, quad_u32.wgsl).
//
// For rows that start at a multiple of four labels and have a multiple of four voxels.
//
// bindings   LABELS_t0_w0  labels_t0_w0  (labels / 4)  read. A tensor larger than a storage binding comes in windows of
//            2^WINDOW_t0 labels

const LABELS_t0_w0 = 1u;
const WINDOW_t0 = 31u;
//# stand-in
const w0 = 0u;
alias Quad_t0 = u32;
fn unpack_t0(quad: Quad_t0) -> vec4<u32> { return vec4<u32>(quad); }
//# end

//# each w
@group(0) @binding(LABELS_t0_w0) var<storage, read> labels_t0_w0: array<Quad_t0>;
//# end

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_labels_t0(first: u32, left: u32) -> vec4<u32> {
    var labels = vec4<u32>();
    //# if not windows
    labels = unpack_t0(labels_t0_w0[first / 4u]);
    //# end
    //# if windows
    let quad = (first & ((1u << WINDOW_t0) - 1u)) / 4u;
    switch first >> WINDOW_t0 {
        //# each w
        case w0: { labels = unpack_t0(labels_t0_w0[quad]); }
        //# end
        default: {}
    }
    //# end
    return labels;
}
