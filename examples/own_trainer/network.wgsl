// A network of two layers, forward and backward: a convolution of 3 × 3 with padding and a ReLU, then one of 1 × 1.
//
//   hidden[n, h, x] = max(0, b1[h] + Σ_k w1[h, k] image[n, x + k])
//   logits[n, c, x] = b2[c] + Σ_h w2[c, h] hidden[n, h, x]
//
// The parameters lie in one buffer: w1, b1, w2, b2.

override WIDTH: u32;
override HEIGHT: u32;
override ITEMS: u32;
override HIDDEN: u32;
override CLASSES: u32;
override RATE: f32;

@group(0) @binding(0) var<storage, read> image: array<f32>;
@group(0) @binding(1) var<storage, read_write> hidden: array<f32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
// dL/dlogits, which the loss writes
@group(0) @binding(3) var<storage, read> d_logits: array<f32>;
// dL/dhidden, through the ReLU
@group(0) @binding(4) var<storage, read_write> d_hidden: array<f32>;
@group(0) @binding(5) var<storage, read_write> parameters: array<f32>;
// per parameter: the first moment and the second
@group(0) @binding(6) var<storage, read_write> moments: array<vec2<f32>>;
// steps taken
@group(0) @binding(7) var<storage, read_write> steps: u32;

fn b1() -> u32 { return HIDDEN * 9u; }
fn w2() -> u32 { return b1() + HIDDEN; }
fn b2() -> u32 { return w2() + CLASSES * HIDDEN; }
fn pixels() -> u32 { return WIDTH * HEIGHT; }

// The image at a pixel and one of its nine neighbours; 0 outside.
fn neighbour(item: u32, pixel: u32, k: u32) -> f32 {
    let x = i32(pixel % WIDTH) + i32(k % 3u) - 1;
    let y = i32(pixel / WIDTH) + i32(k / 3u) - 1;
    if x < 0 || y < 0 || x >= i32(WIDTH) || y >= i32(HEIGHT) { return 0.0; }
    return image[item * pixels() + u32(y) * WIDTH + u32(x)];
}

@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    let item = id.x / pixels();
    let pixel = id.x % pixels();
    if item >= ITEMS { return; }
    for (var h = 0u; h < HIDDEN; h++) {
        var sum = parameters[b1() + h];
        for (var k = 0u; k < 9u; k++) {
            sum += parameters[h * 9u + k] * neighbour(item, pixel, k);
        }
        hidden[(item * HIDDEN + h) * pixels() + pixel] = max(sum, 0.0);
    }
    for (var c = 0u; c < CLASSES; c++) {
        var sum = parameters[b2() + c];
        for (var h = 0u; h < HIDDEN; h++) {
            sum += parameters[w2() + c * HIDDEN + h] * hidden[(item * HIDDEN + h) * pixels() + pixel];
        }
        logits[(item * CLASSES + c) * pixels() + pixel] = sum;
    }
}

@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) id: vec3<u32>) {
    let item = id.x / pixels();
    let pixel = id.x % pixels();
    if item >= ITEMS { return; }
    for (var h = 0u; h < HIDDEN; h++) {
        var sum = 0.0;
        for (var c = 0u; c < CLASSES; c++) {
            sum += parameters[w2() + c * HIDDEN + h] * d_logits[(item * CLASSES + c) * pixels() + pixel];
        }
        let at = (item * HIDDEN + h) * pixels() + pixel;
        d_hidden[at] = select(0.0, sum, hidden[at] > 0.0);
    }
}

// What a pixel adds to the gradient of a parameter.
fn share(parameter: u32, item: u32, pixel: u32) -> f32 {
    if parameter < w2() {
        let is_weight = parameter < b1();
        let h = select(parameter - b1(), parameter / 9u, is_weight);
        let d = d_hidden[(item * HIDDEN + h) * pixels() + pixel];
        if is_weight { return d * neighbour(item, pixel, parameter % 9u); }
        return d;
    }
    if parameter >= b2() {
        return d_logits[(item * CLASSES + parameter - b2()) * pixels() + pixel];
    }
    let at = parameter - w2();
    let d = d_logits[(item * CLASSES + at / HIDDEN) * pixels() + pixel];
    return d * hidden[(item * HIDDEN + at % HIDDEN) * pixels() + pixel];
}

var<workgroup> sums: array<f32, 64>;

// One workgroup per parameter: its gradient, and a step of Adam.
@compute @workgroup_size(64)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var at = lane; at < ITEMS * pixels(); at += 64u) {
        sum += share(group.x, at / pixels(), at % pixels());
    }
    sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half { sums[lane] += sums[lane + half]; }
    }
    if lane == 0u {
        let gradient = sums[0];
        let moment = mix(vec2(gradient, gradient * gradient), moments[group.x], vec2(0.9, 0.999));
        moments[group.x] = moment;
        let taken = f32(steps + 1u);
        let unbiased = moment / (1.0 - pow(vec2(0.9, 0.999), vec2(taken)));
        parameters[group.x] -= RATE * unbiased.x / (sqrt(unbiased.y) + 1e-8);
    }
}

@compute @workgroup_size(1)
fn count() {
    steps += 1u;
}
