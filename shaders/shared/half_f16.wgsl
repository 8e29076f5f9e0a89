// f16 in the low 16 bits of a word: to f32 exactly, and from f32 rounded once, to nearest, ties to even.
//
// Written out, since `pack2x16float` may round either way; it needs no device feature.

fn decode_x0(half: u32) -> f32 {
    return unpack2x16float(half).x;
}

fn encode_x0(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if size > 0x7f800000u {
        return sign | 0x7e00u;
    }
    // from 2^16 on everything is infinite; just below, rounding carries into the exponent by itself
    if size >= 0x47800000u {
        return sign | 0x7c00u;
    }
    // below 2^−14 the steps are 2^−24 wide
    if size < 0x38800000u {
        return sign | u32(round(abs(value) * 16777216.0));
    }
    return sign | ((size + 0xfffu + ((size >> 13u) & 1u) - 0x38000000u) >> 13u);
}
