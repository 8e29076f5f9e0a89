// A range of a caller's buffer that slots read and write two words at a time, and read word by word.
//
// Words are counted from the start of the range; a pair begins at an even one. What is written ends with a pair, so that no
// two invocations write to one.
//
// bindings   BINDING_b0_w0  pairs_b0_w0  (words / 2)  read; read_write where the dispatch writes to the buffer. A range
//            larger than a storage binding comes in windows of 2^WINDOW_b0 words

//# stand-in
const BINDING_b0_w0 = 1u; const WINDOW_b0 = 31u; const w0 = 0u;
//# end

//# if read_write
@group(0) @binding(BINDING_b0_w0) var<storage, read_write> pairs_b0_w0: array<vec2<u32>>; //# each w
//# else
//#= @group(0) @binding(BINDING_b0_w0) var<storage, read> pairs_b0_w0: array<vec2<u32>>; //# each w
//# end

//# if reads_word
fn word_b0(first: u32) -> u32 {
    var word = 0u;
    //# if windows
    let at = (first & ((1u << WINDOW_b0) - 1u)) / 2u;
    switch first >> WINDOW_b0 {
        case w0: { word = pairs_b0_w0[at][first % 2u]; } //# each w
        default: {}
    }
    //# else
    word = pairs_b0_w0[first / 2u][first % 2u];
    //# end
    return word;
}
//# end

//# if reads_pair
fn pair_b0(first: u32) -> vec2<u32> {
    var pair = vec2<u32>();
    //# if windows
    let at = (first & ((1u << WINDOW_b0) - 1u)) / 2u;
    switch first >> WINDOW_b0 {
        case w0: { pair = pairs_b0_w0[at]; } //# each w
        default: {}
    }
    //# else
    pair = pairs_b0_w0[first / 2u];
    //# end
    return pair;
}
//# end

//# if reads_quad
fn quad_b0(first: u32) -> vec4<u32> {
    return vec4<u32>(pair_b0(first), pair_b0(first + 2u));
}
//# end

//# if writes_pair
fn set_pair_b0(first: u32, pair: vec2<u32>) {
    //# if windows
    let at = (first & ((1u << WINDOW_b0) - 1u)) / 2u;
    switch first >> WINDOW_b0 {
        case w0: { pairs_b0_w0[at] = pair; } //# each w
        default: {}
    }
    //# else
    pairs_b0_w0[first / 2u] = pair;
    //# end
}
//# end

//# if writes_quad
fn set_quad_b0(first: u32, quad: vec4<u32>) {
    set_pair_b0(first, quad.xy);
    set_pair_b0(first + 2u, quad.zw);
}
//# end
