// The operations on a few numbers: partial sums to one sum per row, and sums to the loss and the coefficients of its
// gradient. One workgroup, as a tensor library's last reduction step.

struct Shape {
    elements: u32,
    classes: u32,
    voxels: u32,
    smoothing: f32,
}

const PARTIALS = 4u;
const WORKGROUP = 64u;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> first: array<f32>;
@group(0) @binding(6) var<storage, read_write> destination: array<f32>;

var<workgroup> sums: array<f32, WORKGROUP>;

// One workgroup per row.
@compute @workgroup_size(WORKGROUP)
fn rows(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    var sum = 0.0;
    for (var i = invocation; i < PARTIALS; i += WORKGROUP) {
        sum += first[id.x * PARTIALS + i];
    }
    sums[invocation] = sum;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if invocation < half {
            sums[invocation] += sums[invocation + half];
        }
        workgroupBarrier();
    }
    if invocation == 0u {
        destination[SUMS + id.x] = sums[0];
    }
}

const SUMS = 0u;

// destination: I, P, T and the cross-entropy of each row; then the loss, κ, and two coefficients per row.
@compute @workgroup_size(1)
fn finish() {
    let n = shape.elements / shape.voxels;
    var dice = 0.0;
    var cross_entropy = 0.0;
    for (var row = 0u; row < n; row += 1u) {
        let num = 2.0 * destination[row] + 1e-5;
        let den = destination[n + row] + destination[2u * n + row] + 1e-5;
        dice += 1.0 - num / den;
        cross_entropy -= destination[3u * n + row];
        destination[4u * n + 2u + 2u * row] = -2.0 / den / f32(n);
        destination[4u * n + 3u + 2u * row] = num / (den * den) / f32(n);
    }
    let kappa = f32(shape.classes) / f32(shape.elements);
    destination[4u * n] = dice / f32(n) + cross_entropy * kappa;
    destination[4u * n + 1u] = kappa;
}
