// A reduction over the class axis: destination[n, v] = FOLD over c of first[n, c, v].

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
        if i >= shape.elements / WIDTH / shape.classes {
            return;
        }
        let item = i / row_elements;
        let row = item * shape.classes * row_elements + i - item * row_elements;
        var folded = first[row];
        for (var c = 1u; c < shape.classes; c += 1u) {
            let next = first[row + c * row_elements];
            folded = FOLD;
        }
        destination[i] = folded;
    }
}
