// Before the gradient stage: the incoming gradient of the total, from the caller's buffer to the coefficients, which hold a 1
// otherwise. Only where the gradient stage does not read the caller's buffer itself: a binding for it would be one too many,
// or the stage writes to that buffer.
//
// bindings   0  heads         (HEADS)  uniform     a table of one row, for this stage alone
//            1  upstream      (words)  read        the scalar is at `upstream` of the only row
//            2  coefficients  see finish.wgsl      read_write  the word UPSTREAM
// dispatch   one workgroup of one invocation
// determinism   a copy

@group(0) @binding(1) var<storage, read> upstream: array<u32>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<u32>;

//# stand-in
const UPSTREAM = 0u;
struct Head { upstream: u32, rows: u32 }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, heads[place.head].y); }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
//# end

@compute @workgroup_size(1)
fn copy_upstream() {
    let head = head_of(Place(0u, 0u, 0u, true));
    // a table of no heads warms the driver up
    if head.rows > 0u {
        coefficients[UPSTREAM] = upstream[head.upstream];
    }
}
