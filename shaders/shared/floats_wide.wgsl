// Load a quad of f32: logits, probabilities or weights of four voxels that follow each other in a row, one 16-byte load.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.
//
// bindings   BINDING_x0_w0  tensor_y0_w0  (elements / 4)  read; f32. A tensor larger than a storage binding comes in
//            windows of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
//# end

//# if not in_place
//# if read_write
//#= @group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_y0_w0: array<vec4<f32>>; //# each w
//# else
@group(0) @binding(BINDING_x0_w0) var<storage, read> tensor_y0_w0: array<vec4<f32>>; //# each w
//# end
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    var quad_values = vec4<f32>();
    //# if windows
    let quad = (first & ((1u << WINDOW_x0) - 1u)) / 4u;
    switch first >> WINDOW_x0 {
        case w0: { quad_values = tensor_y0_w0[quad]; } //# each w
        default: {}
    }
    //# else
    quad_values = tensor_y0_w0[first / 4u];
    //# end
    return quad_values;
}
