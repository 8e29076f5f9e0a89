// Stage 3, finish: from the statistics to the loss, its report, and the few numbers that the gradient needs.
//
// Per (row, class), a row being an item, or the whole batch with `batch`:
//   f = form − num/den,   form = 1 (one_minus) or 0 (negative)
//   dice              num = 2I + nr,            den = P + T + dr
//   jaccard           num = 2I + nr,            den = 2(P + T − I) + dr
//   tversky           num = I + nr,             den = I + α(P − I) + β(T − I) + dr
//   generalized_dice  num = 2 Σ_c w_c I + nr,   den = Σ_c w_c (P + T) + dr, one a row; w_c = 1/T², 1/T or 1, and where
//                     that is infinite the largest finite one of the row
//   den is clamped from below by denominator_floor; a clamped den has derivative 0
//   overlap = mean or sum of w f over rows and the classes that take part
// Per head:
//   pixel = Σ m ℓ / denominator (mean), Σ m ℓ (sum), or Σ_n (Σ m ℓ / Σ m) over items (sum_of_item_means); the denominator of
//   the mean is Σ_c w_c T_c, Σ m, or Σ m times the classes
//   total = Σ heads of head weight · (overlap weight · overlap + pixel weight · pixel), where a head or a term of weight 0 is
//   switched off: it adds exactly 0, whatever it is. That is told by the weight's bits, and selected, never multiplied
// Over several machines, the global sums (combine.wgsl) are those of all ranks by then. Rows and means that are of items stay
// a rank's own, so what they add up to is a global sum as well: `row_sums` leaves a rank's, and the mean over rows divides by
// the items of all ranks.
// For the gradient:
//   the switches; ∂total/∂I and ∂total/∂P per (row, class); κ times the class parameters, with κ = head weight · pixel weight
//   / denominator, of means of items one per item; and, for who learns them, the derivative of the total by each of a head's
//   three weights
//
// bindings   0  heads          (HEADS)   uniform     the table
//            1  statistics     see combine.wgsl        read; read_write over several machines, for the words of row_sums
//            2  coefficients   parameters; then per head SWITCHES + 2 C · (1, or items) + rows · (2 C + ROW_WORDS)
//                              read_write   f32: 1 where the overlap term is on, 1 where the pixel term is; κ on, κ off per
//                              class; ∂total/∂I, ∂total/∂P per (row, class); this stage's notes per row
//            3  report         2 + per head (REPORT_WORDS + C + what it asks for)  read_write  words: the total; 1, which the
//                              copy of the report takes back; then per head what `report::head_report` reads
//            4  weights        (words)                 read        three a head, at head.weights: the plan's or the caller's
//            5  selection      see top_k.wgsl          read        only where a head has a top-k
// dispatch   one workgroup of FOLD_INVOCATIONS. A table of heads without classes does nothing: that is how a plan warms up
// determinism   bit for bit: heads in order, sums as trees (shared/fold_*.wgsl)

const REPORT_WORDS = 14u;
const REPORT_WRITTEN = 1u;
const NON_FINITE_GRADIENT = 13u;
// words of the global sums that belong to no class: see combine.wgsl
const GLOBAL_WORDS = 10u;
const ITEMS = 7u;
const COUNTING_ITEMS = 8u;
const OVERLAP_SUM = 9u;

// losses of rows and classes that an invocation adds before it adds their sum
const RUN = 64u;
// words of a RowNote
const ROW_WORDS = 4u;
// words of a selection before its partial sums: see top_k.wgsl
const SELECTION_WORDS = 260u;
const NAN = 0x7fc00000u;
// below this 1/T² or 1/T is infinite
const LEAST_T = 1.0e-37;
// what a setting gives that no case below knows: no loss that anyone could take for one
const UNKNOWN = 1.0e30;

//# stand-in
const HEADS = 1u;
const FOLD_INVOCATIONS = 64u;
const DICE = 1u;
const JACCARD = 2u;
const TVERSKY = 3u;
const GENERALIZED_DICE = 4u;
const MEAN = 1u;
const SUMMED = 2u;
const SUM_OF_ITEM_MEANS = 3u;
const SQUARE = 1u;
const SIMPLE = 2u;
const UNIFORM = 3u;
const SWITCHES = 2u;
const BY_CLASS_WEIGHT = 1u;
const BY_VOXEL = 2u;
const BY_VOXEL_AND_CLASS = 3u;
struct Head {
    @align(16) items: u32, classes: u32, voxels: u32, statistics: u32, coefficients: u32, kappa_row: u32, slopes: u32, report: u32,
    class_columns: u32, item_words: u32, hard_counts: u32, item_counts: u32, overlap_losses: u32,
    pixel_kind: u32, pixel_reduction: u32, weights: u32, has_class_parameters: u32, class_parameters: u32,
    pixel_first_class: u32, pixel_denominator: u32, empty: u32, has_labels: u32, counts: u32,
    overlap_kind: u32, overlap_reduction: u32, first_class: u32, batch: u32, smooth_nr: f32,
    smooth_dr: f32, denominator_floor: f32, form: f32, alpha: f32, beta: f32, class_weighting: u32,
    present_classes_only: u32, weighted_overlap: u32, overlap_class_weights: u32, masked_samples: u32,
    top_k: u32, selection: u32, loss_runs: u32, top_coefficients: u32, rows: u32,
}
@group(0) @binding(0) var<uniform> heads: array<Head, 1>;
fn sum_workgroup(invocation: u32, value: f32) -> f32 { return value; }
//# end

@group(0) @binding(1) var<storage, read_write> statistics_words: array<u32>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(3) var<storage, read_write> report: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
//# if losses
@group(0) @binding(5) var<storage, read> selection: array<u32>;
//# end

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

// ±0, told by the bits: a fast-math compiler may take `weight == 0.0` for a reason to multiply by it.
fn is_off(weight: f32) -> bool {
    return (bitcast<u32>(weight) & 0x7fffffffu) == 0u;
}

// A weight times what it weighs; exactly 0 where it is switched off.
fn weighted_by(weight: f32, value: f32) -> f32 {
    return select(weight * value, 0.0, is_off(weight));
}

// A row takes part unless a sample mask leaves no voxel of it.
fn row_counts(head: Head, row: u32) -> bool {
    if head.masked_samples == 0u || head.batch != 0u {
        return true;
    }
    return statistics_words[row_first(head, row) + head.class_columns] != 0u;
}

struct Overlap {
    loss: f32,
    // its derivatives by I and by P
    by_i: f32,
    by_p: f32,
}

// num and den, and their derivatives by I and by P.
struct Ratio {
    num: f32,
    num_by_i: f32,
    den: f32,
    den_by_i: f32,
    den_by_p: f32,
}

// An overlap loss of one class is this formula and nothing else.
fn ratio_of(head: Head, sums: Sums) -> Ratio {
    let i = sums.i;
    let p = sums.p;
    let t = sums.t;
    switch head.overlap_kind {
        case JACCARD: {
            return Ratio(2.0 * i + head.smooth_nr, 2.0, 2.0 * (p + t - i) + head.smooth_dr, -2.0, 2.0);
        }
        case TVERSKY: {
            let den = i + head.alpha * (p - i) + head.beta * (t - i) + head.smooth_dr;
            return Ratio(i + head.smooth_nr, 1.0, den, 1.0 - head.alpha - head.beta, head.alpha);
        }
        case DICE: {
            return Ratio(2.0 * i + head.smooth_nr, 2.0, p + t + head.smooth_dr, 0.0, 1.0);
        }
        default: {
            return Ratio(UNKNOWN, 0.0, 1.0, 0.0, 0.0);
        }
    }
}

fn overlap_of(head: Head, given: Ratio) -> Overlap {
    var r = given;
    if r.den < head.denominator_floor {
        r.den = head.denominator_floor;
        r.den_by_i = 0.0;
        r.den_by_p = 0.0;
    }
    let ratio = r.num / r.den;
    return Overlap(head.form - ratio, (ratio * r.den_by_i - r.num_by_i) / r.den, ratio * r.den_by_p / r.den);
}

// generalized_dice: 1/T², 1/T or 1; negative where it is infinite.
fn class_weighting(head: Head, t: f32) -> f32 {
    switch head.class_weighting {
        case SQUARE: { return select(1.0 / (t * t), -1.0, t * t < LEAST_T); }
        case SIMPLE: { return select(1.0 / t, -1.0, t < LEAST_T); }
        case UNIFORM: { return 1.0; }
        default: { return UNKNOWN; }
    }
}

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

// Rows that take part, of all ranks.
fn counting_rows(head: Head) -> f32 {
    let items = statistics_words[head.statistics + head.class_columns + COUNTING_ITEMS];
    return f32(select(max(items, 1u), 1u, head.batch != 0u));
}

// What finish_overlap needs to know of a row besides its sums.
struct RowNote {
    // what each term is worth in the mean, or in the sum
    share: f32,
    // num, den and the largest finite weight of generalized_dice
    num: f32,
    den: f32,
    largest: f32,
}

// `terms`: the terms of the row's mean.
fn row_share(head: Head, row: u32, counting: f32, terms: f32) -> f32 {
    var share = UNKNOWN;
    switch head.overlap_reduction {
        case MEAN: { share = 1.0 / (counting * terms); }
        case SUMMED: { share = 1.0; }
        default: {}
    }
    return select(0.0, share, row_counts(head, row));
}

//# if row_notes
// What takes a pass over a row's classes: an invocation a row leaves it for all.
fn note_rows(head: Head, invocation: u32, notes: u32, counting: f32) {
    let rows = rows_of(head);
    for (var row = invocation; row < rows; row += FOLD_INVOCATIONS) {
        let first = row_first(head, row);
        var present = 0.0;
        var largest = 0.0;
        for (var c = head.first_class; c < head.classes; c += 1u) {
            let t = sums_at(head, first, c).t;
            present += select(0.0, 1.0, t > 0.0);
            largest = max(largest, class_weighting(head, t));
        }
        var num = 0.0;
        var den = 0.0;
        if head.overlap_kind == GENERALIZED_DICE {
            for (var c = head.first_class; c < head.classes; c += 1u) {
                let sums = sums_at(head, first, c);
                let given = class_weighting(head, sums.t);
                let w = select(given, largest, given < 0.0);
                num += 2.0 * w * sums.i;
                den += w * (sums.p + sums.t);
            }
        }
        var terms = f32(head.classes - head.first_class);
        if head.present_classes_only != 0u {
            terms = max(present, 1.0);
        }
        if head.overlap_kind == GENERALIZED_DICE {
            terms = 1.0;
        }
        let note = notes + ROW_WORDS * row;
        coefficients[note] = row_share(head, row, counting, terms);
        coefficients[note + 1u] = num + head.smooth_nr;
        coefficients[note + 2u] = den + head.smooth_dr;
        coefficients[note + 3u] = largest;
    }
    storageBarrier();
}
//# end

// The loss of a row and class before the reduction, with its class weight; NaN where it takes no part in the mean.
fn write_overlap_loss(head: Head, row: u32, class_index: u32, loss: f32, takes_part: bool) {
    let taking_part = head.classes - head.first_class;
    let c = class_index - head.first_class;
    var weight = 1.0;
    if head.weighted_overlap != 0u {
        weight = coefficients[head.overlap_class_weights + c];
    }
    if head.overlap_kind != GENERALIZED_DICE {
        let at = head.overlap_losses + row * taking_part + c;
        report[at] = select(NAN, bitcast<u32>(weighted_by(weight, loss)), takes_part);
    } else if c == 0u {
        report[head.overlap_losses + row] = select(NAN, bitcast<u32>(loss), takes_part);
    }
}

// The mean or sum over rows and classes, the mean over `counting` rows; writes its slopes by I and P on the way.
fn finish_overlap(head: Head, invocation: u32, counting: f32) -> f32 {
    let classes = head.classes;
    let rows = rows_of(head);
    let slopes = head.slopes;
    let notes = slopes + 2u * rows * classes;
    let head_weight = weights[head.weights];
    let term_weight = weights[head.weights + 1u];
    //# if row_notes
    if head.overlap_kind != 0u {
        note_rows(head, invocation, notes, counting);
    }
    //# end
    var mine = 0.0;
    // in runs, so that no chain of additions is long
    var of_run = 0.0;
    for (var index = invocation; index < rows * classes; index += FOLD_INVOCATIONS) {
        let row = index / classes;
        let c = index - row * classes;
        var loss = 0.0;
        var by_i = 0.0;
        var by_p = 0.0;
        if head.overlap_kind != 0u && c >= head.first_class {
            var note = RowNote(row_share(head, row, counting, f32(classes - head.first_class)), 0.0, 0.0, 0.0);
            //# if row_notes
            let at = notes + ROW_WORDS * row;
            note = RowNote(coefficients[at], coefficients[at + 1u], coefficients[at + 2u], coefficients[at + 3u]);
            //# end
            let sums = sums_at(head, row_first(head, row), c);
            var share = note.share;
            if head.present_classes_only != 0u && !(sums.t > 0.0) {
                share = 0.0;
            }
            let takes_part = share != 0.0;
            if head.weighted_overlap != 0u {
                share *= coefficients[head.overlap_class_weights + c - head.first_class];
            }
            var f = Overlap(0.0, 0.0, 0.0);
            //# if row_notes
            if head.overlap_kind == GENERALIZED_DICE {
                let given = class_weighting(head, sums.t);
                let w = select(given, note.largest, given < 0.0);
                f = overlap_of(head, Ratio(note.num, 2.0 * w, note.den, 0.0, w));
                // one loss a row, told by its first class
                f.loss = select(0.0, f.loss, c == head.first_class);
            }
            //# end
            if head.overlap_kind != GENERALIZED_DICE {
                f = overlap_of(head, ratio_of(head, sums));
            }
            // a share of 0 (a row that takes no part, a class weight of 0) switches off as well
            loss = weighted_by(share, f.loss);
            by_i = weighted_by(head_weight, weighted_by(term_weight, weighted_by(share, f.by_i)));
            by_p = weighted_by(head_weight, weighted_by(term_weight, weighted_by(share, f.by_p)));
            if head.overlap_losses != 0u {
                write_overlap_loss(head, row, c, f.loss, takes_part);
            }
        }
        of_run += loss;
        if (index / FOLD_INVOCATIONS) % RUN == RUN - 1u {
            mine += of_run;
            of_run = 0.0;
        }
        coefficients[slopes + 2u * index] = by_i;
        coefficients[slopes + 2u * index + 1u] = by_p;
    }
    return sum_workgroup(invocation, mine + of_run);
}

// What the mean of the pixel term divides by.
fn pixel_denominator(head: Head, invocation: u32) -> f32 {
    let classes = head.classes;
    let mass = bitcast<f32>(statistics_words[head.statistics + head.class_columns + 1u]);
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
        case BY_VOXEL_AND_CLASS: { return mass * f32(classes - head.pixel_first_class); }
        default: { return 1.0 / UNKNOWN; }
    }
}

//# if item_means
// Σ m ℓ of an item over its Σ m: its mean; 0 of an item without a voxel that counts.
fn item_mean(head: Head, item: u32) -> f32 {
    let at = item_first(head, item) + head.class_columns + 1u;
    let mass = bitcast<f32>(statistics_words[at + 1u]);
    return select(0.0, bitcast<f32>(statistics_words[at]) / mass, !is_off(mass));
}

// κ of an item, with κ = head weight · pixel weight before the division.
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
// Σ of the top_k largest losses: those above the threshold, and as many at it as are left to take. Leaves the threshold, and
// the share of each loss at it, for the gradient.
fn top_sum(head: Head, invocation: u32) -> f32 {
    var mine = 0.0;
    for (var run = invocation; run < head.loss_runs; run += FOLD_INVOCATIONS) {
        mine += bitcast<f32>(selection[head.selection + SELECTION_WORDS + run]);
    }
    let above = sum_workgroup(invocation, mine);
    let threshold = bitcast<f32>(selection[head.selection + 1u]);
    let left = f32(selection[head.selection + 2u]);
    if invocation == 0u {
        coefficients[head.top_coefficients] = threshold;
        coefficients[head.top_coefficients + 1u] = left / f32(selection[head.selection + 3u]);
    }
    return above + left * threshold;
}
//# end

// 2I / (P + T) of a class over the whole batch, without smoothing: NaN where the head has no valid voxel.
fn write_soft_dice(head: Head, invocation: u32) {
    for (var c = invocation; c < head.classes; c += FOLD_INVOCATIONS) {
        let sums = sums_at(head, head.statistics, c);
        let dice = 2.0 * sums.i / (sums.p + sums.t);
        report[head.report + REPORT_WORDS + c] = select(NAN, bitcast<u32>(dice), sums.p + sums.t != 0.0);
    }
}

// TP, FP, FN of each class over the whole batch, and of each item, with the voxels counted of it.
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
// Leaves what the rank's own rows add to the overlap term, before the mean over rows; and in the place of Σ m ℓ what its own
// items add to a pixel term that sums the means of items. One workgroup.
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
                statistics_words[head.statistics + head.class_columns] = bitcast<u32>(means);
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
        let head_weight = weights[head.weights];
        let overlap_weight = weights[head.weights + 1u];
        let pixel_weight = weights[head.weights + 2u];
        let counting = counting_rows(head);
        var overlap_loss = finish_overlap(head, invocation, counting);
        //# if distributed
        if head.batch == 0u {
            let of_all_ranks = bitcast<f32>(statistics_words[head.statistics + head.class_columns + OVERLAP_SUM]);
            overlap_loss = select(of_all_ranks, of_all_ranks / counting, head.overlap_reduction == MEAN);
        }
        //# end
        let denominator = pixel_denominator(head, invocation);
        write_soft_dice(head, invocation);
        if head.hard_counts != 0u {
            write_hard_counts(head, invocation);
        }

        let tile_words = head.statistics + head.class_columns;
        var pixel_sum = bitcast<f32>(statistics_words[tile_words]);
        //# if losses
        if head.top_k > 0u {
            pixel_sum = top_sum(head, invocation);
        }
        //# end
        var kappas = 1u;
        //# if item_means
        if head.pixel_reduction == SUM_OF_ITEM_MEANS {
            kappas = head.items;
            //# if not distributed
            pixel_sum = sum_of_item_means(head, invocation);
            //# end
        }
        //# end
        var divisor = 1.0 / UNKNOWN;
        switch head.pixel_reduction {
            case MEAN: { divisor = denominator; }
            case SUMMED, SUM_OF_ITEM_MEANS: { divisor = 1.0; }
            default: {}
        }
        // A mean over nothing is what `empty` says; its gradient is 0.
        let nothing = is_off(divisor);
        var pixel = 0.0;
        if head.pixel_kind != 0u {
            pixel = select(pixel_sum / divisor, bitcast<f32>(head.empty), nothing);
        }
        let both = weighted_by(head_weight, weighted_by(pixel_weight, 1.0));
        let kappa = select(both / divisor, 0.0, nothing || head.pixel_kind == 0u);
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
            coefficients[head.coefficients] = select(1.0, 0.0, is_off(head_weight) || is_off(overlap_weight));
            coefficients[head.coefficients + 1u] = select(1.0, 0.0, is_off(head_weight) || is_off(pixel_weight));
            let counted = statistics_words[tile_words + 2u];
            let out_of_range = statistics_words[tile_words + 3u];
            // probabilities out of range count all the same; labels do not
            let left_out = select(0u, out_of_range, head.has_labels != 0u);
            report[head.report] = bitcast<u32>(overlap_loss);
            report[head.report + 1u] = bitcast<u32>(weighted_overlap);
            report[head.report + 2u] = bitcast<u32>(pixel);
            report[head.report + 3u] = bitcast<u32>(weighted_pixel);
            report[head.report + 4u] = counted;
            report[head.report + 5u] = statistics_words[tile_words + ITEMS] * head.voxels - counted - left_out;
            report[head.report + 6u] = out_of_range;
            report[head.report + 7u] = statistics_words[tile_words + 5u];
            report[head.report + 8u] = statistics_words[tile_words + 6u];
            report[head.report + 9u] = bitcast<u32>(of_overlap + of_pixel);
            report[head.report + 10u] = bitcast<u32>(weighted_by(head_weight, overlap_loss));
            report[head.report + 11u] = bitcast<u32>(weighted_by(head_weight, pixel));
            report[head.report + 12u] = statistics_words[tile_words + 4u];
            // the gradient stage sets it where it finds one
            report[head.report + NON_FINITE_GRADIENT] = 0u;
        }
    }
    if invocation == 0u {
        report[0] = bitcast<u32>(total_loss);
        report[REPORT_WRITTEN] = 1u;
    }
}
