// Rows of sums over the invocations of a workgroup, through workgroup memory alone.
//
// Each invocation `put`s its value of a row; after a barrier, one invocation reads the row's sum. Every cell is written
// before it is read, so zero-initialisation is not needed.
//
// memory        sh_rows  (ROWS, PADDED)  PADDED = INVOCATIONS + 1, so that neighbours read different banks
// determinism   bit for bit: the order of the additions is fixed by the text below

//# stand-in
const INVOCATIONS = 8u; const ROWS = 12u;
//# end

const PADDED = INVOCATIONS + 1u;

var<workgroup> sh_rows: array<f32, ROWS * PADDED>;

struct Invocation {
    index: u32,
}

fn put(me: Invocation, row: u32, value: f32) {
    sh_rows[row * PADDED + me.index] = value;
}

fn put_min(me: Invocation, row: u32, value: f32) {
    sh_rows[row * PADDED + me.index] = value;
}

// Two chains, joined at the end: half the depth of one.
fn sum_row(me: Invocation, row: u32) -> f32 {
    let first = row * PADDED;
    var even = 0.0;
    var odd = 0.0;
    for (var i = 0u; i + 1u < INVOCATIONS; i += 2u) {
        even += sh_rows[first + i];
        odd += sh_rows[first + i + 1u];
    }
    if (INVOCATIONS & 1u) == 1u {
        even += sh_rows[first + INVOCATIONS - 1u];
    }
    return even + odd;
}

fn min_row(me: Invocation, row: u32) -> f32 {
    let first = row * PADDED;
    var least = sh_rows[first];
    for (var i = 1u; i < INVOCATIONS; i += 1u) {
        least = min(least, sh_rows[first + i]);
    }
    return least;
}
