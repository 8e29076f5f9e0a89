// Stage 2, combine: the tiles' partial sums, added up in a fixed order.
//
//   statistics[item, column] = Σ over the item's tiles of partials[column, item, tile]
//   statistics[all,  column] = Σ over items
//
// bindings   0  heads       (HEADS)                            uniform     the table
//            1  partials    per head (class_columns + TILE_COLUMNS, items · tiles)  read  written by `statistics`
//            2  statistics  per head class_columns + GLOBAL_WORDS + items · (class_columns + 1)  read_write  words, f32 or u32
// dispatch   one workgroup a (head, column), FOLD_INVOCATIONS each; folded into y past the limit for x. A table of heads
//            without classes does nothing: that is how a plan warms up
// words      of a head: first the global sums, 0 … C−1: I,  C … 2C−1: P,  2C … 3C−1: T (u32 where T is a count),  and TP, FP,
//            FN (u32) where the head has hard counts; then Σ m ℓ,  Σ m,  and as u32 the voxels counted,  out of range,  not
//            finite,  the item of the first out of range,  its voxel,  the items,  those that take part in a mean over items;
//            a word for `overlap_sums` of finish.wgsl; then of each item its class columns and the voxels counted
// determinism   bit for bit: each invocation adds every FOLD_INVOCATIONS-th tile, in runs of 16 so that no chain is long,
//               then a tree over the invocations (shared/fold_*.wgsl), then the items in order

const TILE = 4096u;
const NOWHERE = 16777216.0;
const NO_VOXEL = 0xffffffffu;
const RUN = 16u;
const TILE_COLUMNS = 6u;
// words of the global sums that belong to no class, and places among them
const GLOBAL_WORDS = 10u;
const ITEMS = 7u;
const COUNTING_ITEMS = 8u;

//# stand-in
const HEADS = 1u;
const FOLD_INVOCATIONS = 64u;
const SUM = 0u;
const COUNT = 1u;
const LEAST = 2u;
struct Head {
    items: u32, classes: u32, tiles: u32, first_column: u32, partials: u32, statistics: u32, class_columns: u32, counts: u32,
    masked_samples: u32,
}
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
fn column_head(number: u32) -> Head { return Head(heads[0].x, 1u, 1u, 0u, 0u, 0u, 3u, 0u, 0u); }
fn workgroup_number(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 { return workgroup.x + workgroup.y * grid.x; }
fn identity(kind: u32) -> u32 { return 0u; }
fn fold(kind: u32, a: u32, b: u32) -> u32 { return a + b; }
fn fold_workgroup(kind: u32, invocation: u32, value: u32) -> u32 { return value; }
//# end

@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> statistics_words: array<u32>;

// A partial sum as the word that `fold` takes.
fn word_of(kind: u32, partial: f32, tile: u32) -> u32 {
    switch kind {
        case SUM: { return bitcast<u32>(partial); }
        case COUNT: { return u32(partial); }
        default: { return select(tile * TILE + u32(partial), NO_VOXEL, partial >= NOWHERE); }
    }
}

@compute @workgroup_size(FOLD_INVOCATIONS)
fn combine(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let number = workgroup_number(workgroup, grid);
    let head = column_head(number);
    let column = number - head.first_column;
    let classes = head.classes;
    // columns of classes, and then those of a tile
    let of_classes = head.class_columns;
    if classes == 0u || column >= of_classes + TILE_COLUMNS {
        return;
    }
    var kind = SUM;
    if column >= 2u * classes && column < 3u * classes && head.counts != 0u {
        kind = COUNT;
    }
    if column >= 3u * classes && column < of_classes {
        kind = COUNT;
    }
    if column >= of_classes + 2u {
        kind = COUNT;
    }
    if column == of_classes + TILE_COLUMNS - 1u {
        kind = LEAST;
    }
    // the place among an item's words, for the columns that are kept an item
    let is_counted = column == of_classes + 2u;
    let item_word = select(column, of_classes, is_counted);
    let kept = column < of_classes || is_counted;

    var all = identity(kind);
    var first_item = NO_VOXEL;
    var counting_items = 0u;
    for (var item = 0u; item < head.items; item += 1u) {
        let row = head.partials + (column * head.items + item) * head.tiles;
        var mine = identity(kind);
        for (var run = invocation; run < head.tiles; run += FOLD_INVOCATIONS * RUN) {
            var of_run = identity(kind);
            let end = min(run + RUN * FOLD_INVOCATIONS, head.tiles);
            for (var tile = run; tile < end; tile += FOLD_INVOCATIONS) {
                of_run = fold(kind, of_run, word_of(kind, partials[row + tile], tile));
            }
            mine = fold(kind, mine, of_run);
        }
        let of_item = fold_workgroup(kind, invocation, mine);
        if kept && invocation == 0u {
            statistics_words[head.statistics + of_classes + GLOBAL_WORDS + item * (of_classes + 1u) + item_word] = of_item;
        }
        // an item takes part unless a sample mask leaves no voxel of it
        counting_items += select(0u, 1u, head.masked_samples == 0u || of_item != 0u);
        if kind == LEAST {
            // the first item that has one keeps its voxel
            if first_item == NO_VOXEL && of_item != NO_VOXEL {
                first_item = item;
                all = of_item;
            }
        } else {
            all = fold(kind, all, of_item);
        }
    }
    if invocation == 0u {
        if kind == LEAST {
            statistics_words[head.statistics + column] = first_item;
            statistics_words[head.statistics + column + 1u] = all;
        } else {
            statistics_words[head.statistics + column] = all;
        }
        if is_counted {
            statistics_words[head.statistics + of_classes + ITEMS] = head.items;
            statistics_words[head.statistics + of_classes + COUNTING_ITEMS] = counting_items;
        }
    }
}
