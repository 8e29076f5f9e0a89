// Load a quad of f32: logits, probabilities or weights of four voxels that follow each other in a row, element by element,
// wherever the row starts.
//
// Lanes past the end of the row repeat its last voxel: they are finite where the row is, and no caller counts them.
//
// bindings   BINDING_x0_w0  tensor_y0_w0  (elements)  read; f32. A tensor larger than a storage binding comes in windows
//            of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
//# end

//# if not in_place
//# if read_write
//#= @group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_y0_w0: array<f32>; //# each w
//# else
@group(0) @binding(BINDING_x0_w0) var<storage, read> tensor_y0_w0: array<f32>; //# each w
//# end
//# end

fn one_x0(element: u32) -> f32 {
    var value = 0.0;
    //# if windows
    switch element >> WINDOW_x0 {
        case w0: { value = tensor_y0_w0[element & ((1u << WINDOW_x0) - 1u)]; } //# each w
        default: {}
    }
    //# else
    value = tensor_y0_w0[element];
    //# end
    return value;
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    let i = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u));
    return vec4<f32>(one_x0(i.x), one_x0(i.y), one_x0(i.z), one_x0(i.w));
}
