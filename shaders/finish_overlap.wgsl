// The overlap term of stage 3 (finish.wgsl), from its sums: its value, and its slopes by I and P.
//
// Per (row, class), a row being an item, or the whole batch with `batch`; with one ratio per row (`micro`) I, P and T are first
// summed over its classes, each times v_c:
//   r = num/den
//   dice       num = 2I + nr,            den = P + T + dr
//   jaccard    num = 2I + nr,            den = 2(P + T − I) + dr
//   tversky    num = I + nr,             den = I + α(P − I) + β(T − I) + dr
//   mcc        num = V I − P T + nr,     den = √(P T (V − T) (V − P) + dr),  V = Σ m; `smooth_counts` is added to each of TP,
//              FP, FN, TN. Without it a class with P = I = T is 1
//   den is clamped from below by denominator_floor; a clamped den has derivative 0
//   v_c = w_c, times 1/T², 1/T or 1 for generalized_dice, and where that is infinite the largest finite one of the row
//   y = 1 − r (one_minus), −r (negative), r (identity), −ln max(r, eps) (log), ln cosh(1 − r) (log_cosh)
//   f = y, or max(y, eps)^γ
//   a class with T = 0 may be 0 (`zero`), or leave the mean of its row (`skip`)
//   of a row:    Σ_c w f over the number of classes (mean), over Σ w (weighted_mean), or over 1 (sum; then rows are summed too)
//   of the term: L, the mean or sum over rows; or max(L, eps)^power_of_mean
// Its slopes are scaled by the weights on the way, so that the gradient stage multiplies by the upstream gradient alone.

//# stand-in
const DICE = 1u; const JACCARD = 2u; const TVERSKY = 3u; const GENERALIZED_DICE = 4u; const MCC = 5u; const SQUARE = 1u;
const SIMPLE = 2u; const UNIFORM = 3u; const ONE_MINUS = 1u; const NEGATIVE = 2u; const LOG = 3u; const IDENTITY = 4u;
const LOG_COSH = 5u; const SKIP_ABSENT = 1u; const ZERO_ABSENT = 2u; const CLASS_WEIGHT = 0u; const CLASS_GAMMA = 1u;
const CLASS_PLACE = 2u; const CLASS_NUMBERS = 3u; const NO_PLACE = 0xffffffffu; const MEAN = 1u; const SUMMED = 2u;
const WEIGHTED_MEAN = 4u; const HEAD_WEIGHT = 0u; const OVERLAP_WEIGHT = 1u; const MASS = 1u; const COUNTED = 2u;
const COUNTING_ITEMS = 8u; const ROW_WORDS = 5u; const FOLD_INVOCATIONS = 64u; const RUN = 64u; const NAN = 0x7fc00000u;
const UNKNOWN = 1.0e30;
struct Head {
    @align(16) classes: u32, statistics: u32, slopes: u32, class_columns: u32, overlap_losses: u32, weights: u32, has_labels: u32, counts: u32,
    overlap_kind: u32, overlap_reduction: u32, first_class: u32, batch: u32, smooth_nr: f32, smooth_dr: f32,
    denominator_floor: f32, form: u32, form_gamma: f32, eps: f32, alpha: f32, beta: f32, class_weighting: u32, micro: u32,
    absent: u32, power_of_mean: f32, taking_part: u32, mean_terms: f32, has_class_numbers: u32, class_numbers: u32,
    masked_samples: u32,
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

// What a class brings to its row.
struct OfClass {
    weight: f32,
    gamma: f32,
    // among those that take part, or NO_PLACE
    place: u32,
}

fn of_class(head: Head, class_index: u32) -> OfClass {
    if head.has_class_numbers == 0u {
        let place = select(NO_PLACE, class_index - head.first_class, class_index >= head.first_class);
        return OfClass(1.0, head.form_gamma, place);
    }
    let at = head.class_numbers + CLASS_NUMBERS * class_index;
    let place = coefficients[at + CLASS_PLACE];
    let gamma = coefficients[at + CLASS_GAMMA];
    return OfClass(coefficients[at + CLASS_WEIGHT], gamma, select(u32(max(place, 0.0)), NO_PLACE, place < 0.0));
}

// The ratio, and its derivatives by I and by P.
struct Ratio {
    r: f32,
    by_i: f32,
    by_p: f32,
}

// `by`: the derivatives of num by I, of den by I, of den by P.
fn quotient(head: Head, num: f32, given_den: f32, by: vec3<f32>) -> Ratio {
    let floored = given_den < head.denominator_floor;
    let den = select(given_den, head.denominator_floor, floored);
    let den_by = select(by.yz, vec2<f32>(), vec2<bool>(floored));
    let r = num / den;
    return Ratio(r, (by.x - r * den_by.x) / den, -r * den_by.y / den);
}

// V of a row, and V − T of a class there.
struct Voxels {
    all: f32,
    others: f32,
}

fn voxels_of(head: Head, row: u32, class_index: u32) -> Voxels {
    let first = row_first(head, row);
    let t = statistics_words[first + 2u * head.classes + class_index];
    // an item has the voxels counted, Σ m ℓ and Σ m behind its classes
    let of_classes = first + head.class_columns;
    if head.counts != 0u {
        let counted = statistics_words[of_classes + select(0u, COUNTED, head.batch != 0u)];
        return Voxels(f32(counted), f32(counted - t));
    }
    let mass = bitcast<f32>(statistics_words[of_classes + select(2u, MASS, head.batch != 0u)]);
    return Voxels(mass, mass - bitcast<f32>(t));
}

// Matthews' correlation coefficient by shares of V, whose products f32 holds: with i, p, t = I/V, P/V, T/V
//   N = i − p t + nr/V²,   D = p t (1 − p) (1 − t) + dr/V⁴,   r = N/√D
//   ∂r/∂I = 1/(V √D),      ∂r/∂P = −t/(V √D) − r t (1 − t) (1 − 2p)/(2 D V)
fn correlation(head: Head, sums: Sums, voxels: Voxels) -> Ratio {
    let smooth_counts = head.alpha;
    if smooth_counts == 0.0 && sums.p == sums.i && sums.t == sums.i {
        return Ratio(1.0, 0.0, 0.0);
    }
    let v = voxels.all + 4.0 * smooth_counts;
    let i = (sums.i + smooth_counts) / v;
    let other = (voxels.others + 2.0 * smooth_counts) / v;
    let p = (sums.p + 2.0 * smooth_counts) / v;
    let t = (sums.t + 2.0 * smooth_counts) / v;
    // Where every label is this class, P is I whatever p is, and t is 1: what roundings make of that would be multiplied by V.
    if other == 0.0 && head.has_labels != 0u {
        let den = max(sqrt(head.smooth_dr), head.denominator_floor);
        return Ratio(head.smooth_nr / den, 0.0, 0.0);
    }
    let numerator = i - p * t + head.smooth_nr / v / v;
    let square = p * t * max(1.0 - p, 0.0) * other + head.smooth_dr / v / v / v / v;
    let root = sqrt(square);
    let floor = head.denominator_floor / v / v;
    let floored = root < floor;
    let den = select(root, floor, floored);
    let r = numerator / den;
    let bend = select(r * t * other * (1.0 - 2.0 * p) / (2.0 * square * v), 0.0, floored);
    return Ratio(r, 1.0 / (v * den), -t / (v * den) - bend);
}

// An overlap loss is one of these formulas and nothing else.
fn ratio_of(head: Head, row: u32, class_index: u32, sums: Sums) -> Ratio {
    let i = sums.i;
    let p = sums.p;
    let t = sums.t;
    let nr = head.smooth_nr;
    let dr = head.smooth_dr;
    switch head.overlap_kind {
        case JACCARD: {
            return quotient(head, 2.0 * i + nr, 2.0 * (p + t - i) + dr, vec3<f32>(2.0, -2.0, 2.0));
        }
        case TVERSKY: {
            let den = i + head.alpha * (p - i) + head.beta * (t - i) + dr;
            return quotient(head, i + nr, den, vec3<f32>(1.0, 1.0 - head.alpha - head.beta, head.alpha));
        }
        case DICE, GENERALIZED_DICE: {
            return quotient(head, 2.0 * i + nr, p + t + dr, vec3<f32>(2.0, 0.0, 1.0));
        }
        case MCC: {
            return correlation(head, sums, voxels_of(head, row, class_index));
        }
        default: {
            return Ratio(UNKNOWN, 0.0, 0.0);
        }
    }
}

// A value, and its derivative by what it is made of.
struct Formed {
    value: f32,
    slope: f32,
}

// y^γ with y at least eps, where γ is not 1.
fn power_of(y: f32, gamma: f32, eps: f32) -> Formed {
    if gamma == 1.0 {
        return Formed(y, 1.0);
    }
    // selected: a NaN, which `max` may lose, is not below eps
    let below = y < eps;
    let kept = select(y, eps, below);
    return Formed(pow(kept, gamma), select(gamma * pow(kept, gamma - 1.0), 0.0, below));
}

fn log_cosh(x: f32) -> f32 {
    let square = x * x;
    let series = square * (0.5 - square * (1.0 / 12.0 - square * (1.0 / 45.0 - square * (17.0 / 2520.0))));
    let far = abs(x) + log(1.0 + exp(-2.0 * abs(x))) - 0.69314718;
    return select(far, series, abs(x) < 0.3);
}

// The form of a ratio.
fn formed(head: Head, r: f32) -> Formed {
    switch head.form {
        case ONE_MINUS: { return Formed(1.0 - r, -1.0); }
        case NEGATIVE: { return Formed(0.0 - r, -1.0); }
        case IDENTITY: { return Formed(r, 1.0); }
        case LOG: {
            let below = r < head.eps;
            let kept = select(r, head.eps, below);
            return Formed(-log(kept), select(-1.0 / kept, 0.0, below));
        }
        case LOG_COSH: { return Formed(log_cosh(1.0 - r), -tanh(1.0 - r)); }
        default: { return Formed(UNKNOWN, 0.0); }
    }
}

struct Overlap {
    loss: f32,
    // its derivatives by I and by P
    by_i: f32,
    by_p: f32,
}

fn overlap_of(head: Head, ratio: Ratio, gamma: f32) -> Overlap {
    let y = formed(head, ratio.r);
    let f = power_of(y.value, gamma, head.eps);
    let slope = f.slope * y.slope;
    return Overlap(f.value, slope * ratio.by_i, slope * ratio.by_p);
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

// v of a class in its row's one ratio; `largest`: the largest finite weight by T of the row.
fn weight_in_row(head: Head, own: OfClass, t: f32, largest: f32) -> f32 {
    let given = class_weighting(head, t);
    return own.weight * select(given, largest, given < 0.0);
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
    // micro: the row's sums, and the largest finite weight of generalized_dice
    sums: Sums,
    largest: f32,
}

// `terms`: what the row's mean divides by.
fn row_share(head: Head, row: u32, counting: f32, terms: f32) -> f32 {
    var share = UNKNOWN;
    switch head.overlap_reduction {
        case MEAN, WEIGHTED_MEAN: { share = select(0.0, 1.0 / (counting * terms), terms > 0.0); }
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
        for (var c = 0u; c < head.classes; c += 1u) {
            let own = of_class(head, c);
            if own.place != NO_PLACE {
                let t = sums_at(head, first, c).t;
                let worth = select(1.0, own.weight, head.overlap_reduction == WEIGHTED_MEAN);
                present += select(0.0, worth, t > 0.0);
                largest = max(largest, class_weighting(head, t));
            }
        }
        var of_row = Sums(0.0, 0.0, 0.0);
        for (var c = 0u; c < head.classes; c += 1u) {
            let own = of_class(head, c);
            if head.micro != 0u && own.place != NO_PLACE {
                let sums = sums_at(head, first, c);
                let v = weight_in_row(head, own, sums.t, largest);
                of_row = Sums(of_row.i + v * sums.i, of_row.p + v * sums.p, of_row.t + v * sums.t);
            }
        }
        let note = notes + ROW_WORDS * row;
        let terms = select(head.mean_terms, present, head.absent == SKIP_ABSENT);
        coefficients[note] = row_share(head, row, counting, terms);
        coefficients[note + 1u] = of_row.i;
        coefficients[note + 2u] = of_row.p;
        coefficients[note + 3u] = of_row.t;
        coefficients[note + 4u] = largest;
    }
    storageBarrier();
}
//# end

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
        let own = of_class(head, c);
        var loss = 0.0;
        var by_i = 0.0;
        var by_p = 0.0;
        if head.overlap_kind != 0u && own.place != NO_PLACE {
            let sums = sums_at(head, row_first(head, row), c);
            var share = row_share(head, row, counting, head.mean_terms);
            var f = Overlap(0.0, 0.0, 0.0);
            //# if row_notes
            let at = notes + ROW_WORDS * row;
            let of_row = Sums(coefficients[at + 1u], coefficients[at + 2u], coefficients[at + 3u]);
            let note = RowNote(coefficients[at], of_row, coefficients[at + 4u]);
            share = note.share;
            if head.micro != 0u {
                let v = weight_in_row(head, own, sums.t, note.largest);
                f = overlap_of(head, ratio_of(head, row, c, note.sums), head.form_gamma);
                // one loss per row, counted at its first class
                f = Overlap(select(0.0, f.loss, own.place == 0u), weighted_by(v, f.by_i), weighted_by(v, f.by_p));
            }
            //# end
            let is_absent = !(sums.t > 0.0);
            share = select(share, 0.0, head.absent == SKIP_ABSENT && is_absent);
            let takes_part = share != 0.0;
            if head.micro == 0u {
                f = overlap_of(head, ratio_of(head, row, c, sums), own.gamma);
                // a share of 0 (a row that takes no part, a class weight of 0) switches off as well
                share *= own.weight;
                if head.absent == ZERO_ABSENT && is_absent {
                    f = Overlap(0.0, 0.0, 0.0);
                }
            }
            loss = weighted_by(share, f.loss);
            by_i = weighted_by(head_weight, weighted_by(term_weight, weighted_by(share, f.by_i)));
            by_p = weighted_by(head_weight, weighted_by(term_weight, weighted_by(share, f.by_p)));
            if head.overlap_losses != 0u {
                write_overlap_loss(head, row, own, f.loss, takes_part);
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

// The loss of a row and class before the reduction, with its class weight; NaN where it takes no part in the mean. One per row
// where a row has one ratio.
fn write_overlap_loss(head: Head, row: u32, own: OfClass, loss: f32, takes_part: bool) {
    if head.micro == 0u {
        let at = head.overlap_losses + row * head.taking_part + own.place;
        report[at] = select(NAN, bitcast<u32>(weighted_by(own.weight, loss)), takes_part);
    } else if own.place == 0u {
        report[head.overlap_losses + row] = select(NAN, bitcast<u32>(loss), takes_part);
    }
}

// The power of the term, of which `finish_overlap` has left the slopes.
fn powered_overlap(head: Head, invocation: u32, mean: f32) -> f32 {
    if head.power_of_mean == 1.0 || head.overlap_kind == 0u {
        return mean;
    }
    let power = power_of(mean, head.power_of_mean, head.eps);
    // each invocation scales those that it wrote
    for (var index = invocation; index < rows_of(head) * head.classes; index += FOLD_INVOCATIONS) {
        coefficients[head.slopes + 2u * index] *= power.slope;
        coefficients[head.slopes + 2u * index + 1u] *= power.slope;
    }
    return power.value;
}
