// Load a quad of integers: labels or a mask of four voxels that follow each other in a row, in one load of one, two, four or
// eight words (quad_8.wgsl, quad_16.wgsl, quad_32.wgsl, quad_64.wgsl).
//
// For rows that start at a multiple of four labels and have a multiple of four voxels.
//
// bindings   BINDING_x0_w0  tensor_y0_w0  (labels / 4)  read. A tensor larger than a storage binding comes in windows of
//            2^WINDOW_x0 labels

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
alias Quad_x0 = u32;
fn unpack_x0(quad: Quad_x0) -> vec4<u32> { return vec4<u32>(quad); }
//# end

//# if read_write
//#= @group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_y0_w0: array<Quad_x0>; //# each w
//# else
@group(0) @binding(BINDING_x0_w0) var<storage, read> tensor_y0_w0: array<Quad_x0>; //# each w
//# end

// first: the label of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<u32> {
    var labels = vec4<u32>();
    //# if windows
    let quad = (first & ((1u << WINDOW_x0) - 1u)) / 4u;
    switch first >> WINDOW_x0 {
        case w0: { labels = unpack_x0(tensor_y0_w0[quad]); } //# each w
        default: {}
    }
    //# else
    labels = unpack_x0(tensor_y0_w0[first / 4u]);
    //# end
    return labels;
}
