// Stage 2, combine: the tiles' partial sums, added up in a fixed order.
//
//   statistics[item, column] = Σ over the item's tiles of partials[column, item, tile]
//   statistics[all,  column] = Σ over items
//
// bindings   0  heads       (HEADS)                            uniform     the table
//            1  partials    per head (class_columns + TILE_COLUMNS, items · tiles)  read  written by `statistics`
//            2  statistics  per head class_columns + GLOBAL_WORDS + items · item_words  read_write  words, f32 or u32
// dispatch   one workgroup per (head, column), of FOLD_INVOCATIONS invocations; grids past the limit for x are folded into y.
//            A plan warms up with a table of zeros: heads without classes, for which this does nothing
// words      per head, first the global sums. 0 … C−1: I,  C … 2C−1: P,  2C … 3C−1: T (u32 where T is a count),  and TP, FP,
//            FN (u32) where the head has hard counts; then Σ m ℓ,  Σ m,  and as u32 the voxels counted,  those out of range,
//            those with a logit that is not finite,  the item of the first out of range,  its voxel,  the items,  the items
//            that take part in a mean over items;  and a word for `row_sums` of finish.wgsl.
//            Then, per item, its class columns and the voxels counted, and, where the pixel term takes means of items, Σ m ℓ
//            and Σ m
// determinism   bit for bit. Where items have few tiles, each invocation takes every FOLD_INVOCATIONS-th item, and adds its
//               tiles in order. Where they have more, the workgroup takes one item after another, and each invocation adds
//               every FOLD_INVOCATIONS-th tile. All in runs of 16, so that no chain of additions is long; then a tree over
//               the invocations (shared/fold_*.wgsl)

//# stand-in
const TILE = 4096u; const NOWHERE = 16777216.0; const NO_VOXEL = 0xffffffffu; const COMBINE_RUN = 16u;
const TILE_COLUMNS = 6u; const FIRST_OUT_OF_RANGE = 5u; const COUNTED = 2u; const GLOBAL_WORDS = 10u; const ITEMS = 7u;
const COUNTING_ITEMS = 8u; const FOLD_INVOCATIONS = 64u; const SUM = 0u; const COUNT = 1u; const LEAST = 2u;
struct Head {
    items: u32, classes: u32, tiles: u32, first_column: u32, partials: u32, statistics: u32, class_columns: u32,
    item_words: u32, counts: u32, masked_samples: u32,
}
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
fn column_head(number: u32) -> Head { return Head(heads[0].x, 1u, 1u, 0u, 0u, 0u, 3u, 4u, 0u, 0u); }
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

// What the workgroup, or one of its invocations, has folded of the items so far.
struct Items {
    all: u32,
    // for LEAST: the first item with a voxel out of range; `all` is that voxel
    first: u32,
    // the items that take part in a mean over items
    counting: u32,
}

// Tiles `first`, `first + step`, … of an item's column, in runs.
fn fold_tiles(kind: u32, row: u32, first: u32, step: u32, tiles: u32) -> u32 {
    var all = identity(kind);
    for (var run = first; run < tiles; run += step * COMBINE_RUN) {
        var of_run = identity(kind);
        let end = min(run + step * COMBINE_RUN, tiles);
        for (var tile = run; tile < end; tile += step) {
            of_run = fold(kind, of_run, word_of(kind, partials[row + tile], tile));
        }
        all = fold(kind, all, of_run);
    }
    return all;
}

// Adds an item.
fn with_item(kind: u32, masked_samples: u32, items: Items, item: u32, of_item: u32) -> Items {
    var next = items;
    // an item takes part unless a sample mask leaves no voxel of it
    next.counting += select(0u, 1u, masked_samples == 0u || of_item != 0u);
    if kind != LEAST {
        next.all = fold(kind, items.all, of_item);
    } else if items.first == NO_VOXEL && of_item != NO_VOXEL {
        // the first item with such a voxel is kept
        next.first = item;
        next.all = of_item;
    }
    return next;
}

// Adds a run of items.
fn with_run(kind: u32, items: Items, run: Items) -> Items {
    let counting = items.counting + run.counting;
    if kind != LEAST {
        return Items(fold(kind, items.all, run.all), NO_VOXEL, counting);
    }
    let kept = items.first != NO_VOXEL;
    return Items(select(run.all, items.all, kept), select(run.first, items.first, kept), counting);
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
    if column >= of_classes + COUNTED {
        kind = COUNT;
    }
    if column == of_classes + FIRST_OUT_OF_RANGE {
        kind = LEAST;
    }
    // the place among an item's words of the columns that are kept per item: those of classes, the voxels counted, and, where
    // the item's words have room for them, Σ m ℓ and Σ m
    let is_counted = column == of_classes + COUNTED;
    let place = select(select(column, column + 1u, column >= of_classes), of_classes, is_counted);
    let kept = is_counted || (column < of_classes + COUNTED && place < head.item_words);
    let item_first = head.statistics + of_classes + GLOBAL_WORDS + place;
    let rows = head.partials + column * head.items * head.tiles;

    let none = Items(identity(kind), NO_VOXEL, 0u);
    var items = none;
    if head.tiles <= COMBINE_RUN {
        // one item per invocation at a time
        for (var run = invocation; run < head.items; run += FOLD_INVOCATIONS * COMBINE_RUN) {
            var of_run = none;
            let end = min(run + FOLD_INVOCATIONS * COMBINE_RUN, head.items);
            for (var item = run; item < end; item += FOLD_INVOCATIONS) {
                let of_item = fold_tiles(kind, rows + item * head.tiles, 0u, 1u, head.tiles);
                of_run = with_item(kind, head.masked_samples, of_run, item, of_item);
                if kept {
                    statistics_words[item_first + item * head.item_words] = of_item;
                }
            }
            items = with_run(kind, items, of_run);
        }
        let mine = items.first;
        items.first = fold_workgroup(LEAST, invocation, mine);
        // where several invocations have such a voxel, that of the first item
        let others = kind == LEAST && mine != items.first;
        items.all = fold_workgroup(kind, invocation, select(items.all, NO_VOXEL, others));
        items.counting = fold_workgroup(COUNT, invocation, items.counting);
    } else {
        // the whole workgroup takes one item at a time
        for (var run = 0u; run < head.items; run += COMBINE_RUN) {
            var of_run = none;
            let end = min(run + COMBINE_RUN, head.items);
            for (var item = run; item < end; item += 1u) {
                let row = rows + item * head.tiles;
                let mine = fold_tiles(kind, row, invocation, FOLD_INVOCATIONS, head.tiles);
                let of_item = fold_workgroup(kind, invocation, mine);
                of_run = with_item(kind, head.masked_samples, of_run, item, of_item);
                if kept && invocation == 0u {
                    statistics_words[item_first + item * head.item_words] = of_item;
                }
            }
            items = with_run(kind, items, of_run);
        }
    }
    if invocation == 0u {
        if kind == LEAST {
            statistics_words[head.statistics + column] = items.first;
            statistics_words[head.statistics + column + 1u] = items.all;
        } else {
            statistics_words[head.statistics + column] = items.all;
        }
        if is_counted {
            statistics_words[head.statistics + of_classes + ITEMS] = head.items;
            statistics_words[head.statistics + of_classes + COUNTING_ITEMS] = items.counting;
        }
    }
}
