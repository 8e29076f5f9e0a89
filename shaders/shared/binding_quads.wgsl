// A range of a caller's buffer that slots read and write four words at a time, and read in smaller parts.
//
// Words are counted from the start of the range; a quad begins at a multiple of four, a pair at an even one. What is written
// ends with a quad, so that no two invocations write to one.
//
// bindings   BINDING_b0_w0  quads_b0_w0  (words / 4)  read; read_write where the dispatch writes to the buffer. A range
//            larger than a storage binding comes in windows of 2^WINDOW_b0 words

//# stand-in
const BINDING_b0_w0 = 1u; const WINDOW_b0 = 31u; const w0 = 0u;
//# end

//# if read_write
@group(0) @binding(BINDING_b0_w0) var<storage, read_write> quads_b0_w0: array<vec4<u32>>; //# each w
//# else
//#= @group(0) @binding(BINDING_b0_w0) var<storage, read> quads_b0_w0: array<vec4<u32>>; //# each w
//# end

//# if reads_word
fn word_b0(first: u32) -> u32 {
    var word = 0u;
    //# if windows
    let at = (first & ((1u << WINDOW_b0) - 1u)) / 4u;
    switch first >> WINDOW_b0 {
        case w0: { word = quads_b0_w0[at][first % 4u]; } //# each w
        default: {}
    }
    //# else
    word = quads_b0_w0[first / 4u][first % 4u];
    //# end
    return word;
}
//# end

//# if reads_pair
fn pair_b0(first: u32) -> vec2<u32> {
    return vec2<u32>(word_b0(first), word_b0(first + 1u));
}
//# end

//# if reads_quad
fn quad_b0(first: u32) -> vec4<u32> {
    var quad = vec4<u32>();
    //# if windows
    let at = (first & ((1u << WINDOW_b0) - 1u)) / 4u;
    switch first >> WINDOW_b0 {
        case w0: { quad = quads_b0_w0[at]; } //# each w
        default: {}
    }
    //# else
    quad = quads_b0_w0[first / 4u];
    //# end
    return quad;
}
//# end

//# if writes_quad
fn set_quad_b0(first: u32, quad: vec4<u32>) {
    //# if windows
    let at = (first & ((1u << WINDOW_b0) - 1u)) / 4u;
    switch first >> WINDOW_b0 {
        case w0: { quads_b0_w0[at] = quad; } //# each w
        default: {}
    }
    //# else
    quads_b0_w0[first / 4u] = quad;
    //# end
}
//# end
