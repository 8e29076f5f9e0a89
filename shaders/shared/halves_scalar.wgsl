// Load a quad of f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): logits or probabilities of four voxels that follow each other
// in a row, element by element, wherever the row starts. Lanes past the end of the row repeat its last voxel.
//
// bindings   BINDING_x0_w0  tensor_y0_w0  (elements / 2)  read; two elements per word, the first in the low bits. A tensor
//            larger than a storage binding comes in windows of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
fn decode_x0(half: u32) -> f32 { return f32(half); }
//# end

//# if not in_place
//# each w
//# if read_write
//#= @group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_y0_w0: array<u32>;
//# else
@group(0) @binding(BINDING_x0_w0) var<storage, read> tensor_y0_w0: array<u32>;
//# end
fn word_y0_w0(at: u32) -> u32 { return tensor_y0_w0[at]; }
//# end
//# end

fn one_x0(element: u32) -> f32 {
    var word = 0u;
    //# if windows
    let at = (element & ((1u << WINDOW_x0) - 1u)) / 2u;
    switch element >> WINDOW_x0 {
        case w0: { word = word_y0_w0(at); } //# each w
        default: {}
    }
    //# else
    word = word_y0_w0(element / 2u);
    //# end
    return decode_x0((word >> ((element % 2u) * 16u)) & 0xffffu);
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    let i = vec4<u32>(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(left - 1u));
    return vec4<f32>(one_x0(i.x), one_x0(i.y), one_x0(i.z), one_x0(i.w));
}
