// A range of a caller's buffer in which 16-bit gradients share words: two invocations each store a half of one.
//
// Words are counted from the start of the range. Pairs and quads of them are in pairs_of_words.wgsl. A half is stored by turning
// over those of its own bits that differ, which nobody else touches, so the order in which the halves of a word are stored does
// not matter. All else in the range is read and written by atomics as well, since a word has one type.
//
// bindings   BINDING_b0_w0  words_b0_w0  (words)  read_write, atomic. A range larger than a storage binding comes in windows
//            of 2^WINDOW_b0 words

//# stand-in
const BINDING_b0_w0 = 1u; const WINDOW_b0 = 31u; const w0 = 0u;
//# end

@group(0) @binding(BINDING_b0_w0) var<storage, read_write> words_b0_w0: array<atomic<u32>>; //# each w

//# if reads_word
fn word_b0(first: u32) -> u32 {
    var word = 0u;
    //# if windows
    let at = first & ((1u << WINDOW_b0) - 1u);
    switch first >> WINDOW_b0 {
        case w0: { word = atomicLoad(&words_b0_w0[at]); } //# each w
        default: {}
    }
    //# else
    word = atomicLoad(&words_b0_w0[first]);
    //# end
    return word;
}
//# end

//# if writes_word
fn set_word_b0(first: u32, word: u32) {
    //# if windows
    let at = first & ((1u << WINDOW_b0) - 1u);
    switch first >> WINDOW_b0 {
        case w0: { atomicStore(&words_b0_w0[at], word); } //# each w
        default: {}
    }
    //# else
    atomicStore(&words_b0_w0[first], word);
    //# end
}
//# end

// Stores one half of a word: the bits of `half_mask`.
fn set_half_b0(first: u32, half_mask: u32, word: u32) {
    //# if windows
    let at = first & ((1u << WINDOW_b0) - 1u);
    switch first >> WINDOW_b0 {
        case w0: { atomicXor(&words_b0_w0[at], (atomicLoad(&words_b0_w0[at]) ^ word) & half_mask); } //# each w
        default: {}
    }
    //# else
    atomicXor(&words_b0_w0[first], (atomicLoad(&words_b0_w0[first]) ^ word) & half_mask);
    //# end
}
