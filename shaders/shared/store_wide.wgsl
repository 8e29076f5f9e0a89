// Store a quad of gradients: four voxels that follow each other in a row, one 16-byte store.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.
//
// bindings   BINDING_x0_w0  tensor_x0_w0  (elements / 4)  read_write; f32. A tensor larger than a storage binding
//            comes in windows of 2^WINDOW_x0 elements

const BINDING_x0_w0 = 1u;
const WINDOW_x0 = 31u;
//# stand-in
const w0 = 0u;
//# end

//# each w
@group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_x0_w0: array<vec4<f32>>;
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) {
    //# if not windows
    tensor_x0_w0[first / 4u] = value;
    //# end
    //# if windows
    let quad = (first & ((1u << WINDOW_x0) - 1u)) / 4u;
    switch first >> WINDOW_x0 {
        //# each w
        case w0: { tensor_x0_w0[quad] = value; }
        //# end
        default: {}
    }
    //# end
}
