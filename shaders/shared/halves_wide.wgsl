// Load a quad of f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): logits or probabilities of four voxels that follow each other
// in a row, in one load of two words. Arithmetic is f32; no device feature is needed.
//
// For rows that start at a multiple of four elements and have a multiple of four voxels.
//
// bindings   BINDING_x0_w0  tensor_y0_w0  (elements / 4)  read; two elements per word, the first in the low bits. A tensor
//            larger than a storage binding comes in windows of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
fn decode_x0(half: u32) -> f32 { return f32(half); }
//# end

//# if not in_place
//# if read_write
//#= @group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_y0_w0: array<vec2<u32>>; //# each w
//# else
@group(0) @binding(BINDING_x0_w0) var<storage, read> tensor_y0_w0: array<vec2<u32>>; //# each w
//# end
//# end

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn load_x0(first: u32, left: u32) -> vec4<f32> {
    var words = vec2<u32>();
    //# if windows
    let quad = (first & ((1u << WINDOW_x0) - 1u)) / 4u;
    switch first >> WINDOW_x0 {
        case w0: { words = tensor_y0_w0[quad]; } //# each w
        default: {}
    }
    //# else
    words = tensor_y0_w0[first / 4u];
    //# end
    return vec4<f32>(
        decode_x0(words.x & 0xffffu),
        decode_x0(words.x >> 16u),
        decode_x0(words.y & 0xffffu),
        decode_x0(words.y >> 16u),
    );
}
