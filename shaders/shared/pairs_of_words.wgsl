// Two and four words of a range that is read and written word by word (binding_words.wgsl, binding_atomics.wgsl).

//# stand-in
fn word_b0(first: u32) -> u32 { return first; }
fn set_word_b0(first: u32, word: u32) {}
//# end

//# if reads_pair
fn pair_b0(first: u32) -> vec2<u32> {
    return vec2<u32>(word_b0(first), word_b0(first + 1u));
}
//# end

//# if reads_quad
fn quad_b0(first: u32) -> vec4<u32> {
    return vec4<u32>(word_b0(first), word_b0(first + 1u), word_b0(first + 2u), word_b0(first + 3u));
}
//# end

//# if writes_pair
fn set_pair_b0(first: u32, pair: vec2<u32>) {
    set_word_b0(first, pair.x);
    set_word_b0(first + 1u, pair.y);
}
//# end

//# if writes_quad
fn set_quad_b0(first: u32, quad: vec4<u32>) {
    set_pair_b0(first, quad.xy);
    set_pair_b0(first + 2u, quad.zw);
}
//# end
