// A range of a caller's buffer in which 16-bit gradients share words: two invocations each store a half of one.
//
// Words are counted from the start of the range. Pairs and quads of them are in pairs_of_words.wgsl. A half is stored by
// clearing and setting its own bits, so the order in which the halves of a word are stored does not matter. All else in the
// range is read and written by atomics as well, since a word has one type.
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

// Stores the 16 bits at `shift` of a word.
fn set_half_b0(first: u32, shift: u32, half_bits: u32) {
    let others = ~(0xffffu << shift);
    //# if windows
    let at = first & ((1u << WINDOW_b0) - 1u);
    switch first >> WINDOW_b0 {
        //# each w
        case w0: {
            atomicAnd(&words_b0_w0[at], others);
            atomicOr(&words_b0_w0[at], half_bits << shift);
        }
        //# end
        default: {}
    }
    //# else
    atomicAnd(&words_b0_w0[first], others);
    atomicOr(&words_b0_w0[first], half_bits << shift);
    //# end
}
