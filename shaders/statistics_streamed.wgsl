// Statistics of a tile, many classes: the classes stream past one by one, and no invocation ever holds them all.
//
// The tile is walked in blocks of STREAM_QUADS quads per invocation, so that each visit to the row of a class reads a long run of
// it: rows are often a power of two apart, where only a few of them fit into a cache, or into a table of pages, at once. A block's
// logits are read twice, class by class:
//   first   peak and S = Σ exp(z_c − peak), rescaling S when the peak moves (softmax_streamed.wgsl);
//   second  all terms (terms.wgsl), and I, P, T of the class, summed over the workgroup and added to the tile's row, CHUNK
//           classes at a time, or half as many with hard counts.
// Without a softmax there is only the second.

//# stand-in
const INVOCATIONS = 8u; const CHUNK = 4u; const STREAM_QUADS = 1u; const TILE = 4096u; const NOWHERE = 16777216.0; const NONE = vec4<f32>();
const ONES = vec4<f32>(1.0); const CLASSES_g0 = 1u; const v0 = 0u;
struct Invocation { index: u32 }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Head { voxels: u32, class_parameters: u32, pixel_first_class: u32, on_target: f32, off_target: f32 }
struct Quad_g0 { class_of: vec4<u32>, valid: vec4<bool>, out_of_range: vec4<bool>, m: vec4<f32> }
struct TileSums { pixel: f32, mass: f32, counted: f32, out_of_range: f32, non_finite: f32, first_out_of_range: f32 }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u, 0u, 1.0, 0.0); }
fn lanes_inside(left: u32) -> vec4<bool> { return vec4<bool>(left > 0u); }
fn logits_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32) -> vec4<f32> { return NONE; }
fn target_g0(place: Place, head: Head, quad: Quad_g0, class_index: u32, voxel: u32, left: u32) -> vec4<f32> { return NONE; }
fn quad_g0(place: Place, head: Head, present: vec4<bool>, voxel: u32, left: u32) -> Quad_g0 { return Quad_g0(vec4<u32>(), present, present, ONES); }
struct Softmax_g0 { peak: vec4<f32>, sum: vec4<f32>, weighed: vec4<f32> }
fn no_class_g0() -> Softmax_g0 { return Softmax_g0(NONE, NONE, NONE); }
fn with_class_g0(soft: Softmax_g0, z: vec4<f32>, g: vec4<f32>) -> Softmax_g0 { return soft; }
fn sum_g0(soft: Softmax_g0) -> vec4<f32> { return soft.sum; }
fn item_counts_g0(place: Place, head: Head) -> bool { return true; }
fn worth_g0(quad: Quad_g0, x: vec4<f32>) -> vec4<f32> { return x; }
fn activate_g0(z: vec4<f32>, s: vec4<f32>) -> vec4<f32> { return s; }
fn product_g0(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> { return p * t; }
fn measure_g0(x: vec4<f32>) -> vec4<f32> { return x; }
fn soft_label_g0(head: Head, t: vec4<f32>, on: f32) -> vec4<f32> { return t * on; }
fn binary_g0(head: Head, class_index: u32, z: vec4<f32>, t: vec4<f32>, on: f32, off: f32) -> vec4<f32> { return z; }
fn bent_g0(head: Head, class_index: u32, s: vec4<f32>, ln_s: vec4<f32>, t: vec4<f32>, on: f32) -> vec4<f32> { return s; }
fn total(x: vec4<f32>) -> f32 { return x.x; }
fn weighed(q: vec4<f32>, x: vec4<f32>) -> vec4<f32> { return q * x; }
fn count(lanes: vec4<bool>) -> f32 { return 0.0; }
fn outside_unit(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn not_finite(x: vec4<f32>) -> vec4<bool> { return vec4<bool>(); }
fn predicted_g0(z: vec4<f32>, largest: vec4<bool>) -> vec4<bool> { return largest; }
fn store_losses_g0(place: Place, head: Head, voxel: u32, left: u32, value: vec4<f32>) {}
fn add_quad(sums: TileSums, position: u32, loss: vec4<f32>, m: vec4<f32>, valid: vec4<bool>, out_of_range: vec4<bool>, non_finite: vec4<bool>) -> TileSums { return sums; }
fn keep_losses(place: Place, voxel: u32, left: u32, loss: vec4<f32>) {}
fn put(me: Invocation, row: u32, value: f32) {}
fn write_class_by_all(place: Place, me: Invocation, column: u32, classes: u32, class_index: u32, sums: vec4<f32>, begin: bool) {}
fn write_rows(place: Place, me: Invocation, column: u32, classes: u32, columns: u32, first_class: u32, count: u32, begin: bool) {}
fn write_tile(place: Place, me: Invocation, sums: TileSums) {}
//# end

// Columns of a class, and the classes whose columns fit into workgroup memory: it has 3 · CHUNK rows, and six at least.
const COLUMNS_g0 = 3u; //# if not hard_counts
//#= const COLUMNS_g0 = 6u; //# if hard_counts
const CLASSES_AT_ONCE_g0 = max(1u, 3u * CHUNK / COLUMNS_g0);

fn statistics_g0(place: Place, me: Invocation) {
    let head = head_of(place);
    let tile_first = place.tile * TILE;
    let tile_end = min(tile_first + TILE, head.voxels);
    let item_counts = vec4<bool>(item_counts_g0(place, head));
    var sums = TileSums(0.0, 0.0, 0.0, 0.0, 0.0, NOWHERE);

    // All invocations walk all blocks, since they meet at the barriers of the sums below; past the end of the tile they read
    // the row's last voxel again, or one of the next tile, and do not count it.
    for (var block = tile_first; block < tile_end; block += STREAM_QUADS * INVOCATIONS * 4u) {
        //# each v
        let position_v0 = block + (v0 * INVOCATIONS + me.index) * 4u;
        let present_v0 = position_v0 < tile_end;
        let voxel_v0 = min(position_v0, head.voxels - 1u);
        let left_v0 = head.voxels - voxel_v0;
        let inside_v0 = lanes_inside(left_v0) & vec4<bool>(present_v0);
        let quad_v0 = quad_g0(place, head, inside_v0 & item_counts, voxel_v0, left_v0);
        var out_of_range_v0 = quad_v0.out_of_range;
        var non_finite_v0 = vec4<bool>();
        var soft_v0 = no_class_g0();
        var bent_v0 = no_class_g0();
        //# end

        //# if softmax
        for (var class_index = 0u; class_index < CLASSES_g0; class_index += 1u) {
            //# each v
            let z_v0 = logits_g0(place, head, class_index, voxel_v0, left_v0);
            soft_v0 = with_class_g0(soft_v0, z_v0, NONE);
            //# end
            //# if focal_softmax
            // the focal term's own softmax: without class 0 where the term drops it
            if class_index >= head.pixel_first_class {
                bent_v0 = with_class_g0(bent_v0, z_v0, NONE); //# each v
            }
            //# end
        }
        //# end

        //# each v
        let scale_v0 = 1.0 / sum_g0(soft_v0);
        let ln_sum_v0 = log(sum_g0(soft_v0));
        bent_v0 = soft_v0; //# if not focal_softmax
        let bent_ln_v0 = log(sum_g0(bent_v0));
        var loss_v0 = NONE;
        var d_label_v0 = NONE;
        var d_sum_v0 = NONE;
        var taken_v0 = vec4<bool>();
        //# end
        for (var class_index = 0u; class_index < CLASSES_g0; class_index += 1u) {
            var on = 1.0;
            var off = 1.0;
            //# if class_parameters
            on = coefficients[head.class_parameters + 2u * class_index];
            off = coefficients[head.class_parameters + 2u * class_index + 1u];
            //# end
            var i = NONE;
            var p_sum = NONE;
            var t_sum = NONE;
            //# if hard_counts
            var tp = 0.0;
            var fp = 0.0;
            var fn_ = 0.0;
            //# end
            //# each v
            {
                let z = logits_g0(place, head, class_index, voxel_v0, left_v0);
                let t = target_g0(place, head, quad_v0, class_index, voxel_v0, left_v0);
                non_finite_v0 = non_finite_v0 | not_finite(z); //# if check_finite
                out_of_range_v0 = out_of_range_v0 | outside_unit(t); //# if probabilities
                //# if cross_entropy
                //# if unweighted_labels
                d_label_v0 = select(d_label_v0, z - soft_v0.peak, t != NONE);
                d_sum_v0 += z - soft_v0.peak; //# if smoothing
                //# else
                loss_v0 += weighed(soft_label_g0(head, t, on), ln_sum_v0 - (z - soft_v0.peak));
                //# end
                //# end
                if class_index >= head.pixel_first_class {
                    loss_v0 += binary_g0(head, class_index, z, t, on, off); //# if binary
                    //# if bent
                    let ln_s = z - bent_v0.peak - bent_ln_v0;
                    loss_v0 += bent_g0(head, class_index, exp(ln_s), ln_s, t, on);
                    //# end
                }
                var s = NONE;
                s = exp(z - soft_v0.peak) * scale_v0; //# if softmax
                // selected, not multiplied by 0: a voxel that does not count may hold a NaN
                let p = select(NONE, activate_g0(z, s), quad_v0.valid);
                i += worth_g0(quad_v0, product_g0(p, t));
                p_sum += worth_g0(quad_v0, measure_g0(p));
                t_sum += worth_g0(quad_v0, measure_g0(t));
                //# if hard_counts
                // with a softmax, the first class with the largest logit
                let largest = (z == soft_v0.peak) & !taken_v0;
                taken_v0 = taken_v0 | largest;
                let predicted = predicted_g0(z, largest);
                let positive = t > vec4<f32>(0.5);
                tp += count(quad_v0.valid & predicted & positive);
                fp += count(quad_v0.valid & predicted & !positive);
                fn_ += count(quad_v0.valid & !predicted & positive);
                //# end
            }
            //# end
            //# if one_subgroup
            let all = vec4<f32>(subgroupAdd(total(i)), subgroupAdd(total(p_sum)), subgroupAdd(total(t_sum)), 0.0);
            write_class_by_all(place, me, 0u, CLASSES_g0, class_index, all, block == tile_first);
            //# if hard_counts
            let counts = vec4<f32>(subgroupAdd(tp), subgroupAdd(fp), subgroupAdd(fn_), 0.0);
            write_class_by_all(place, me, 3u * CLASSES_g0, CLASSES_g0, class_index, counts, block == tile_first);
            //# end
            //# else
            let at = class_index % CLASSES_AT_ONCE_g0;
            put(me, COLUMNS_g0 * at, total(i));
            put(me, COLUMNS_g0 * at + 1u, total(p_sum));
            put(me, COLUMNS_g0 * at + 2u, total(t_sum));
            //# if hard_counts
            put(me, COLUMNS_g0 * at + 3u, tp);
            put(me, COLUMNS_g0 * at + 4u, fp);
            put(me, COLUMNS_g0 * at + 5u, fn_);
            //# end
            if at == CLASSES_AT_ONCE_g0 - 1u || class_index == CLASSES_g0 - 1u {
                write_rows(place, me, 0u, CLASSES_g0, COLUMNS_g0, class_index - at, at + 1u, block == tile_first);
            }
            //# end
        }

        //# each v
        {
            //# if unweighted_labels
            // Σ q = 1, and the label is one class: ℓ = ln S − on_target d_y − off_target Σ d
            loss_v0 = ln_sum_v0 - d_label_v0;
            loss_v0 = ln_sum_v0 - (head.on_target * d_label_v0 + head.off_target * d_sum_v0); //# if smoothing
            //# end
            let counted_loss = select(NONE, worth_g0(quad_v0, loss_v0), quad_v0.valid);
            if present_v0 {
                store_losses_g0(place, head, voxel_v0, left_v0, counted_loss); //# if voxel_losses
                keep_losses(place, voxel_v0, left_v0, counted_loss); //# if top_k
            }
            sums = add_quad(
                sums,
                voxel_v0 - tile_first,
                counted_loss,
                quad_v0.m,
                quad_v0.valid,
                out_of_range_v0,
                non_finite_v0 & inside_v0,
            );
        }
        //# end
    }
    write_tile(place, me, sums);
}
