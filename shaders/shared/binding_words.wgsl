// A range of a caller's buffer that slots read and write word by word: their tensors begin anywhere.
//
// Words are counted from the start of the range. Pairs and quads of them are in pairs_of_words.wgsl.
//
// bindings   BINDING_b0_w0  words_b0_w0  (words)  read; read_write where the dispatch writes to the buffer. A range larger
//            than a storage binding comes in windows of 2^WINDOW_b0 words

//# stand-in
const BINDING_b0_w0 = 1u; const WINDOW_b0 = 31u; const w0 = 0u;
//# end

//# if read_write
@group(0) @binding(BINDING_b0_w0) var<storage, read_write> words_b0_w0: array<u32>; //# each w
//# else
//#= @group(0) @binding(BINDING_b0_w0) var<storage, read> words_b0_w0: array<u32>; //# each w
//# end

//# if reads_word
fn word_b0(first: u32) -> u32 {
    var word = 0u;
    //# if windows
    let at = first & ((1u << WINDOW_b0) - 1u);
    switch first >> WINDOW_b0 {
        case w0: { word = words_b0_w0[at]; } //# each w
        default: {}
    }
    //# else
    word = words_b0_w0[first];
    //# end
    return word;
}
//# end

//# if writes_word
fn set_word_b0(first: u32, word: u32) {
    //# if windows
    let at = first & ((1u << WINDOW_b0) - 1u);
    switch first >> WINDOW_b0 {
        case w0: { words_b0_w0[at] = word; } //# each w
        default: {}
    }
    //# else
    words_b0_w0[first] = word;
    //# end
}
//# end
