// The terms of a loss at one class of a quad of voxels: values for the statistics, slopes for the gradient.
//
// One copy per group of heads, shared by the kernels for few and for many classes. All inputs are of one class c:
//   z logits,  d = z − peak,  s = softmax,  p activated,  t target (0 where a voxel does not count),
//   on, off: the class's two parameters (class weight; pos_weight; focal's factors of positives and negatives), 1 where a
//   head has none; in the slopes they come multiplied by κ and the upstream gradient.
//
// Pixel terms, with t' = on_target t + off_target the smoothed target:
//   cross-entropy         q = on t',  ℓ = Σ_c q (ln S − d)                      dz = s Σ_j q_j − q
//   poly-1 cross-entropy  ℓ = Σ_c q (ε (1 − s) − ln s)                          dz = u − s Σ_j u_j,  u = −q (1 + ε s)
//   generalized           ℓ = Σ_c q (1 − s^b)/b                                 dz = u − s Σ_j u_j,  u = −q s^b
//   binary cross-entropy  ℓ = on t' ln(1 + e^−z) + (1 − t') ln(1 + e^z)         dz = (1 − t') − (1 + (on − 1) t') σ(−z)
//   focal, softmax        ℓ = −on (1 − s)^γ ln s · t                            dz = u − s Σ_j u_j
//                         u = on t (γ s (1 − s)^(γ−1) ln s − (1 − s)^γ)
//   focal, sigmoid        ℓ = A M B,  v = −z (2t − 1),  M = σ(v)^γ,  B = BCE(z, t)
//                         dz = A (M (σ(z) − t) − γ σ(−v) (2t − 1) M B)
//                         A = on t + off (1 − t);  for a list of α: on where t = 1, else off
// The terms with u bend the logarithm of the softmax: `bend` is ε, b or γ, which may differ per class.

//# stand-in
struct Head { on_target: f32, off_target: f32, bend: f32, bends: u32 }
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
const NONE = vec4<f32>(); const ONES = vec4<f32>(1.0);
struct Logistic { softplus: vec4<f32>, sigmoid: vec4<f32> }
fn logistic(x: vec4<f32>) -> Logistic { return Logistic(x, x); }
fn power(x: vec4<f32>, y: f32) -> vec4<f32> { return x * y; }
fn weighed(q: vec4<f32>, x: vec4<f32>) -> vec4<f32> { return q * x; }
fn complement(s: vec4<f32>, ln_s: vec4<f32>) -> vec4<f32> { return s - ln_s; }
fn exp_less_1(x: vec4<f32>) -> vec4<f32> { return x; }
//# end

fn activate_g0(z: vec4<f32>, s: vec4<f32>) -> vec4<f32> {
    var p = s;
    p = logistic(z).sigmoid; //# if sigmoid
    p = z; //# if identity
    return p;
}

// what I sums
fn product_g0(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> {
    var product = p * t;
    product = min(p, t); //# if minimum
    return product;
}

// what P and T sum
fn measure_g0(x: vec4<f32>) -> vec4<f32> {
    var measure = x;
    measure = x * x; //# if squared
    return measure;
}

// Whether a voxel is predicted as this class: with a softmax where this is the first class with the largest logit
// (`largest`), else where p > 1/2, which z decides.
fn predicted_g0(z: vec4<f32>, largest: vec4<bool>) -> vec4<bool> {
    var predicted = largest;
    predicted = z > NONE; //# if sigmoid
    predicted = z > vec4<f32>(0.5); //# if identity
    return predicted;
}

// ∂total/∂p of the overlap term, with a = ∂total/∂I and b = ∂total/∂P
fn overlap_slope_g0(p: vec4<f32>, t: vec4<f32>, a: f32, b: f32) -> vec4<f32> {
    var slope = a * t + b;
    slope = a * t + 2.0 * b * p; //# if squared
    slope = select(NONE, vec4<f32>(a), p < t) + b; //# if minimum
    return slope;
}

// q of cross-entropy
fn soft_label_g0(head: Head, t: vec4<f32>, on: f32) -> vec4<f32> {
    var q = on * t;
    q = on * (head.on_target * t + head.off_target); //# if smoothing
    //# if labels
    // t is 0 or 1, so q is one of two numbers, which the compiler takes out of the loop over voxels
    q = select(NONE, vec4<f32>(on), t != NONE);
    //# if smoothing
    q = select(vec4<f32>(on * head.off_target), vec4<f32>(on * (head.on_target + head.off_target)), t != NONE);
    //# end
    //# end
    return q;
}

fn focal_factor_g0(t: vec4<f32>, on: f32, off: f32) -> vec4<f32> {
    var factor = off + (on - off) * t;
    factor = select(vec4<f32>(off), vec4<f32>(on), t == ONES); //# if alpha_list
    return factor;
}

// γ of the class, or the other terms' one number
fn bend_g0(head: Head, class_index: u32) -> f32 {
    var bend = head.bend;
    bend = coefficients[head.bends + class_index]; //# if bends
    return bend;
}

// ℓ of the terms that depend on the logit of their class alone
fn binary_g0(head: Head, class_index: u32, z: vec4<f32>, t: vec4<f32>, on: f32, off: f32) -> vec4<f32> {
    let l = logistic(z);
    var loss = NONE;
    //# if binary_cross_entropy
    let smoothed = head.on_target * t + head.off_target;
    // no term is negative: nothing cancels, in whatever order a compiler adds
    loss = on * smoothed * (l.softplus + max(-z, NONE)) + (1.0 - smoothed) * (l.softplus + max(z, NONE));
    //# end
    //# if focal_sigmoid
    let gamma = bend_g0(head, class_index);
    let v = -z * (2.0 * t - 1.0);
    let ln_sigmoid = min(v, NONE) - logistic(v).softplus;
    let bce = max(z, NONE) - z * t + l.softplus;
    loss = focal_factor_g0(t, on, off) * exp(gamma * ln_sigmoid) * bce;
    //# end
    return loss;
}

// its slope times κ: on and off already include κ
fn binary_slope_g0(head: Head, class_index: u32, z: vec4<f32>, t: vec4<f32>, on: f32, off: f32) -> vec4<f32> {
    let l = logistic(z);
    var slope = NONE;
    //# if binary_cross_entropy
    let smoothed = head.on_target * t + head.off_target;
    slope = off * (1.0 - smoothed) - (off + (on - off) * smoothed) * logistic(-z).sigmoid;
    //# end
    //# if focal_sigmoid
    let gamma = bend_g0(head, class_index);
    let sign = 2.0 * t - 1.0;
    let v = -z * sign;
    let ln_sigmoid = min(v, NONE) - logistic(v).softplus;
    let bce = max(z, NONE) - z * t + l.softplus;
    let turn = l.sigmoid - t - gamma * logistic(-v).sigmoid * sign * bce;
    slope = focal_factor_g0(t, on, off) * exp(gamma * ln_sigmoid) * turn;
    //# end
    return slope;
}

// ℓ of one class, of a term that bends the logarithm of its softmax s
fn bent_g0(head: Head, class_index: u32, s: vec4<f32>, ln_s: vec4<f32>, t: vec4<f32>, on: f32) -> vec4<f32> {
    let bend = bend_g0(head, class_index);
    var loss = NONE;
    loss = weighed(soft_label_g0(head, t, on), -ln_s - bend * exp_less_1(ln_s)); //# if poly
    loss = soft_label_g0(head, t, on) * (-exp_less_1(bend * ln_s) / bend); //# if generalized
    loss = -on * power(complement(s, ln_s), bend) * weighed(t, ln_s); //# if focal_softmax
    return loss;
}

// u of its slope
fn bent_slope_g0(head: Head, class_index: u32, s: vec4<f32>, ln_s: vec4<f32>, t: vec4<f32>, on: f32) -> vec4<f32> {
    let bend = bend_g0(head, class_index);
    var u = NONE;
    u = -soft_label_g0(head, t, on) * (1.0 + bend * s); //# if poly
    u = -soft_label_g0(head, t, on) * exp(bend * ln_s); //# if generalized
    //# if focal_softmax
    let rest = complement(s, ln_s);
    u = on * t * (bend * power(rest, bend - 1.0) * weighed(s, ln_s) - power(rest, bend));
    //# end
    return u;
}
