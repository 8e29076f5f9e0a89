// Load a quad of logits: four voxels that follow each other in a row, one 16-byte load.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.
//
// bindings   LOGITS_s0_w0  logits_s0_w0  (elements / 4)  read; f32. A tensor larger than a storage binding comes in
//            windows of 2^WINDOW_s0 elements

const LOGITS_s0_w0 = 1u;
const WINDOW_s0 = 31u;
//# stand-in
const w0 = 0u;
//# end

//# each w
@group(0) @binding(LOGITS_s0_w0) var<storage, read> logits_s0_w0: array<vec4<f32>>;
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_logits_s0(first: u32, left: u32) -> vec4<f32> {
    var logits = vec4<f32>();
    //# if not windows
    logits = logits_s0_w0[first / 4u];
    //# end
    //# if windows
    let quad = (first & ((1u << WINDOW_s0) - 1u)) / 4u;
    switch first >> WINDOW_s0 {
        //# each w
        case w0: { logits = logits_s0_w0[quad]; }
        //# end
        default: {}
    }
    //# end
    return logits;
}
