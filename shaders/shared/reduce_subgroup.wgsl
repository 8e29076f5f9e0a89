// Rows of sums over the invocations of a workgroup: inside each subgroup by subgroup operations, then over the subgroups
// through workgroup memory. The same functions as reduce_workgroup.wgsl.
//
// The subgroup size is the device's choice (4 to 128 exist), so the number of subgroups is read, never assumed.
//
// memory        sh_rows  (ROWS, INVOCATIONS)  only the first `subgroups` cells of a row are used
// determinism   bit for bit on one device and driver: `subgroupAdd` has a fixed order there, and between the subgroups
//               the order is the text below

//# stand-in
const INVOCATIONS = 8u; const ROWS = 12u;
//# end

var<workgroup> sh_rows: array<f32, ROWS * INVOCATIONS>;

struct Invocation {
    // in the workgroup, and in its subgroup
    index: u32,
    lane: u32,
    // which subgroup of how many
    subgroup: u32,
    subgroups: u32,
}

fn put(me: Invocation, row: u32, value: f32) {
    let sum = subgroupAdd(value);
    if me.lane == 0u {
        sh_rows[row * INVOCATIONS + me.subgroup] = sum;
    }
}

fn put_min(me: Invocation, row: u32, value: f32) {
    let least = subgroupMin(value);
    if me.lane == 0u {
        sh_rows[row * INVOCATIONS + me.subgroup] = least;
    }
}

fn sum_row(me: Invocation, row: u32) -> f32 {
    var sum = sh_rows[row * INVOCATIONS];
    for (var i = 1u; i < me.subgroups; i += 1u) {
        sum += sh_rows[row * INVOCATIONS + i];
    }
    return sum;
}

fn min_row(me: Invocation, row: u32) -> f32 {
    var least = sh_rows[row * INVOCATIONS];
    for (var i = 1u; i < me.subgroups; i += 1u) {
        least = min(least, sh_rows[row * INVOCATIONS + i]);
    }
    return least;
}
