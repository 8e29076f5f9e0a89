// Store a quad of gradients as f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): four voxels that follow each other in a row,
// element by element, wherever the row starts. Computed in f32, rounded once; lanes past the end of the row are not stored.
//
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.
// Two rows may share a word, whose halves two invocations then store: each clears and sets its own bits, so their order does
// not matter.
//
// bindings   BINDING_x0_w0  tensor_x0_w0  (elements / 2)  read_write, atomic; two elements per word, the first in the low
//            bits. A tensor larger than a storage binding comes in windows of 2^WINDOW_x0 elements

//# stand-in
const BINDING_x0_w0 = 1u; const WINDOW_x0 = 31u; const w0 = 0u;
fn decode_x0(half: u32) -> f32 { return f32(half); }
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn encode_x0(value: f32) -> u32 { return u32(value); }
//# end

//# each w
@group(0) @binding(BINDING_x0_w0) var<storage, read_write> tensor_x0_w0: array<atomic<u32>>;
fn word_x0_w0(at: u32) -> u32 { return atomicLoad(&tensor_x0_w0[at]); }
//# end

fn sum_x0(before: u32, value: f32) -> u32 {
    return select(encode_x0(decode_x0(before) + value), before, is_zero(vec4<f32>(value)).x);
}

fn store_one_x0(element: u32, value: f32) -> f32 {
    let shift = (element % 2u) * 16u;
    let others = ~(0xffffu << shift);
    var half_bits = encode_x0(value);
    //# if windows
    let at = (element & ((1u << WINDOW_x0) - 1u)) / 2u;
    switch element >> WINDOW_x0 {
        //# each w
        case w0: {
            half_bits = sum_x0((word_x0_w0(at) >> shift) & 0xffffu, value); //# if accumulate
            atomicAnd(&tensor_x0_w0[at], others);
            atomicOr(&tensor_x0_w0[at], half_bits << shift);
        }
        //# end
        default: {}
    }
    //# else
    half_bits = sum_x0((word_x0_w0(element / 2u) >> shift) & 0xffffu, value); //# if accumulate
    atomicAnd(&tensor_x0_w0[element / 2u], others);
    atomicOr(&tensor_x0_w0[element / 2u], half_bits << shift);
    //# end
    return decode_x0(half_bits);
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
