// Stage 1, statistics: the sums that the loss needs, one row of partial sums per tile of voxels.
//
// Per class c:   I_c = Σ m p_c t_c     P_c = Σ m p_c     T_c = Σ m t_c      (squared: p_c² and t_c²; minimum: min(p_c, t_c))
//               where the head asks for hard counts, over the voxels that count: TP_c, FP_c, FN_c of the predicted class
// Per tile:      Σ m ℓ of the pixel term, Σ m, the voxels that count, those out of range, those with a logit that is not
//               finite, and the first out of range
// with p the activated logits, t the target, m the voxel weight, 0 where a voxel does not count. Out of range are voxels with
// a label that is neither a class nor the ignore label (they do not count), and with a probability outside [0, 1] (they do).
//
// bindings   0  heads          (HEADS)                      uniform     the table
//            1  coefficients   (words)                      read        here: parameters of classes and axes
//            2  partials       per head (class_columns + TILE_COLUMNS, items · tiles)  read_write  column-major: what
//                              `combine` adds up is contiguous
//            3  losses         per head (items · voxels)    read_write  the bits of f32, only where a head has a top-k: see
//                              top_k.wgsl
//            …  one per window of a binding of tensors      read; read_write in the buffer of the losses of voxels, where a
//                              caller asks for them: shared/binding_*.wgsl
// dispatch   one workgroup per (head, item, tile), of INVOCATIONS invocations; grids past the limit for x are folded into y
// columns    0 … C−1: I,  C … 2C−1: P,  2C … 3C−1: T;  with hard counts 3C … 4C−1: TP,  FP,  FN;  then Σ m ℓ,  Σ m,  voxels
//            counted,  out of range,  not finite,  and the first out of range as its place in the tile, or NOWHERE.
//            Counts are exact: a tile has at most 2^24 voxels
// determinism   bit for bit on one device: no atomics, and sums in the order of the text, or of the device's subgroup
//               operations (shared/reduce_*.wgsl)
//
// The arithmetic is text per group of heads that share class count and kinds (statistics_registers.wgsl, and
// statistics_streamed.wgsl for more classes than a workgroup holds); heads of a group differ only in their rows of the table.

// One invocation's part of a tile's columns that belong to no class.
struct TileSums {
    pixel: f32,
    mass: f32,
    counted: f32,
    out_of_range: f32,
    non_finite: f32,
    first_out_of_range: f32,
}

@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;
@group(0) @binding(3) var<storage, read_write> losses: array<u32>; //# if losses

//# stand-in
const INVOCATIONS = 8u; const PIXEL_SUM = 0u; const MASS = 1u; const COUNTED = 2u; const OUT_OF_RANGE = 3u;
const NON_FINITE = 4u; const FIRST_OUT_OF_RANGE = 5u; const g0 = 0u;
struct Invocation { index: u32, lane: u32, subgroup: u32, subgroups: u32 }
struct Head { tiles: u32, all_items: u32, partials: u32, group: u32, losses: u32, voxels: u32, class_columns: u32, first_item: u32 }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 1u, 0u, 0u, 0u, 1u, 3u, 0u); }
fn workgroup_number(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 { return workgroup.x + workgroup.y * grid.x; }
fn place_of(number: u32) -> Place { return Place(0u, 0u, number, number == 0u); }
const NONE = vec4<f32>();
fn total(x: vec4<f32>) -> f32 { return x.x; }
fn count(lanes: vec4<bool>) -> f32 { return 0.0; }
fn first_of(lanes: vec4<bool>, position: f32) -> f32 { return position; }
fn put(me: Invocation, row: u32, value: f32) {}
fn put_min(me: Invocation, row: u32, value: f32) {}
fn sum_row(me: Invocation, row: u32) -> f32 { return 0.0; }
fn min_row(me: Invocation, row: u32) -> f32 { return 0.0; }
fn statistics_g0(place: Place, me: Invocation) {}
//# end

// The index of a tile's cell in a column, which has one cell per item and tile. Only one invocation ever touches a cell.
fn cell(place: Place, column: u32) -> u32 {
    let head = head_of(place);
    return head.partials + (column * head.all_items + head.first_item + place.item) * head.tiles + place.tile;
}

// Sums the rows that all invocations have `put`, so many `columns` per class, for `count` classes from `first_class` on: I, P, T
// (`column` is 0), TP, FP, FN (`column` is 3 C), or all six. Writes the sums to this tile's cells with `begin`, and else adds
// them there.
fn write_rows(place: Place, me: Invocation, column: u32, classes: u32, columns: u32, first_class: u32, count: u32, begin: bool) {
    workgroupBarrier();
    for (var row = me.index; row < columns * count; row += INVOCATIONS) {
        let at = cell(place, column + (row % columns) * classes + first_class + row / columns);
        let sum = sum_row(me, row);
        if begin {
            partials[at] = sum;
        } else {
            partials[at] += sum;
        }
    }
    workgroupBarrier();
}

// Adds a quad: the pixel term's m ℓ, the voxel weights, and which voxels count, are out of range, or have a logit that is
// not finite. `position` is the quad's place in the tile.
fn add_quad(
    sums: TileSums,
    position: u32,
    loss: vec4<f32>,
    m: vec4<f32>,
    valid: vec4<bool>,
    out_of_range: vec4<bool>,
    non_finite: vec4<bool>,
) -> TileSums {
    return TileSums(
        sums.pixel + total(loss),
        sums.mass + total(m),
        sums.counted + count(valid),
        sums.out_of_range + count(out_of_range),
        sums.non_finite + count(non_finite),
        min(sums.first_out_of_range, first_of(out_of_range, f32(position))),
    );
}

// Writes I, P, T or TP, FP, FN of one class of a tile, where one invocation has the sums.
fn write_class(place: Place, column: u32, classes: u32, class_index: u32, sums: vec4<f32>) {
    partials[cell(place, column + class_index)] = sums.x;
    partials[cell(place, column + classes + class_index)] = sums.y;
    partials[cell(place, column + 2u * classes + class_index)] = sums.z;
}

// The same where all invocations have the sums: one each. Writes them with `begin`, and else adds them to what is there.
fn write_class_by_all(place: Place, me: Invocation, column: u32, classes: u32, class_index: u32, sums: vec4<f32>, begin: bool) {
    for (var row = me.index; row < 3u; row += INVOCATIONS) {
        let at = cell(place, column + row * classes + class_index);
        let sum = select(select(sums.x, sums.y, row == 1u), sums.z, row == 2u);
        if begin {
            partials[at] = sum;
        } else {
            partials[at] += sum;
        }
    }
}

fn write_tile(place: Place, me: Invocation, sums: TileSums) {
    let first = head_of(place).class_columns;
    put(me, PIXEL_SUM, sums.pixel);
    put(me, MASS, sums.mass);
    put(me, COUNTED, sums.counted);
    put(me, OUT_OF_RANGE, sums.out_of_range);
    put(me, NON_FINITE, sums.non_finite);
    put_min(me, FIRST_OUT_OF_RANGE, sums.first_out_of_range);
    workgroupBarrier();
    if me.index == 0u {
        for (var column = 0u; column < FIRST_OUT_OF_RANGE; column += 1u) {
            partials[cell(place, first + column)] = sum_row(me, column);
        }
        partials[cell(place, first + FIRST_OUT_OF_RANGE)] = min_row(me, FIRST_OUT_OF_RANGE);
    }
    workgroupBarrier();
}

//# if losses
// Keeps m ℓ of a quad for the top-k: 0 where a voxel does not count, and never negative, so that the bits have the order of
// the losses. A NaN of either sign is kept as the largest, so that it stays in the loss.
fn keep_losses(place: Place, voxel: u32, left: u32, loss: vec4<f32>) {
    let head = head_of(place);
    let size = bitcast<vec4<u32>>(loss) & vec4<u32>(0x7fffffffu);
    let kept = select(bitcast<vec4<u32>>(max(loss, NONE)), size, size > vec4<u32>(0x7f800000u));
    let at = head.losses + (head.first_item + place.item) * head.voxels + voxel;
    losses[at] = kept.x;
    if left > 1u { losses[at + 1u] = kept.y; }
    if left > 2u { losses[at + 2u] = kept.z; }
    if left > 3u { losses[at + 3u] = kept.w; }
}
//# end

@compute @workgroup_size(INVOCATIONS)
fn statistics(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
    //# if subgroups
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    //# end
) {
    // builtins as arguments of their own: inside a struct, naga's HLSL lacks the semantics of those of subgroups
    var me: Invocation;
    me.index = index;
    //# if subgroups
    me.lane = lane;
    me.subgroup = subgroup;
    me.subgroups = subgroups;
    //# end
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
