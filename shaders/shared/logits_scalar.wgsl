// Load a quad of logits: four voxels that follow each other in a row, element by element, wherever the row starts.
//
// Lanes past the end of the row repeat its last voxel: what they hold is finite whenever the row is, and counts nowhere.
//
// bindings   LOGITS_s0_w0  logits_s0_w0  (elements)  read; f32. A tensor larger than a storage binding comes in windows
//            of 2^WINDOW_s0 elements

const LOGITS_s0_w0 = 1u;
const WINDOW_s0 = 31u;
//# stand-in
const w0 = 0u;
//# end

//# each w
@group(0) @binding(LOGITS_s0_w0) var<storage, read> logits_s0_w0: array<f32>;
//# end

fn logit_s0(element: u32) -> f32 {
    var logit = 0.0;
    //# if not windows
    logit = logits_s0_w0[element];
    //# end
    //# if windows
    switch element >> WINDOW_s0 {
        //# each w
        case w0: { logit = logits_s0_w0[element & ((1u << WINDOW_s0) - 1u)]; }
        //# end
        default: {}
    }
    //# end
    return logit;
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_logits_s0(first: u32, left: u32) -> vec4<f32> {
    let i = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u));
    return vec4<f32>(logit_s0(i.x), logit_s0(i.y), logit_s0(i.z), logit_s0(i.w));
}
