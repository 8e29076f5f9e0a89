// Stage 3, finish: from the statistics to the loss, its report, and the few numbers that the gradient needs.
//
// Per (row, class), a row being an item, or the whole batch with `batch`:
//   f = form − num/den,   form = 1 (one_minus) or 0 (negative)
//   dice     num = 2I + nr,   den = P + T + dr
//   jaccard  num = 2I + nr,   den = 2(P + T − I) + dr
//   den is clamped from below by denominator_floor; a clamped den has derivative 0
//   overlap = mean or sum of w f over rows and the classes that take part
// Per head:
//   pixel = pixel sum / Σ_c w_c T_c (mean), or the pixel sum (sum)
//   total = Σ heads of overlap_weight · overlap + pixel_weight · pixel      (both include the head's weight)
// For the gradient:
//   α = ∂total/∂I,  β = ∂total/∂P per (row, class);   κ w_c with κ = pixel_weight / denominator
//
// bindings   0  heads          (HEADS)   uniform     the table
//            1  class_weights  (words)   read        of the pixel and the overlap terms
//            2  statistics     see combine.wgsl        read
//            3  coefficients   per head 1 + C + rows · 2 C   read_write   f32: κ; κ w_c; then α, β per (row, class)
//            4  report         1 + per head (REPORT_WORDS + C)  read_write  words: the total, then per head what
//                              `report::head_report` reads
// dispatch   one workgroup of FOLD_INVOCATIONS. A table of heads without classes does nothing: that is how a plan warms up
// determinism   bit for bit: heads in order, sums as trees (shared/fold.wgsl)

const REPORT_WORDS = 9u;

//# stand-in
const HEADS = 1u;
const FOLD_INVOCATIONS = 64u;
const COUNT = 1u;
const DICE = 1u;
const JACCARD = 2u;
const MEAN = 1u;
struct Head {
    @align(16) items: u32, classes: u32, voxels: u32, statistics: u32, coefficients: u32, coefficient_row: u32, report: u32,
    pixel_kind: u32, pixel_reduction: u32, pixel_weight: f32, weighted_classes: u32, class_weights: u32, empty: u32,
    overlap_kind: u32, overlap_reduction: u32, overlap_weight: f32, first_class: u32, batch: u32, smooth_nr: f32,
    smooth_dr: f32, denominator_floor: f32, form: f32, weighted_overlap: u32, overlap_class_weights: u32,
}
@group(0) @binding(0) var<uniform> heads: array<Head, 1>;
fn fold_workgroup(kind: u32, invocation: u32, value: u32) -> u32 { return value; }
fn sum_workgroup(invocation: u32, value: f32) -> f32 { return value; }
//# end

@group(0) @binding(1) var<storage, read> class_weights: array<f32>;
@group(0) @binding(2) var<storage, read> statistics_words: array<u32>;
@group(0) @binding(3) var<storage, read_write> coefficients: array<f32>;
@group(0) @binding(4) var<storage, read_write> report: array<u32>;

struct Overlap {
    loss: f32,
    // its derivatives by I and by P
    by_i: f32,
    by_p: f32,
}

// An overlap loss is this formula and nothing else: num and den, and their derivatives by I and P.
fn overlap(head: Head, i: f32, p: f32, t: f32) -> Overlap {
    var num = 2.0 * i + head.smooth_nr;
    var num_by_i = 2.0;
    var den = 1.0;
    var den_by_i = 0.0;
    var den_by_p = 0.0;
    switch head.overlap_kind {
        case DICE: {
            den = p + t + head.smooth_dr;
            den_by_p = 1.0;
        }
        case JACCARD: {
            den = 2.0 * (p + t - i) + head.smooth_dr;
            den_by_i = -2.0;
            den_by_p = 2.0;
        }
        default: {}
    }
    if den < head.denominator_floor {
        den = head.denominator_floor;
        den_by_i = 0.0;
        den_by_p = 0.0;
    }
    let ratio = num / den;
    return Overlap(head.form - ratio, (ratio * den_by_i - num_by_i) / den, ratio * den_by_p / den);
}

fn class_weight(head: Head, class_index: u32) -> f32 {
    if head.weighted_classes == 0u {
        return 1.0;
    }
    return class_weights[head.class_weights + class_index];
}

// The mean or sum over rows and classes; writes α and β on the way.
fn finish_overlap(head: Head, invocation: u32) -> f32 {
    let classes = head.classes;
    let rows = select(head.items, 1u, head.batch != 0u);
    let terms = rows * (classes - head.first_class);
    let share = select(1.0, 1.0 / f32(terms), head.overlap_reduction == MEAN);
    let first_row = head.statistics + select(3u * classes + 4u, 0u, head.batch != 0u);

    var mine = 0.0;
    for (var index = invocation; index < rows * classes; index += FOLD_INVOCATIONS) {
        let row = index / classes;
        let c = index - row * classes;
        let at = first_row + row * 3u * classes + c;
        var loss = 0.0;
        var alpha = 0.0;
        var beta = 0.0;
        if head.overlap_kind != 0u && c >= head.first_class {
            let i = bitcast<f32>(statistics_words[at]);
            let p = bitcast<f32>(statistics_words[at + classes]);
            let t = f32(statistics_words[at + 2u * classes]);
            var weight = share;
            if head.weighted_overlap != 0u {
                weight *= class_weights[head.overlap_class_weights + c - head.first_class];
            }
            let f = overlap(head, i, p, t);
            loss = weight * f.loss;
            alpha = head.overlap_weight * weight * f.by_i;
            beta = head.overlap_weight * weight * f.by_p;
        }
        mine += loss;
        let out = head.coefficients + 1u + classes + 2u * index;
        coefficients[out] = alpha;
        coefficients[out + 1u] = beta;
    }
    return sum_workgroup(invocation, mine);
}

// Σ_c w_c T_c: what the mean of the pixel term divides by.
fn pixel_denominator(head: Head, invocation: u32) -> f32 {
    var mine = 0.0;
    for (var c = invocation; c < head.classes; c += FOLD_INVOCATIONS) {
        mine += class_weight(head, c) * f32(statistics_words[head.statistics + 2u * head.classes + c]);
    }
    return sum_workgroup(invocation, mine);
}

fn voxels_counted(head: Head, invocation: u32) -> u32 {
    var mine = 0u;
    for (var c = invocation; c < head.classes; c += FOLD_INVOCATIONS) {
        mine += statistics_words[head.statistics + 2u * head.classes + c];
    }
    return fold_workgroup(COUNT, invocation, mine);
}

// 2I / (P + T) of a class over the whole batch, without smoothing: NaN where the head has no valid voxel.
fn write_soft_dice(head: Head, invocation: u32) {
    for (var c = invocation; c < head.classes; c += FOLD_INVOCATIONS) {
        let at = head.statistics + c;
        let i = bitcast<f32>(statistics_words[at]);
        let p = bitcast<f32>(statistics_words[at + head.classes]);
        let t = f32(statistics_words[at + 2u * head.classes]);
        report[head.report + REPORT_WORDS + c] = select(0x7fc00000u, bitcast<u32>(2.0 * i / (p + t)), p + t > 0.0);
    }
}

@compute @workgroup_size(FOLD_INVOCATIONS)
fn finish(@builtin(local_invocation_index) invocation: u32) {
    if heads[0].classes == 0u {
        return;
    }
    var total_loss = 0.0;
    for (var index = 0u; index < HEADS; index += 1u) {
        let head = heads[index];
        let classes = head.classes;
        let overlap_loss = finish_overlap(head, invocation);
        let denominator = pixel_denominator(head, invocation);
        let counted = voxels_counted(head, invocation);
        write_soft_dice(head, invocation);

        let pixel_sum = bitcast<f32>(statistics_words[head.statistics + 3u * classes]);
        let mean = head.pixel_reduction == MEAN;
        // A mean over nothing is what `empty` says; its gradient is 0.
        let nothing = mean && denominator == 0.0;
        var kappa = 0.0;
        var pixel = 0.0;
        if head.pixel_kind != 0u && !nothing {
            let divisor = select(1.0, denominator, mean);
            pixel = pixel_sum / divisor;
            kappa = head.pixel_weight / divisor;
        }
        if head.pixel_kind != 0u && nothing {
            pixel = bitcast<f32>(head.empty);
        }
        for (var c = invocation; c < classes; c += FOLD_INVOCATIONS) {
            coefficients[head.coefficients + 1u + c] = kappa * class_weight(head, c);
        }
        let weighted_overlap = head.overlap_weight * overlap_loss;
        let weighted_pixel = head.pixel_weight * pixel;
        total_loss += weighted_overlap + weighted_pixel;

        if invocation == 0u {
            coefficients[head.coefficients] = kappa;
            let out_of_range = statistics_words[head.statistics + 3u * classes + 1u];
            report[head.report] = bitcast<u32>(overlap_loss);
            report[head.report + 1u] = bitcast<u32>(weighted_overlap);
            report[head.report + 2u] = bitcast<u32>(pixel);
            report[head.report + 3u] = bitcast<u32>(weighted_pixel);
            report[head.report + 4u] = counted;
            report[head.report + 5u] = head.items * head.voxels - counted - out_of_range;
            report[head.report + 6u] = out_of_range;
            report[head.report + 7u] = statistics_words[head.statistics + 3u * classes + 2u];
            report[head.report + 8u] = statistics_words[head.statistics + 3u * classes + 3u];
        }
    }
    if invocation == 0u {
        report[0] = bitcast<u32>(total_loss);
    }
}
