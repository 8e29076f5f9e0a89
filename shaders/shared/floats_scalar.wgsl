// Load a quad of f32: logits, probabilities or weights of four voxels that follow each other in a row, element by element,
// wherever the row starts. An element is a word.
//
// Lanes past the end of the row repeat its last voxel: they are finite where the row is, and no caller counts them.

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
//# end

fn one_x0(element: u32) -> f32 {
    return bitcast<f32>(word_b0(element));
}

// Four elements, wherever they lie.
fn pick_x0(i: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(one_x0(i.x), one_x0(i.y), one_x0(i.z), one_x0(i.w));
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    return pick_x0(vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u)));
}
