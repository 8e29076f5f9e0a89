// Store a quad of f32: gradients, or losses, of four voxels that follow each other in a row, one 16-byte store.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.
//
// bindings   BINDING_x0_w0  tensor_x0_w0  (elements / 4)  read_write; f32. A tensor larger than a storage binding
//            comes in windows of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
//# end

@group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_x0_w0: array<vec4<f32>>; //# each w

fn sum_x0(before: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
    return select(before + value, before, is_zero(value));
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    var stored = value;
    //# if windows
    let quad = (first & ((1u << WINDOW_x0) - 1u)) / 4u;
    switch first >> WINDOW_x0 {
        //# each w
        case w0: {
            stored = sum_x0(tensor_x0_w0[quad], value); //# if accumulate
            tensor_x0_w0[quad] = stored;
        }
        //# end
        default: {}
    }
    //# else
    stored = sum_x0(tensor_x0_w0[first / 4u], value); //# if accumulate
    tensor_x0_w0[first / 4u] = stored;
    //# end
    return !any(not_finite(stored));
}
