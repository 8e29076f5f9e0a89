// Small functions of a quad of voxels.

//# stand-in
const NOWHERE = 16777216.0;
//# end

const NONE = vec4<f32>();
const ONES = vec4<f32>(1.0);
// the least finite f32: below every logit but −∞
const LOWEST = vec4<f32>(-3.4028234e38);
const LANES = vec4<u32>(0u, 1u, 2u, 3u);

fn total(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

fn count(lanes: vec4<bool>) -> f32 {
    return total(select(NONE, ONES, lanes));
}

// The position of the first lane that is set, where lane 0 is at `position`; past every tile where none is set.
fn first_of(lanes: vec4<bool>, position: f32) -> f32 {
    let at = select(vec4<f32>(NOWHERE), vec4<f32>(position) + vec4<f32>(LANES), lanes);
    return min(min(at.x, at.y), min(at.z, at.w));
}

// ±0, by its bits: a fast-math compiler that rules out infinities may turn a selection by `x == 0` into a multiplication.
fn is_zero(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) == vec4<u32>();
}

// q x, and 0 where q is 0, even if x is infinite, as the difference of two logits may be.
fn weighed(q: vec4<f32>, x: vec4<f32>) -> vec4<f32> {
    return select(q * x, NONE, is_zero(q));
}

// ln(1 + e^−|x|), and σ(x), without overflow.
struct Logistic {
    softplus: vec4<f32>,
    sigmoid: vec4<f32>,
}

fn logistic(x: vec4<f32>) -> Logistic {
    let e = exp(-abs(x));
    return Logistic(log(1.0 + e), select(ONES, e, x < NONE) / (1.0 + e));
}

// x^y for x in [0, 1]: 0^0 is 1, and no power of 0 is infinite.
fn power(x: vec4<f32>, y: f32) -> vec4<f32> {
    return exp(y * log(max(x, vec4<f32>(1e-37))));
}

// e^x − 1, by its series where the difference would be mostly rounding error.
fn exp_less_1(x: vec4<f32>) -> vec4<f32> {
    let near = x * (1.0 + x * (1.0 / 2.0 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0))))));
    return select(exp(x) - 1.0, near, abs(x) < vec4<f32>(0.25));
}

// 1 − s, computed from ln s where s is so near 1 that the difference would be mostly rounding error.
fn complement(s: vec4<f32>, ln_s: vec4<f32>) -> vec4<f32> {
    return select(1.0 - s, -ln_s * (1.0 + 0.5 * ln_s), ln_s > vec4<f32>(-0.001));
}

// ±∞ or NaN, by its bits, which a fast-math compiler leaves alone.
fn not_finite(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
}

// Outside [0, 1] or NaN, by its bits, which a fast-math compiler leaves alone.
fn outside_unit(x: vec4<f32>) -> vec4<bool> {
    let bits = bitcast<vec4<u32>>(x);
    // −0 is a zero; every other number with bits above those of 1.0 is negative, above 1, or not finite
    return (bits > vec4<u32>(0x3f800000u)) & (bits != vec4<u32>(0x80000000u));
}
