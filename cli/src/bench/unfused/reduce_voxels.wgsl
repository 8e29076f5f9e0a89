// A reduction over the voxels of each row: one workgroup per run of a row writes a partial sum, and `rows` adds them
// up.

struct Shape {
    elements: u32,
    classes: u32,
    voxels: u32,
    smoothing: f32,
}

alias ELEMENT = vec4<f32>;
const WIDTH = 4u;
const WORKGROUP = 64u;
const LOADS = 4u;

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> first: array<ELEMENT>;
@group(0) @binding(6) var<storage, read_write> destination: array<f32>;

var<workgroup> sums: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let row_elements = shape.voxels / WIDTH;
    let runs = (row_elements + WORKGROUP * LOADS - 1u) / (WORKGROUP * LOADS);
    let number = id.x + id.y * grid.x;
    let row = number / runs;
    let start = (number - row * runs) * WORKGROUP * LOADS + invocation;
    var sum = ELEMENT();
    if row < shape.elements / shape.voxels {
        for (var k = 0u; k < LOADS; k += 1u) {
            let i = start + k * WORKGROUP;
            if i < row_elements {
                sum += first[row * row_elements + i];
            }
        }
    }
    sums[invocation] = dot(sum, ELEMENT(1.0));
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
        if invocation < half {
            sums[invocation] += sums[invocation + half];
        }
        workgroupBarrier();
    }
    if invocation == 0u && row < shape.elements / shape.voxels {
        destination[number] = sums[0];
    }
}
