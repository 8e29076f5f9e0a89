// Stage 3, finish: from the statistics to the loss, its report, and the few numbers that the gradient needs. The overlap term
// is in finish_overlap.wgsl, the pixel term in finish_pixel.wgsl.
//
// The loss:
//   total = Σ over heads of head weight · (overlap weight · overlap + pixel weight · pixel)
//   A head or a term of weight 0 is switched off: it adds exactly 0, whatever its value. Whether a weight is 0 is decided by
//   its bits, and the 0 that is added comes from a selection, never from a product.
// For the gradient:
//   the switches; ∂total/∂I and ∂total/∂P per (row, class); κ times the class parameters, with κ = head weight · pixel weight
//   / denominator, one per item where the pixel term takes means of items; and, for callers that learn the weights, the
//   derivative of the total by each of a head's three weights.
// Over several machines, the global sums (combine.wgsl) are already those of all ranks. Rows that are items, and means of
// items, stay on their rank; what they add up to is a global sum as well. `row_sums` leaves the rank's part of it, and the
// mean over rows divides by the items of all ranks.
//
// bindings   0  heads          (HEADS)   uniform     the table
//            1  statistics     see combine.wgsl        read; read_write over several machines, for the words of row_sums
//            2  coefficients   parameters; then per head SWITCHES + 2 C · (1, or items) + rows · (2 C + ROW_WORDS) + 2
//                              read_write   f32: 1 where the overlap term is on, 1 where the pixel term is; κ on, κ off per
//                              class; ∂total/∂I, ∂total/∂P per (row, class); this stage's notes per row; the top-k's
//                              threshold, and the share of a loss at it
//            3  report         2 + per head (REPORT_WORDS + C + what it asks for)  read_write  words: the total; a 1, which
//                              the copy of the report clears; then per head what `report::head_report` reads
//            4  weights        (words)                 read        three per head, at head.weights: the plan's, or the
//                              caller's
//            5  selection      see top_k.wgsl          read        only where a head has a top-k
// dispatch   one workgroup of FOLD_INVOCATIONS invocations. A plan warms up with a table of zeros: heads without classes, for
//            which this does nothing
// determinism   bit for bit: heads in order, sums as trees (shared/fold_*.wgsl)

//# stand-in
const MEAN = 1u; const SUMMED = 2u; const SUM_OF_ITEM_MEANS = 3u; const WEIGHTED_MEAN = 4u; const HEAD_WEIGHT = 0u;
const OVERLAP_WEIGHT = 1u;
const PIXEL_WEIGHT = 2u; const PIXEL_SUM = 0u; const COUNTED = 2u; const OUT_OF_RANGE = 3u; const NON_FINITE = 4u;
const FIRST_ITEM = 5u; const FIRST_VOXEL = 6u; const ITEMS = 7u; const OVERLAP_SUM = 9u; const GLOBAL_WORDS = 10u;
const SWITCHES = 2u; const REPORT_TOTAL = 0u; const REPORT_WRITTEN = 1u; const REPORT_OVERLAP = 0u;
const REPORT_WEIGHTED_OVERLAP = 1u; const REPORT_PIXEL = 2u; const REPORT_WEIGHTED_PIXEL = 3u; const REPORT_COUNTED = 4u;
const REPORT_IGNORED = 5u; const REPORT_OUT_OF_RANGE = 6u; const REPORT_FIRST_ITEM = 7u; const REPORT_FIRST_VOXEL = 8u;
const REPORT_D_WEIGHT = 9u; const REPORT_D_OVERLAP_WEIGHT = 10u; const REPORT_D_PIXEL_WEIGHT = 11u;
const REPORT_NON_FINITE_LOGITS = 12u; const REPORT_NON_FINITE_GRADIENT = 13u; const REPORT_WORDS = 14u;
const OVERLAP_SWITCH = 0u; const PIXEL_SWITCH = 1u; const FOLD_INVOCATIONS = 64u;
struct Head {
    @align(16) items: u32, classes: u32, voxels: u32, statistics: u32, coefficients: u32, kappa_row: u32,
    report: u32,
    class_columns: u32, item_words: u32, hard_counts: u32, item_counts: u32, weights: u32, has_labels: u32,
    counts: u32, has_pixel: u32, pixel_reduction: u32, empty: u32, top_k: u32, overlap_reduction: u32, batch: u32,
    rows: u32,
}
@group(0) @binding(0) var<uniform> heads: array<Head, 1>;
fn finish_overlap(head: Head, invocation: u32, counting: f32) -> f32 { return 0.0; }
fn powered_overlap(head: Head, invocation: u32, mean: f32) -> f32 { return mean; }
fn counting_rows(head: Head) -> f32 { return 0.0; }
fn on_parameter(head: Head, class_index: u32) -> f32 { return 0.0; }
fn off_parameter(head: Head, class_index: u32) -> f32 { return 0.0; }
fn pixel_denominator(head: Head, invocation: u32) -> f32 { return 0.0; }
fn item_kappa(head: Head, item: u32, kappa: f32) -> f32 { return 0.0; }
fn sum_of_item_means(head: Head, invocation: u32) -> f32 { return 0.0; }
fn top_sum(head: Head, invocation: u32) -> f32 { return 0.0; }
//# end

// how many losses of rows and classes, or means of items, an invocation adds up before it adds their sum to the rest
const RUN = 64u;
const NAN = 0x7fc00000u;
// what a setting gives that no case handles: too large to be taken for a loss
const UNKNOWN = 1.0e30;

//# if distributed
@group(0) @binding(1) var<storage, read_write> statistics_words: array<u32>;
//# else
//#= @group(0) @binding(1) var<storage, read> statistics_words: array<u32>;
//# end
@group(0) @binding(2) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(3) var<storage, read_write> report: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read> selection: array<u32>; //# if losses

// I, P, T of a row and class.
struct Sums {
    i: f32,
    p: f32,
    t: f32,
}

// `first` is the row's first word.
fn sums_at(head: Head, first: u32, class_index: u32) -> Sums {
    let at = first + class_index;
    let t = statistics_words[at + 2u * head.classes];
    return Sums(
        bitcast<f32>(statistics_words[at]),
        bitcast<f32>(statistics_words[at + head.classes]),
        t_of(head, t),
    );
}

fn t_of(head: Head, word: u32) -> f32 {
    if head.counts != 0u {
        return f32(word);
    }
    return bitcast<f32>(word);
}

fn rows_of(head: Head) -> u32 {
    return select(head.items, 1u, head.batch != 0u);
}

// The first word of a row: the global sums with `batch`, else the item's.
fn row_first(head: Head, row: u32) -> u32 {
    return select(item_first(head, row), head.statistics, head.batch != 0u);
}

fn item_first(head: Head, item: u32) -> u32 {
    return head.statistics + head.class_columns + GLOBAL_WORDS + item * head.item_words;
}

// ±0, by its bits: a fast-math compiler may turn a selection by `weight == 0.0` into a multiplication.
fn is_off(weight: f32) -> bool {
    return (bitcast<u32>(weight) & 0x7fffffffu) == 0u;
}

// A value times its weight; exactly 0 where the weight is 0.
fn weighted_by(weight: f32, value: f32) -> f32 {
    return select(weight * value, 0.0, is_off(weight));
}

// 2I / (P + T) of a class over the whole batch, without smoothing: NaN where P + T is 0, as where no voxel counts.
fn write_soft_dice(head: Head, invocation: u32) {
    for (var c = invocation; c < head.classes; c += FOLD_INVOCATIONS) {
        let sums = sums_at(head, head.statistics, c);
        let dice = 2.0 * sums.i / (sums.p + sums.t);
        report[head.report + REPORT_WORDS + c] = select(NAN, bitcast<u32>(dice), sums.p + sums.t != 0.0);
    }
}

// TP, FP, FN of each class over the whole batch, and, where the head asks for them, of each item, with the item's voxels
// counted.
fn write_hard_counts(head: Head, invocation: u32) {
    let words = head.class_columns - 3u * head.classes;
    for (var i = invocation; i < words; i += FOLD_INVOCATIONS) {
        report[head.hard_counts + i] = statistics_words[head.statistics + 3u * head.classes + i];
    }
    if head.item_counts == 0u {
        return;
    }
    for (var i = invocation; i < head.items * (words + 1u); i += FOLD_INVOCATIONS) {
        let item = i / (words + 1u);
        let from_item = item_first(head, item) + 3u * head.classes + i - item * (words + 1u);
        report[head.item_counts + i] = statistics_words[from_item];
    }
}

//# if distributed
// Leaves what the rank's own rows add to the overlap term, before the mean divides by the rows. Where the pixel term sums
// means of items, leaves in the place of Σ m ℓ what the rank's own items add to it. One workgroup.
@compute @workgroup_size(FOLD_INVOCATIONS)
fn row_sums(@builtin(local_invocation_index) invocation: u32) {
    if heads[0].classes == 0u {
        return;
    }
    for (var index = 0u; index < heads[0].rows; index += 1u) {
        let head = heads[index];
        let sum = finish_overlap(head, invocation, 1.0);
        if invocation == 0u {
            statistics_words[head.statistics + head.class_columns + OVERLAP_SUM] = bitcast<u32>(sum);
        }
        //# if item_means
        if head.pixel_reduction == SUM_OF_ITEM_MEANS {
            let means = sum_of_item_means(head, invocation);
            if invocation == 0u {
                statistics_words[head.statistics + head.class_columns + PIXEL_SUM] = bitcast<u32>(means);
            }
        }
        //# end
    }
}
//# end

@compute @workgroup_size(FOLD_INVOCATIONS)
fn finish(@builtin(local_invocation_index) invocation: u32) {
    if heads[0].classes == 0u {
        return;
    }
    var total_loss = 0.0;
    for (var index = 0u; index < heads[0].rows; index += 1u) {
        let head = heads[index];
        let classes = head.classes;
        let head_weight = weights[head.weights + HEAD_WEIGHT];
        let overlap_weight = weights[head.weights + OVERLAP_WEIGHT];
        let pixel_weight = weights[head.weights + PIXEL_WEIGHT];
        let counting = counting_rows(head);
        var overlap_loss = finish_overlap(head, invocation, counting);
        //# if distributed
        if head.batch == 0u {
            let of_all_ranks = bitcast<f32>(statistics_words[head.statistics + head.class_columns + OVERLAP_SUM]);
            overlap_loss = select(of_all_ranks / counting, of_all_ranks, head.overlap_reduction == SUMMED);
        }
        //# end
        overlap_loss = powered_overlap(head, invocation, overlap_loss);
        let denominator = pixel_denominator(head, invocation);
        write_soft_dice(head, invocation);
        if head.hard_counts != 0u {
            write_hard_counts(head, invocation);
        }

        let tile_words = head.statistics + head.class_columns;
        var pixel_sum = bitcast<f32>(statistics_words[tile_words + PIXEL_SUM]);
        //# if losses
        if head.top_k > 0u {
            pixel_sum = top_sum(head, invocation);
        }
        //# end
        var kappas = 1u;
        //# if item_means
        if head.pixel_reduction == SUM_OF_ITEM_MEANS {
            kappas = head.items;
            pixel_sum = sum_of_item_means(head, invocation); //# if not distributed
        }
        //# end
        var divisor = 1.0 / UNKNOWN;
        switch head.pixel_reduction {
            case MEAN, WEIGHTED_MEAN: { divisor = denominator; }
            case SUMMED, SUM_OF_ITEM_MEANS: { divisor = 1.0; }
            default: {}
        }
        // A mean over nothing is `empty`; its gradient is 0.
        let nothing = is_off(divisor);
        var pixel = 0.0;
        if head.has_pixel != 0u {
            pixel = select(pixel_sum / divisor, bitcast<f32>(head.empty), nothing);
        }
        let both = weighted_by(head_weight, weighted_by(pixel_weight, 1.0));
        let kappa = select(both / divisor, 0.0, nothing || head.has_pixel == 0u);
        for (var index = invocation; index < kappas * classes; index += FOLD_INVOCATIONS) {
            let item = index / classes;
            let c = index - item * classes;
            var of_item = kappa;
            //# if item_means
            if head.pixel_reduction == SUM_OF_ITEM_MEANS {
                of_item = item_kappa(head, item, kappa);
            }
            //# end
            let at = head.coefficients + SWITCHES + item * head.kappa_row + 2u * c;
            coefficients[at] = of_item * on_parameter(head, c);
            coefficients[at + 1u] = of_item * off_parameter(head, c);
        }
        let of_overlap = weighted_by(overlap_weight, overlap_loss);
        let of_pixel = weighted_by(pixel_weight, pixel);
        let weighted_overlap = weighted_by(head_weight, of_overlap);
        let weighted_pixel = weighted_by(head_weight, of_pixel);
        total_loss += weighted_overlap + weighted_pixel;

        if invocation == 0u {
            coefficients[head.coefficients + OVERLAP_SWITCH] = select(1.0, 0.0, is_off(head_weight) || is_off(overlap_weight));
            coefficients[head.coefficients + PIXEL_SWITCH] = select(1.0, 0.0, is_off(head_weight) || is_off(pixel_weight));
            let counted = statistics_words[tile_words + COUNTED];
            let out_of_range = statistics_words[tile_words + OUT_OF_RANGE];
            // a voxel whose label is out of range does not count; one whose probabilities are out of range does
            let left_out = select(0u, out_of_range, head.has_labels != 0u);
            report[head.report + REPORT_OVERLAP] = bitcast<u32>(overlap_loss);
            report[head.report + REPORT_WEIGHTED_OVERLAP] = bitcast<u32>(weighted_overlap);
            report[head.report + REPORT_PIXEL] = bitcast<u32>(pixel);
            report[head.report + REPORT_WEIGHTED_PIXEL] = bitcast<u32>(weighted_pixel);
            report[head.report + REPORT_COUNTED] = counted;
            report[head.report + REPORT_IGNORED] = statistics_words[tile_words + ITEMS] * head.voxels - counted - left_out;
            report[head.report + REPORT_OUT_OF_RANGE] = out_of_range;
            report[head.report + REPORT_FIRST_ITEM] = statistics_words[tile_words + FIRST_ITEM];
            report[head.report + REPORT_FIRST_VOXEL] = statistics_words[tile_words + FIRST_VOXEL];
            report[head.report + REPORT_D_WEIGHT] = bitcast<u32>(of_overlap + of_pixel);
            report[head.report + REPORT_D_OVERLAP_WEIGHT] = bitcast<u32>(weighted_by(head_weight, overlap_loss));
            report[head.report + REPORT_D_PIXEL_WEIGHT] = bitcast<u32>(weighted_by(head_weight, pixel));
            report[head.report + REPORT_NON_FINITE_LOGITS] = statistics_words[tile_words + NON_FINITE];
            // the gradient stage sets it to 1 where it stores a value that is not finite
            report[head.report + REPORT_NON_FINITE_GRADIENT] = 0u;
        }
    }
    if invocation == 0u {
        report[REPORT_TOTAL] = bitcast<u32>(total_loss);
        report[REPORT_WRITTEN] = 1u;
    }
}
