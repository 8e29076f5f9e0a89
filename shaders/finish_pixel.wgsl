// The pixel term of stage 3 (finish.wgsl), from its sums: what its mean divides by, means of items, and the top-k.
//
//   pixel = Σ m ℓ / denominator (mean), Σ m ℓ (sum), or Σ_n (Σ m ℓ / Σ m) over items (sum_of_item_means); the denominator of
//   the mean is Σ_c w_c T_c, Σ m, or Σ m times the classes that take part, or times Σ_c w_c (weighted_mean); over all voxels m
//   is 1; with a top-k it is k

//# stand-in
const BY_CLASS_WEIGHT = 1u; const BY_VOXEL = 2u; const BY_VOXEL_AND_CLASS = 3u; const BY_ALL = 4u;
const BY_ALL_AND_CLASS = 5u; const MASS = 1u; const ITEMS = 7u; const COUNTING_ITEMS = 8u;
const SELECTION_WORDS = 260u; const TOP_THRESHOLD = 0u; const TOP_SHARE = 1u; const FOLD_INVOCATIONS = 64u; const RUN = 64u;
const UNKNOWN = 1.0e30;
struct Head {
    @align(16) items: u32, classes: u32, statistics: u32, class_columns: u32, has_class_parameters: u32, class_parameters: u32,
    voxels: u32, pixel_denominator: u32, pixel_classes: f32, top_k: u32, selection: u32, loss_runs: u32, top_coefficients: u32,
}
@group(0) @binding(0) var<uniform> heads: array<Head, 1>;
@group(0) @binding(1) var<storage, read_write> statistics_words: array<u32>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(5) var<storage, read> selection: array<u32>;
fn t_of(head: Head, word: u32) -> f32 { return 0.0; }
fn item_first(head: Head, item: u32) -> u32 { return 0u; }
fn is_off(weight: f32) -> bool { return true; }
fn sum_workgroup(invocation: u32, value: f32) -> f32 { return value; }
//# end

fn on_parameter(head: Head, class_index: u32) -> f32 {
    if head.has_class_parameters == 0u {
        return 1.0;
    }
    return coefficients[head.class_parameters + 2u * class_index];
}

fn off_parameter(head: Head, class_index: u32) -> f32 {
    if head.has_class_parameters == 0u {
        return 1.0;
    }
    return coefficients[head.class_parameters + 2u * class_index + 1u];
}

// What the mean of the pixel term divides by.
fn pixel_denominator(head: Head, invocation: u32) -> f32 {
    let classes = head.classes;
    let tile_words = head.statistics + head.class_columns;
    let mass = bitcast<f32>(statistics_words[tile_words + MASS]);
    var mine = 0.0;
    for (var c = invocation; c < classes; c += FOLD_INVOCATIONS) {
        mine += on_parameter(head, c) * t_of(head, statistics_words[head.statistics + 2u * classes + c]);
    }
    let weighted = sum_workgroup(invocation, mine);
    if head.top_k > 0u {
        return f32(head.top_k);
    }
    switch head.pixel_denominator {
        case BY_CLASS_WEIGHT: { return weighted; }
        case BY_VOXEL: { return mass; }
        case BY_VOXEL_AND_CLASS: { return mass * head.pixel_classes; }
        case BY_ALL: { return f32(statistics_words[tile_words + ITEMS]) * f32(head.voxels); }
        // a class of an item that a sample mask leaves out is nowhere
        case BY_ALL_AND_CLASS: {
            return f32(statistics_words[tile_words + COUNTING_ITEMS]) * f32(head.voxels) * head.pixel_classes;
        }
        default: { return 1.0 / UNKNOWN; }
    }
}

//# if item_means
// The mean of an item, Σ m ℓ / Σ m; 0 where none of its voxels counts.
fn item_mean(head: Head, item: u32) -> f32 {
    let at = item_first(head, item) + head.class_columns + 1u;
    let mass = bitcast<f32>(statistics_words[at + 1u]);
    return select(0.0, bitcast<f32>(statistics_words[at]) / mass, !is_off(mass));
}

// κ of an item: `kappa`, which is head weight · pixel weight, divided by the item's Σ m.
fn item_kappa(head: Head, item: u32, kappa: f32) -> f32 {
    let mass = bitcast<f32>(statistics_words[item_first(head, item) + head.class_columns + 2u]);
    return select(0.0, kappa / mass, !is_off(mass));
}

fn sum_of_item_means(head: Head, invocation: u32) -> f32 {
    var mine = 0.0;
    // in runs, so that no chain of additions is long
    var of_run = 0.0;
    for (var item = invocation; item < head.items; item += FOLD_INVOCATIONS) {
        of_run += item_mean(head, item);
        if (item / FOLD_INVOCATIONS) % RUN == RUN - 1u {
            mine += of_run;
            of_run = 0.0;
        }
    }
    return sum_workgroup(invocation, mine + of_run);
}
//# end

//# if losses
// The sum of the top_k largest losses: all above the threshold, and as many equal to it as are left to take. Leaves, for the
// gradient, the threshold, and the share of each loss that equals it.
fn top_sum(head: Head, invocation: u32) -> f32 {
    var mine = 0.0;
    for (var run = invocation; run < head.loss_runs; run += FOLD_INVOCATIONS) {
        mine += bitcast<f32>(selection[head.selection + SELECTION_WORDS + run]);
    }
    let above = sum_workgroup(invocation, mine);
    let threshold = bitcast<f32>(selection[head.selection + 1u]);
    let left = f32(selection[head.selection + 2u]);
    if invocation == 0u {
        coefficients[head.top_coefficients + TOP_THRESHOLD] = threshold;
        coefficients[head.top_coefficients + TOP_SHARE] = left / f32(selection[head.selection + 3u]);
    }
    return above + left * threshold;
}
//# end
