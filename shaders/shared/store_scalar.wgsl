// Store a quad of f32: gradients, or losses, of four voxels that follow each other in a row, element by element, wherever
// the row starts. Lanes past the end of the row are not stored.
//
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.
//
// bindings   BINDING_x0_w0  tensor_x0_w0  (elements)  read_write; f32. A tensor larger than a storage binding comes
//            in windows of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
//# end

@group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_x0_w0: array<f32>; //# each w

fn sum_x0(before: f32, value: f32) -> f32 {
    return select(before + value, before, is_zero(vec4<f32>(value)).x);
}

fn store_one_x0(element: u32, value: f32) -> f32 {
    var stored = value;
    //# if windows
    let at = element & ((1u << WINDOW_x0) - 1u);
    switch element >> WINDOW_x0 {
        //# each w
        case w0: {
            stored = sum_x0(tensor_x0_w0[at], value); //# if accumulate
            tensor_x0_w0[at] = stored;
        }
        //# end
        default: {}
    }
    //# else
    stored = sum_x0(tensor_x0_w0[element], value); //# if accumulate
    tensor_x0_w0[element] = stored;
    //# end
    return stored;
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    var stored = value;
    stored.x = store_one_x0(first, value.x);
    if left > 1u { stored.y = store_one_x0(first + 1u, value.y); }
    if left > 2u { stored.z = store_one_x0(first + 2u, value.z); }
    if left > 3u { stored.w = store_one_x0(first + 3u, value.w); }
    return !any(not_finite(stored));
}
