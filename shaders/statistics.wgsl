// Stage 1, statistics: what the loss needs to know of one tile of voxels, as one row of partial sums.
//
// Per class c:   I_c = Σ m p_c [y = c]     P_c = Σ m p_c  (squared: Σ m p_c²)     T_c = Σ m [y = c]
// Per tile:      Σ m ℓ of the pixel term; the labels out of range, and the first of them
// with p = softmax(z), y the label, m = 0 where the label is ignored or out of range.
//
// bindings   0  heads          (HEADS)                      uniform     the table
//            1  class_weights  (words)                      read        of the pixel terms, head after head
//            2  partials       per head (3 C + 3, items · tiles)  read_write  column-major: what `combine` adds up is contiguous
//            …  logits_s#, labels_t#                        read        shared/logits_*.wgsl, shared/labels_*.wgsl
// dispatch   one workgroup a (head, item, tile), INVOCATIONS each; grids past the limit for x are folded into y
// columns    0 … C−1: I,  C … 2C−1: P,  2C … 3C−1: T (an exact integer: a tile has at most 2^24 voxels),
//            3C: pixel sum,  3C+1: labels out of range,  3C+2: the first of them, as its place in the tile, or NOWHERE
// determinism   bit for bit on one device: no atomics, and every sum has the order that the text gives it
//
// The arithmetic is text per group of heads that share class count and kinds (statistics_registers.wgsl for few classes,
// statistics_streamed.wgsl for many); heads of a group differ only in what the table says.

// voxels a tile: a multiple of 4 · INVOCATIONS
const TILE = 4096u;
const NOWHERE = 16777216.0;

@group(0) @binding(1) var<storage, read> class_weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

//# stand-in
const INVOCATIONS = 8u;
const g0 = 0u;
struct Invocation { @builtin(local_invocation_index) index: u32 }
struct Head { tiles: u32, items: u32, partials: u32, group: u32 }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 1u, 0u, 0u); }
fn workgroup_number(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 { return workgroup.x + workgroup.y * grid.x; }
fn place_of(number: u32) -> Place { return Place(0u, 0u, number, number == 0u); }
fn put(me: Invocation, row: u32, value: f32) {}
fn put_min(me: Invocation, row: u32, value: f32) {}
fn sum_row(me: Invocation, row: u32) -> f32 { return 0.0; }
fn min_row(me: Invocation, row: u32) -> f32 { return 0.0; }
fn statistics_g0(place: Place, me: Invocation) {}
//# end

// Cells of column after column, items · tiles in each. Only one invocation ever touches a cell.
fn cell(place: Place, column: u32) -> u32 {
    let head = head_of(place);
    return head.partials + (column * head.items + place.item) * head.tiles + place.tile;
}

// The rows that all invocations have `put` for `count` classes from `first_class` on, three a class: I, P, T. They begin
// this tile's cells, or are added to them.
fn write_rows(place: Place, me: Invocation, classes: u32, first_class: u32, count: u32, begin: bool) {
    workgroupBarrier();
    for (var row = me.index; row < 3u * count; row += INVOCATIONS) {
        let at = cell(place, (row % 3u) * classes + first_class + row / 3u);
        let sum = sum_row(me, row);
        if begin {
            partials[at] = sum;
        } else {
            partials[at] += sum;
        }
    }
    workgroupBarrier();
}

// The columns of a tile that belong to no class.
fn write_tile(place: Place, me: Invocation, classes: u32, pixel: f32, out_of_range: f32, first_out_of_range: f32) {
    put(me, 0u, pixel);
    put(me, 1u, out_of_range);
    put_min(me, 2u, first_out_of_range);
    workgroupBarrier();
    if me.index == 0u {
        partials[cell(place, 3u * classes)] = sum_row(me, 0u);
        partials[cell(place, 3u * classes + 1u)] = sum_row(me, 1u);
        partials[cell(place, 3u * classes + 2u)] = min_row(me, 2u);
    }
    workgroupBarrier();
}

@compute @workgroup_size(INVOCATIONS)
fn statistics(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    me: Invocation,
) {
    let place = place_of(workgroup_number(workgroup, grid));
    if !place.inside {
        return;
    }
    let group = head_of(place).group;
    //# each g
    if group == g0 {
        statistics_g0(place, me);
    }
    //# end
}
