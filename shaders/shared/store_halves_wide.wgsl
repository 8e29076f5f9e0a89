// Store a quad of gradients as f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): four voxels that follow each other in a row, in
// one store of two words. Computed in f32, rounded once.
//
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.
// For rows that start at a multiple of four elements and have a multiple of four voxels: no word is shared by two quads.
//
// bindings   BINDING_x0_w0  tensor_x0_w0  (elements / 4)  read_write; two elements per word, the first in the low bits. A
//            tensor larger than a storage binding comes in windows of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
fn decode_x0(half: u32) -> f32 { return f32(half); }
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn encode_x0(value: f32) -> u32 { return u32(value); }
//# end

@group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_x0_w0: array<vec2<u32>>; //# each w

fn quad_of_x0(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(
        decode_x0(words.x & 0xffffu),
        decode_x0(words.x >> 16u),
        decode_x0(words.y & 0xffffu),
        decode_x0(words.y >> 16u),
    );
}

fn words_of_x0(value: vec4<f32>) -> vec2<u32> {
    return vec2<u32>(
        encode_x0(value.x) | (encode_x0(value.y) << 16u),
        encode_x0(value.z) | (encode_x0(value.w) << 16u),
    );
}

fn sum_x0(before: vec2<u32>, value: vec4<f32>) -> vec2<u32> {
    let sum = words_of_x0(quad_of_x0(before) + value);
    // the bits that stay: those of the halves that 0 is added to
    let stays = select(vec4<u32>(), vec4<u32>(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), is_zero(value));
    let kept = stays.xz | stays.yw;
    return (sum & ~kept) | (before & kept);
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    var words = words_of_x0(value);
    //# if windows
    let quad = (first & ((1u << WINDOW_x0) - 1u)) / 4u;
    switch first >> WINDOW_x0 {
        //# each w
        case w0: {
            words = sum_x0(tensor_x0_w0[quad], value); //# if accumulate
            tensor_x0_w0[quad] = words;
        }
        //# end
        default: {}
    }
    //# else
    words = sum_x0(tensor_x0_w0[first / 4u], value); //# if accumulate
    tensor_x0_w0[first / 4u] = words;
    //# end
    return !any(not_finite(quad_of_x0(words)));
}
