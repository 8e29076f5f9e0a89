// Fills a tensor with numbers that follow from their indices: the twin of testing/hashed.rs, bit for bit.
//
// One invocation writes one word. An index is hashed by 32-bit integers, and what is made of the hash is exact in the tensor's
// type, so that no driver's rounding shows. Elements past the end are `BEYOND`, as the bytes between tensors are.

const LOGITS: u32 = 0u;
const LABELS: u32 = 1u;
const PROBABILITIES: u32 = 2u;
const MASK: u32 = 3u;
const WEIGHT_MAP: u32 = 4u;
// without activation: probabilities, none near 0 or 1
const PLAIN_LOGITS: u32 = 5u;

const F32: u32 = 0u;
const F16: u32 = 1u;
const BF16: u32 = 2u;

const BEYOND: u32 = 0xa5a5a5a5u;

struct Fill {
    // of the window that is bound: its first word in the tensor, and how many
    first_word: u32,
    words: u32,
    kind: u32,
    // of an element
    bits: u32,
    float_type: u32,
    elements: u32,
    seed: u32,
    classes: u32,
    // one label in four is the ignore label, where there is one
    has_ignored: u32,
    ignored_low: u32,
    ignored_high: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> fill: Fill;
@group(0) @binding(1) var<storage, read_write> tensor: array<u32>;

fn hash(number: u32) -> u32 {
    var h = number;
    h ^= h >> 16u;
    h *= 0x7feb352du;
    h ^= h >> 15u;
    h *= 0x846ca68bu;
    return h ^ (h >> 16u);
}

// A number that has at most 8 significant bits where the type has 16 bits.
fn float_bits(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    switch fill.float_type {
        case F16: {
            let magnitude = bits & 0x7fffffffu;
            let sign = (bits >> 16u) & 0x8000u;
            return select(sign | ((magnitude - 0x38000000u) >> 13u), 0u, magnitude == 0u);
        }
        case BF16: { return bits >> 16u; }
        default: { return bits; }
    }
}

// The hash as a part of 1. By powers of two, which a product has exactly; WGSL lets a quotient be off.
fn part(h: u32) -> f32 {
    return select(f32(h >> 24u) * 0x1p-8, f32(h >> 8u) * 0x1p-24, fill.float_type == F32);
}

// The low word of an element, and the high word where it has one.
fn element(index: u32) -> vec2<u32> {
    let h = hash(index + fill.seed);
    switch fill.kind {
        case LOGITS: { return vec2<u32>(float_bits(part(h) * 8.0 - 4.0), 0u); }
        // one bit less, so that the sum is exact
        case PLAIN_LOGITS: { return vec2<u32>(float_bits(part(h & 0xfefffeffu) * 0.5 + 0.25), 0u); }
        case LABELS: {
            if fill.has_ignored != 0u && (h & 3u) == 0u { return vec2<u32>(fill.ignored_low, fill.ignored_high); }
            return vec2<u32>((h >> 2u) % fill.classes, 0u);
        }
        case PROBABILITIES: {
            let value = select(select(part(h), 0.0, (h & 7u) == 0u), 1.0, (h & 7u) == 1u);
            return vec2<u32>(float_bits(value), 0u);
        }
        case WEIGHT_MAP: { return vec2<u32>(float_bits(part(h) * 2.0), 0u); }
        default: { return vec2<u32>(select(0u, 1u, (h & 3u) != 0u), 0u); }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>) {
    let in_window = id.x + id.y * grid.x * 64u;
    if in_window >= fill.words { return; }
    let word = fill.first_word + in_window;
    if fill.bits == 64u {
        let both = element(word / 2u);
        tensor[in_window] = select(both.x, both.y, word % 2u == 1u);
        return;
    }
    let per_word = 32u / fill.bits;
    var all = BEYOND;
    for (var i = 0u; i < per_word; i++) {
        let index = word * per_word + i;
        if index >= fill.elements { break; }
        let ones = 0xffffffffu >> (32u - fill.bits);
        all = (all & ~(ones << (i * fill.bits))) | ((element(index).x & ones) << (i * fill.bits));
    }
    tensor[in_window] = all;
}
