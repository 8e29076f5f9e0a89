// Store a quad of gradients as f16 or bf16 (half_f16.wgsl, half_bf16.wgsl): four voxels that follow each other in a row, wherever
// the row starts. A word has two elements, the first in the low bits. Computed in f32, rounded once; lanes past the end of the row
// are not stored.
//
// Four elements lie in two words, or in three: those in between are stored whole, and of the first and the last a half, where its
// other half is another quad's.
// Accumulating adds to what is there; a 0 leaves it bit for bit. Returns whether all stored values are finite, by their bits.

//# stand-in
fn halves_b0(first: u32, left: u32) -> vec2<u32> { return vec2<u32>(first); }
fn set_word_b0(first: u32, word: u32) {}
fn set_half_b0(first: u32, half_mask: u32, word: u32) {}
fn decode_quad_x0(words: vec2<u32>) -> vec4<f32> { return vec4<f32>(); }
fn encode_quad_x0(value: vec4<f32>) -> vec2<u32> { return vec2<u32>(); }
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
//# end

// Stores those halves of a word whose elements are from `first` to `last`.
fn store_word_x0(at: u32, first: u32, last: u32, word: u32) {
    let low = 2u * at >= first && 2u * at <= last;
    let high = 2u * at + 1u >= first && 2u * at + 1u <= last;
    if low && high {
        set_word_b0(at, word);
    } else if low || high {
        set_half_b0(at, select(0xffff0000u, 0xffffu, low), word);
    }
}

// first: the element of the quad's first voxel; left: voxels from there to the end of the row
fn store_x0(first: u32, left: u32, value: vec4<f32>) -> bool {
    let inside = vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(left);
    let last = first + min(left, 4u) - 1u;
    var words = encode_quad_x0(value);
    //# if accumulate
    let before = halves_b0(first, left);
    let sum = encode_quad_x0(decode_quad_x0(before) + value);
    // the bits that stay: those of the halves that 0 is added to
    let stays = select(vec4<u32>(), vec4<u32>(0xffffu, 0xffff0000u, 0xffffu, 0xffff0000u), is_zero(value));
    let kept = stays.xz | stays.yw;
    words = (sum & ~kept) | (before & kept);
    //# end
    let even = vec3<u32>(words, 0u);
    let odd = vec3<u32>(words.x << 16u, (words.x >> 16u) | (words.y << 16u), words.y >> 16u);
    let three = select(even, odd, vec3<bool>(first % 2u == 1u));
    store_word_x0(first / 2u, first, last, three.x);
    store_word_x0(first / 2u + 1u, first, last, three.y);
    store_word_x0(first / 2u + 2u, first, last, three.z);
    return !any(not_finite(decode_quad_x0(words)) & inside);
}
