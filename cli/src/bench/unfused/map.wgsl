// An elementwise operation over a tensor of N · C rows of `voxels` elements: destination[i] = EXPRESSION.
//
// EXPRESSION may use first[i] and second[i]; third[v], of a tensor without a class axis; c, the class; row, the index
// of item and class; and the coefficients of the loss. This is one operation of a tensor library.

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
@group(0) @binding(2) var<storage, read> second: array<ELEMENT>;
@group(0) @binding(3) var<storage, read> third: array<ELEMENT>;
@group(0) @binding(5) var<storage, read> coefficients: array<f32>;
@group(0) @binding(6) var<storage, read_write> destination: array<ELEMENT>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let first_element = (id.x + id.y * grid.x) * WORKGROUP * LOADS + invocation;
    let row_elements = shape.voxels / WIDTH;
    for (var k = 0u; k < LOADS; k += 1u) {
        let i = first_element + k * WORKGROUP;
        if i >= shape.elements / WIDTH {
            return;
        }
        let row = i / row_elements;
        let item = row / shape.classes;
        let c = row - item * shape.classes;
        // the index in a tensor without a class axis
        let v = item * row_elements + i - row * row_elements;
        destination[i] = EXPRESSION;
    }
}
