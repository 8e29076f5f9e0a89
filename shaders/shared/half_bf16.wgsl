// bf16 in the low 16 bits of a word: to f32 exactly, and from f32 rounded once, to nearest, ties to even.

fn decode_x0(half: u32) -> f32 {
    return bitcast<f32>(half << 16u);
}

fn encode_x0(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return (bits >> 16u) | 0x40u;
    }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
