// The overlap term of stage 3 (finish.wgsl), from its sums: its value, and its slopes by I and P.
//
// Per (row, class), a row being an item, or the whole batch with `batch`:
//   f = h(num/den), with the ratio r:
//   one_minus         h = 1 − r        negative          h = −r        log               h = −ln max(r, eps)
//   dice              num = 2I + nr,            den = P + T + dr
//   jaccard           num = 2I + nr,            den = 2(P + T − I) + dr
//   tversky           num = I + nr,             den = I + α(P − I) + β(T − I) + dr
//   generalized_dice  num = 2 Σ_c w_c I + nr,   den = Σ_c w_c (P + T) + dr, one per row; w_c = 1/T², 1/T or 1, and where
//                     that is infinite the largest finite one of the row
//   den is clamped from below by denominator_floor; a clamped den has derivative 0
//   overlap = mean or sum of w f over rows and the classes that take part
// Its slopes are scaled by the weights on the way, so that the gradient stage multiplies by the upstream gradient alone.

//# stand-in
const DICE = 1u; const JACCARD = 2u; const TVERSKY = 3u; const GENERALIZED_DICE = 4u; const SQUARE = 1u; const SIMPLE = 2u;
const UNIFORM = 3u; const ONE_MINUS = 1u; const NEGATIVE = 2u; const LOG = 3u; const MEAN = 1u; const SUMMED = 2u; const HEAD_WEIGHT = 0u; const OVERLAP_WEIGHT = 1u;
const COUNTING_ITEMS = 8u; const ROW_WORDS = 4u; const FOLD_INVOCATIONS = 64u; const RUN = 64u; const NAN = 0x7fc00000u;
const UNKNOWN = 1.0e30;
struct Head {
    @align(16) classes: u32, statistics: u32, slopes: u32, class_columns: u32, overlap_losses: u32, weights: u32,
    overlap_kind: u32, overlap_reduction: u32, first_class: u32, batch: u32, smooth_nr: f32, smooth_dr: f32,
    denominator_floor: f32, form: u32, form_parameter: f32, alpha: f32, beta: f32, class_weighting: u32, present_classes_only: u32,
    weighted_overlap: u32, overlap_class_weights: u32, masked_samples: u32,
}
@group(0) @binding(0) var<uniform> heads: array<Head, 1>;
@group(0) @binding(1) var<storage, read_write> statistics_words: array<u32>;
@group(0) @binding(2) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(3) var<storage, read_write> report: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
struct Sums { i: f32, p: f32, t: f32 }
fn sums_at(head: Head, first: u32, class_index: u32) -> Sums { return Sums(0.0, 0.0, 0.0); }
fn rows_of(head: Head) -> u32 { return 0u; }
fn row_first(head: Head, row: u32) -> u32 { return 0u; }
fn weighted_by(weight: f32, value: f32) -> f32 { return 0.0; }
fn sum_workgroup(invocation: u32, value: f32) -> f32 { return value; }
//# end

// below this 1/T² or 1/T is infinite
const LEAST_T = 1.0e-37;

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

// What is made of a ratio.
struct Formed {
    loss: f32,
    // −∂loss/∂ratio
    fall: f32,
}

fn formed(head: Head, ratio: f32) -> Formed {
    switch head.form {
        case ONE_MINUS: { return Formed(1.0 - ratio, 1.0); }
        case NEGATIVE: { return Formed(0.0 - ratio, 1.0); }
        case LOG: {
            // selected: a NaN, which `max` may lose, is not below eps
            let below = ratio < head.form_parameter;
            let kept = select(ratio, head.form_parameter, below);
            return Formed(-log(kept), select(1.0 / kept, 0.0, below));
        }
        default: { return Formed(UNKNOWN, 0.0); }
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
    let h = formed(head, ratio);
    let by_i = h.fall * ((ratio * r.den_by_i - r.num_by_i) / r.den);
    let by_p = h.fall * (ratio * r.den_by_p / r.den);
    return Overlap(h.loss, by_i, by_p);
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
// What takes a pass over a row's classes: one invocation per row leaves it for all.
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
    let head_weight = weights[head.weights + HEAD_WEIGHT];
    let term_weight = weights[head.weights + OVERLAP_WEIGHT];
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
                // one loss per row, counted at its first class
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
