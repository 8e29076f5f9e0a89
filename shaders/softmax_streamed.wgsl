// The softmax of quads whose classes stream past one by one: the peak so far, and the sums over the classes so far, relative to
// it. Where a class has a higher logit, the sums are rescaled, so one read of the logits is enough:
//
//   z ≤ peak:  S += e,       G += e g          z > peak:  S = S e + 1,  G = G e + g,  peak = z          with e = exp(−|z − peak|)
//
// One copy per group of heads with many classes, for statistics_streamed.wgsl and gradient_streamed.wgsl.

//# stand-in
const LOWEST = vec4<f32>(-3.4028234e38); const NONE = vec4<f32>(); const ONES = vec4<f32>(1.0);
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
//# end

struct Softmax_g0 {
    peak: vec4<f32>,
    // S = Σ exp(z − peak)
    sum: vec4<f32>,
    // G = Σ exp(z − peak) g
    weighed: vec4<f32>,
}

fn no_class_g0() -> Softmax_g0 {
    return Softmax_g0(LOWEST, NONE, NONE);
}

// Adds a class: its logits, and what weighs it in G.
fn with_class_g0(soft: Softmax_g0, z: vec4<f32>, g: vec4<f32>) -> Softmax_g0 {
    let is_higher = z > soft.peak;
    let e = exp(-abs(z - soft.peak));
    let scale = select(ONES, e, is_higher);
    let share = select(e, ONES, is_higher);
    return Softmax_g0(max(soft.peak, z), soft.sum * scale + share, soft.weighed * scale + share * g);
}

// S. A peak of +∞ or NaN makes it 0, and with it every share of the voxel NaN, as ∞ − ∞ is.
fn sum_g0(soft: Softmax_g0) -> vec4<f32> {
    return select(soft.sum, NONE, not_finite(soft.peak));
}
