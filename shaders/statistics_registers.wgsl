// Statistics of a tile: the classes of a quad of voxels in registers, their loops unrolled in text, each logit read once.
//
// Few classes: an invocation holds all classes of its quad. Many: several invocations share a quad, each holds HELD of its
// classes (classes.wgsl), and they exchange the maximum and the sum of the softmax (shared/share_*.wgsl). The workgroup walks
// the tile in blocks of QUADS quads. For each quad,
//
//   peak = max_c z_c,  d_c = z_c − peak,  e_c = exp(d_c),  S = Σ e_c,  s_c = e_c / S,  −ln s_c = ln S − d_c
//
// `peak` and `ln S` are never added into one number: where logits share a large offset, f32 would lose ln S beside it. The
// terms are those of terms.wgsl. The four voxels of a quad are added to each other before they reach an accumulator: a
// quarter of the registers, and a shorter chain of additions.

//# stand-in
const INVOCATIONS = 8u; const CHUNK = 4u; const TILE = 4096u; const NOWHERE = 16777216.0;
const LOWEST = vec4<f32>(-3.4028234e38); const NONE = vec4<f32>(); const ONES = vec4<f32>(1.0); const c0 = 0u;
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
fn share_max(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> { return value; }
fn share_sum(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> { return value; }
fn quad_of_g0(index: u32) -> u32 { return index; }
fn lane_of_g0(index: u32) -> u32 { return 0u; }
fn class_of_g0(lane: u32, c: u32) -> u32 { return c; }
fn write_class(place: Place, column: u32, classes: u32, class_index: u32, sums: vec4<f32>) {}
fn put(me: Invocation, row: u32, value: f32) {}
fn write_rows(place: Place, me: Invocation, column: u32, classes: u32, columns: u32, first_class: u32, count: u32, begin: bool) {}
fn write_tile(place: Place, me: Invocation, sums: TileSums) {}
const CLASSES_g0 = 1u; const CLASS_LANES_g0 = 1u; const QUADS_g0 = INVOCATIONS / CLASS_LANES_g0;
const CLASS_STRIDE_g0 = 1u; const CLASS_SPAN_g0 = CLASS_LANES_g0; const QUAD_STRIDE_g0 = CLASS_LANES_g0; const QUAD_SPAN_g0 = INVOCATIONS;
//# end

fn statistics_g0(place: Place, me: Invocation) {
    let head = head_of(place);
    let tile_first = place.tile * TILE;
    let tile_end = min(tile_first + TILE, head.voxels);
    let item_counts = vec4<bool>(item_counts_g0(place, head));
    let quad_index = quad_of_g0(me.index);
    let lane = lane_of_g0(me.index);

    //# each c
    var class_c0 = c0;
    //# if split
    // past the last class an invocation reads the last one again, and leaves it out of every result
    class_c0 = min(class_of_g0(lane, c0), CLASSES_g0 - 1u);
    //# end
    let held_c0 = class_of_g0(lane, c0) < CLASSES_g0; //# if ragged
    var i_c0 = 0.0;
    var p_c0 = 0.0;
    var t_c0 = 0.0;
    //# if hard_counts
    var tp_c0 = 0.0;
    var fp_c0 = 0.0;
    var fn_c0 = 0.0;
    //# end
    var on_c0 = 1.0;
    var off_c0 = 1.0;
    //# end
    //# if class_parameters
    //# each c
    on_c0 = coefficients[head.class_parameters + 2u * class_c0];
    off_c0 = coefficients[head.class_parameters + 2u * class_c0 + 1u];
    //# end
    //# end
    var sums = TileSums(0.0, 0.0, 0.0, 0.0, 0.0, NOWHERE);
    // one invocation of a quad counts its voxels
    var counts_quad = vec4<bool>(true);
    counts_quad = vec4<bool>(lane == 0u); //# if split

    // All invocations walk all blocks, since they may meet at barriers; past the end of the row they read its last voxel
    // again, and do not count it.
    for (var block = tile_first; block < tile_end; block += QUADS_g0 * 4u) {
        let position = block + quad_index * 4u;
        let present = position < head.voxels;
        let voxel = min(position, head.voxels - 1u);
        let left = head.voxels - voxel;
        //# if not channels_last
        let z_c0 = logits_g0(place, head, class_c0, voxel, left); //# each c
        //# else
        //#= let rows = rows_of_logits_g0(place, head, lane, voxel, left);
        //#= let z_c0 = rows[c0]; //# each c
        //# end
        let inside = lanes_inside(left) & vec4<bool>(present);
        let quad = quad_g0(place, head, inside & item_counts, voxel, left);
        var out_of_range = quad.out_of_range;
        var non_finite = vec4<bool>();
        //# if check_finite
        non_finite = non_finite | not_finite(z_c0); //# each c
        non_finite = share_max(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, select(NONE, ONES, non_finite)) > NONE; //# if split
        non_finite = non_finite & inside;
        //# end
        //# if not target_runs
        let target_c0 = target_g0(place, head, quad, class_c0, voxel, left); //# each c
        //# else
        //#= let probabilities = rows_of_probabilities_g0(place, head, lane, voxel, left);
        //#= let target_c0 = select(NONE, probabilities[c0], quad.valid); //# each c
        //# end
        //# if probabilities
        out_of_range = out_of_range | outside_unit(target_c0); //# each c
        out_of_range = share_max(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, select(NONE, ONES, out_of_range)) > NONE; //# if split
        //# end

        // the softmax, for whichever term needs one
        var peak = z_c0;
        var sum = NONE;
        var e_c0 = NONE; //# each c
        //# if softmax
        peak = max(peak, z_c0); //# each c
        peak = share_max(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, peak); //# if split
        //# each c
        e_c0 = exp(z_c0 - peak);
        if held_c0 //# if ragged
        { sum += e_c0; }
        //# end
        sum = share_sum(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, sum); //# if split
        //# end

        var loss = NONE;
        var q_sum = NONE;
        var d_label = NONE;
        var d_sum = NONE;
        //# each c
        if held_c0 //# if ragged
        {
            //# if cross_entropy
            //# if unweighted_labels
            d_label = select(d_label, z_c0 - peak, target_c0 != NONE);
            d_sum += z_c0 - peak; //# if smoothing
            //# else
            let q = soft_label_g0(head, target_c0, on_c0);
            loss -= weighed(q, z_c0 - peak);
            q_sum += q;
            //# end
            //# end
            //# if binary
            if class_c0 >= head.pixel_first_class {
                loss += binary_g0(head, class_c0, z_c0, target_c0, on_c0, off_c0);
            }
            //# end
        }
        //# end
        //# if unweighted_labels
        // Σ q = 1, and the label is one class: ℓ = ln S − on_target d_y − off_target Σ d
        q_sum = select(NONE, ONES, counts_quad);
        loss = -d_label;
        loss = -(head.on_target * d_label + head.off_target * d_sum); //# if smoothing
        //# end
        loss += q_sum * log(sum); //# if cross_entropy

        //# if bent
        //# if focal_softmax
        // the focal term's own softmax: without class 0 where the term drops it
        var bent_peak = LOWEST;
        //# each c
        if held_c0 && class_c0 >= head.pixel_first_class { //# if ragged
        //#= if class_c0 >= head.pixel_first_class { //# if not ragged
            bent_peak = max(bent_peak, z_c0);
        }
        //# end
        bent_peak = share_max(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, bent_peak); //# if split
        var bent_sum = NONE;
        //# each c
        if held_c0 && class_c0 >= head.pixel_first_class { //# if ragged
        //#= if class_c0 >= head.pixel_first_class { //# if not ragged
            bent_sum += exp(z_c0 - bent_peak);
        }
        //# end
        bent_sum = share_sum(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, bent_sum); //# if split
        let bent_ln = log(bent_sum);
        //# else
        //#= let bent_peak = peak;
        //#= let bent_ln = log(sum);
        //# end
        //# each c
        if held_c0 && class_c0 >= head.pixel_first_class { //# if ragged
        //#= if class_c0 >= head.pixel_first_class { //# if not ragged
            let ln_s = z_c0 - bent_peak - bent_ln;
            loss += bent_g0(head, class_c0, exp(ln_s), ln_s, target_c0, on_c0);
        }
        //# end
        //# end

        //# if hard_counts
        // with a softmax, the first class with the largest logit
        var first_largest = vec4<f32>(f32(CLASSES_g0));
        //# if softmax
        //# each c
        if held_c0 //# if ragged
        {
            first_largest = min(first_largest, select(first_largest, vec4<f32>(f32(class_c0)), z_c0 == peak));
        }
        //# end
        first_largest = -share_max(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, -first_largest); //# if split
        //# end
        //# each c
        {
            let predicted = predicted_g0(z_c0, first_largest == vec4<f32>(f32(class_c0)));
            let positive = target_c0 > vec4<f32>(0.5);
            tp_c0 += count(quad.valid & predicted & positive);
            fp_c0 += count(quad.valid & predicted & !positive);
            fn_c0 += count(quad.valid & !predicted & positive);
        }
        //# end
        //# end

        let scale = 1.0 / sum;
        //# each c
        {
            // selected, not multiplied by 0: a voxel that does not count may hold a NaN
            let p = select(NONE, activate_g0(z_c0, e_c0 * scale), quad.valid);
            i_c0 += total(worth_g0(quad, product_g0(p, target_c0)));
            p_c0 += total(worth_g0(quad, measure_g0(p)));
            t_c0 += total(worth_g0(quad, measure_g0(target_c0)));
        }
        //# end

        let counted_loss = select(NONE, worth_g0(quad, loss), quad.valid);
        //# if voxel_losses
        {
            var whole = counted_loss;
            whole = share_sum(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, counted_loss); //# if split
            if present && counts_quad.x {
                store_losses_g0(place, head, voxel, left, whole);
            }
        }
        //# end
        //# if top_k
        {
            var whole = counted_loss;
            whole = share_sum(me.index, CLASS_STRIDE_g0, CLASS_SPAN_g0, counted_loss); //# if split
            if present && counts_quad.x {
                keep_losses(place, voxel, left, whole);
            }
        }
        //# end
        let m = select(NONE, quad.m, counts_quad);
        sums = add_quad(
            sums,
            voxel - tile_first,
            counted_loss,
            m,
            quad.valid & counts_quad,
            out_of_range & counts_quad,
            non_finite & counts_quad,
        );
    }

    //# if split
    //# each c
    {
        let all = share_sum(me.index, QUAD_STRIDE_g0, QUAD_SPAN_g0, vec4<f32>(i_c0, p_c0, t_c0, 0.0));
        if held_c0 && quad_index == 0u { //# if ragged
        //#= if quad_index == 0u { //# if not ragged
            write_class(place, 0u, CLASSES_g0, class_c0, all);
        }
    }
    //# if hard_counts
    {
        let all = share_sum(me.index, QUAD_STRIDE_g0, QUAD_SPAN_g0, vec4<f32>(tp_c0, fp_c0, fn_c0, 0.0));
        if held_c0 && quad_index == 0u { //# if ragged
        //#= if quad_index == 0u { //# if not ragged
            write_class(place, 3u * CLASSES_g0, CLASSES_g0, class_c0, all);
        }
    }
    //# end
    //# end
    //# else
    // Rows are put CHUNK classes at a time: workgroup memory stays small whatever the class count.
    //# each c
    put(me, 3u * (c0 % CHUNK), i_c0);
    put(me, 3u * (c0 % CHUNK) + 1u, p_c0);
    put(me, 3u * (c0 % CHUNK) + 2u, t_c0);
    if c0 % CHUNK == CHUNK - 1u || c0 == CLASSES_g0 - 1u {
        write_rows(place, me, 0u, CLASSES_g0, 3u, c0 - c0 % CHUNK, c0 % CHUNK + 1u, true);
    }
    //# end
    //# if hard_counts
    //# each c
    put(me, 3u * (c0 % CHUNK), tp_c0);
    put(me, 3u * (c0 % CHUNK) + 1u, fp_c0);
    put(me, 3u * (c0 % CHUNK) + 2u, fn_c0);
    if c0 % CHUNK == CHUNK - 1u || c0 == CLASSES_g0 - 1u {
        write_rows(place, me, 3u * CLASSES_g0, CLASSES_g0, 3u, c0 - c0 % CHUNK, c0 % CHUNK + 1u, true);
    }
    //# end
    //# end
    //# end
    write_tile(place, me, sums);
}
