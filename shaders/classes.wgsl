// How the classes of a quad lie over the invocations that share it, and in memory with channels last.
//
// CLASS_LANES invocations share a quad, and each holds HELD of its classes; a workgroup has QUADS quads at once. Neighbours
// read neighbouring addresses: in the contiguous format they hold the same classes of neighbouring quads, with channels last
// neighbouring classes of the same quad.
//
// With channels last an invocation reads and writes runs: elements that follow each other in memory. Where it holds all classes
// of a quad, they are the quad's elements four by four; else groups of four classes of a voxel, of which the last may have
// fewer. `rows` are the same by class: row c has class c of the quad's four voxels.

//# stand-in
const INVOCATIONS = 8u; const CLASSES_g0 = 4u; const CLASS_LANES_g0 = 1u; const HELD_g0 = 4u; const c0 = 0u;
const NONE = vec4<f32>();
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Head { voxels: u32 }
fn logits_at_g0(head: Head, element: u32, left: u32) -> vec4<f32> { return NONE; }
fn probabilities_at_g0(head: Head, element: u32, left: u32) -> vec4<f32> { return NONE; }
fn store_at_g0(head: Head, element: u32, left: u32, value: vec4<f32>) -> bool { return true; }
//# end

const QUADS_g0 = INVOCATIONS / CLASS_LANES_g0;

//# if split
//# if channels_last
// strides and spans of shared/share_*.wgsl: over the classes of a quad, and over quads
const CLASS_STRIDE_g0 = 1u;
const CLASS_SPAN_g0 = CLASS_LANES_g0;
const QUAD_STRIDE_g0 = CLASS_LANES_g0;
const QUAD_SPAN_g0 = INVOCATIONS;
//# else
//#= const CLASS_STRIDE_g0 = QUADS_g0;
//#= const CLASS_SPAN_g0 = INVOCATIONS;
//#= const QUAD_STRIDE_g0 = 1u;
//#= const QUAD_SPAN_g0 = QUADS_g0;
//# end
//# end

// Which quad of the workgroup an invocation has.
fn quad_of_g0(index: u32) -> u32 {
    var quad = index;
    //# if split
    //# if channels_last
    quad = index / CLASS_LANES_g0;
    //# else
    quad = index % QUADS_g0;
    //# end
    //# end
    return quad;
}

// Which part of its quad's classes it holds.
fn lane_of_g0(index: u32) -> u32 {
    var lane = 0u;
    //# if split
    //# if channels_last
    lane = index % CLASS_LANES_g0;
    //# else
    lane = index / QUADS_g0;
    //# end
    //# end
    return lane;
}

// The class that it holds in place c; past the last class where the classes do not come out even.
fn class_of_g0(lane: u32, c: u32) -> u32 {
    var class_index = lane * HELD_g0 + c;
    class_index = (c / 4u * CLASS_LANES_g0 + lane) * 4u + c % 4u; //# if channels_last
    return class_index;
}

//# if channels_last
// The first element of a quad.
fn first_g0(place: Place, head: Head, voxel: u32) -> u32 {
    return (place.item * head.voxels + voxel) * CLASSES_g0;
}

// The first class of a voxel's last four, or of those that are left.
const LAST_RUN_g0 = (CLASSES_g0 - 1u) / 4u * 4u;

// Where run c lies behind that. Past the end of the row, or past the last class, it is a run that is there, and no caller
// counts it.
fn run_at_g0(lane: u32, c: u32, left: u32) -> u32 {
    var at = min(4u * c, min(left, 4u) * CLASSES_g0 - 1u);
    at = min(c % 4u, left - 1u) * CLASSES_g0 + min(class_of_g0(lane, c - c % 4u), LAST_RUN_g0); //# if split
    return at;
}

// Elements from there on that belong to it.
fn run_left_g0(at: u32, left: u32) -> u32 {
    var elements = min(left, 4u) * CLASSES_g0 - at;
    elements = CLASSES_g0 - at % CLASSES_g0; //# if split
    return elements;
}

fn rows_of_runs_g0(runs: array<vec4<f32>, HELD_g0>) -> array<vec4<f32>, HELD_g0> {
    var rows: array<vec4<f32>, HELD_g0>;
    //# each c
    //# if split
    rows[c0] = vec4<f32>(runs[c0 - c0 % 4u][c0 % 4u], runs[c0 - c0 % 4u + 1u][c0 % 4u], runs[c0 - c0 % 4u + 2u][c0 % 4u], runs[c0 - c0 % 4u + 3u][c0 % 4u]);
    //# else
    rows[c0] = vec4<f32>(
        runs[c0 / 4u][c0 % 4u],
        runs[(CLASSES_g0 + c0) / 4u][(CLASSES_g0 + c0) % 4u],
        runs[(2u * CLASSES_g0 + c0) / 4u][(2u * CLASSES_g0 + c0) % 4u],
        runs[(3u * CLASSES_g0 + c0) / 4u][(3u * CLASSES_g0 + c0) % 4u],
    );
    //# end
    //# end
    return rows;
}

fn rows_of_logits_g0(place: Place, head: Head, lane: u32, voxel: u32, left: u32) -> array<vec4<f32>, HELD_g0> {
    let first = first_g0(place, head, voxel);
    var runs: array<vec4<f32>, HELD_g0>;
    //# each c
    {
        let at = run_at_g0(lane, c0, left);
        runs[c0] = logits_at_g0(head, first + at, run_left_g0(at, left));
    }
    //# end
    return rows_of_runs_g0(runs);
}

//# if probabilities
fn rows_of_probabilities_g0(place: Place, head: Head, lane: u32, voxel: u32, left: u32) -> array<vec4<f32>, HELD_g0> {
    let first = first_g0(place, head, voxel);
    var runs: array<vec4<f32>, HELD_g0>;
    //# each c
    {
        let at = run_at_g0(lane, c0, left);
        runs[c0] = probabilities_at_g0(head, first + at, run_left_g0(at, left));
    }
    //# end
    return rows_of_runs_g0(runs);
}
//# end

//# if gradient
// Stores the classes that an invocation holds. Returns whether all that it stored is finite.
fn store_rows_g0(place: Place, head: Head, lane: u32, voxel: u32, left: u32, rows: array<vec4<f32>, HELD_g0>) -> bool {
    let first = first_g0(place, head, voxel);
    var finite = true;
    //# each c
    //# if split
    if c0 % 4u < left && class_of_g0(lane, c0 - c0 % 4u) < CLASSES_g0 {
        let run = vec4<f32>(rows[c0 - c0 % 4u][c0 % 4u], rows[c0 - c0 % 4u + 1u][c0 % 4u], rows[c0 - c0 % 4u + 2u][c0 % 4u], rows[c0 - c0 % 4u + 3u][c0 % 4u]);
        let at = run_at_g0(lane, c0, left);
        finite = store_at_g0(head, first + at, run_left_g0(at, left), run) && finite;
    }
    //# else
    if 4u * c0 < left * CLASSES_g0 {
        let run = vec4<f32>(
            rows[4u * c0 % CLASSES_g0][4u * c0 / CLASSES_g0],
            rows[(4u * c0 + 1u) % CLASSES_g0][(4u * c0 + 1u) / CLASSES_g0],
            rows[(4u * c0 + 2u) % CLASSES_g0][(4u * c0 + 2u) / CLASSES_g0],
            rows[(4u * c0 + 3u) % CLASSES_g0][(4u * c0 + 3u) / CLASSES_g0],
        );
        finite = store_at_g0(head, first + 4u * c0, min(left, 4u) * CLASSES_g0 - 4u * c0, run) && finite;
    }
    //# end
    //# end
    return finite;
}
//# end
//# end
