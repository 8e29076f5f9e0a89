// Gradient of a tile: the classes of a quad of voxels in registers, their loops unrolled in text, each logit read once. Few
// classes: an invocation holds all classes of its quad. Many: several invocations share a quad, and each holds HELD of its
// classes, as in statistics_registers.wgsl.
//
// With a_c = upstream α_c, b_c = upstream β_c, for α_c = ∂total/∂I and β_c = ∂total/∂P of the row, and the class parameters
// times upstream κ, all read once per tile:
//
//   D = Σ_c p_c g_c,  g_c = a_c ∂I/∂p + b_c ∂P/∂p      Q = Σ_c κ q_c      U = Σ_c κ u_c
//   dz_c = m (softmax: p_c (g_c − D),  sigmoid: p_c (1 − p_c) g_c,  none: g_c;   plus  s_c Q − κ q_c,  κ u_c − s_c U,
//          or the binary terms' slope); where both terms are on the softmax, their factors of s_c are added first
// The terms are those of terms.wgsl.

//# stand-in
const INVOCATIONS = 8u; const TILE = 4096u; const LOWEST = vec4<f32>(-3.4028234e38); const NONE = vec4<f32>();
const ONES = vec4<f32>(1.0); const c0 = 0u;
struct Place { head: u32, item: u32, tile: u32, inside: bool }
const SWITCHES = 2u;
struct Head { voxels: u32, coefficients: u32, kappa_row: u32, slopes: u32, slope_row: u32, first_item: u32, pixel_first_class: u32 }
struct Switches { overlap: bool, pixel: bool }
struct Quad_g0 { class_of: vec4<u32>, valid: vec4<bool>, out_of_range: vec4<bool>, m: vec4<f32> }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u, 0u, 0u, 0u, 0u, 0u); }
fn switches_of(head: Head) -> Switches { return Switches(head.voxels > 0u, true); }
fn lanes_inside(left: u32) -> vec4<bool> { return vec4<bool>(left > 0u); }
fn logits_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32) -> vec4<f32> { return NONE; }
fn target_g0(place: Place, head: Head, quad: Quad_g0, class_index: u32, voxel: u32, left: u32) -> vec4<f32> { return NONE; }
fn quad_g0(place: Place, head: Head, present: vec4<bool>, voxel: u32, left: u32) -> Quad_g0 { return Quad_g0(vec4<u32>(), present, present, ONES); }
fn top_share(place: Place, voxel: u32, left: u32) -> vec4<f32> { return ONES; }
fn item_counts_g0(place: Place, head: Head) -> bool { return true; }
fn store_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32, value: vec4<f32>) -> bool { return true; }
fn store_rows_g0(place: Place, head: Head, lane: u32, voxel: u32, left: u32, rows: array<vec4<f32>, HELD_g0>) -> bool { return true; }
fn share_max(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> { return value; }
fn share_sum(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> { return value; }
fn quad_of_g0(index: u32) -> u32 { return index; }
fn lane_of_g0(index: u32) -> u32 { return 0u; }
fn class_of_g0(lane: u32, c: u32) -> u32 { return c; }
fn worth_g0(quad: Quad_g0, x: vec4<f32>) -> vec4<f32> { return x; }
fn activate_g0(z: vec4<f32>, s: vec4<f32>) -> vec4<f32> { return s; }
fn overlap_slope_g0(p: vec4<f32>, t: vec4<f32>, a: f32, b: f32) -> vec4<f32> { return p * a * b; }
fn soft_label_g0(head: Head, t: vec4<f32>, on: f32) -> vec4<f32> { return t * on; }
fn binary_slope_g0(head: Head, class_index: u32, z: vec4<f32>, t: vec4<f32>, on: f32, off: f32) -> vec4<f32> { return z; }
fn bent_slope_g0(head: Head, class_index: u32, s: vec4<f32>, ln_s: vec4<f32>, t: vec4<f32>, on: f32) -> vec4<f32> { return s; }
const CLASSES_g0 = 1u; const CLASS_LANES_g0 = 1u; const HELD_g0 = 4u; const QUADS_g0 = INVOCATIONS / CLASS_LANES_g0;
const CLASS_STRIDE_g0 = 1u; const CLASS_SPAN_g0 = CLASS_LANES_g0;
//# end

fn gradient_g0(place: Place, invocation: u32, incoming: f32) -> bool {
    let head = head_of(place);
    var finite = true;
    let quad_index = quad_of_g0(invocation);
    let lane = lane_of_g0(invocation);
    let tile_first = place.tile * TILE;
    let tile_end = min(tile_first + TILE, head.voxels);
    let is_on = switches_of(head);
    let item_counts = vec4<bool>(item_counts_g0(place, head) && (is_on.overlap || is_on.pixel));
    let kappa_at = head.coefficients + SWITCHES + (head.first_item + place.item) * head.kappa_row;
    let slopes_at = head.slopes + (head.first_item + place.item) * head.slope_row;
    //# each c
    var class_c0 = c0;
    //# if split
    // past the last class an invocation reads the last one again, and leaves it out of every sum and store
    class_c0 = min(class_of_g0(lane, c0), CLASSES_g0 - 1u);
    //# end
    let held_c0 = class_of_g0(lane, c0) < CLASSES_g0; //# if ragged
    //# if not unweighted_labels
    let on_c0 = incoming * coefficients[kappa_at + 2u * class_c0];
    let off_c0 = incoming * coefficients[kappa_at + 2u * class_c0 + 1u];
    //# end
    //# if overlap
    let a_c0 = incoming * coefficients[slopes_at + 2u * class_c0];
    let b_c0 = incoming * coefficients[slopes_at + 2u * class_c0 + 1u];
    //# end
    //# end
    //# if unweighted_labels
    // κ, the same for every class
    let on = incoming * coefficients[kappa_at];
    //# end

    // All invocations walk all blocks, since they may meet at barriers; past the end of the row they store nothing.
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
        let quad = quad_g0(place, head, lanes_inside(left) & item_counts & vec4<bool>(present), voxel, left);
        //# if not target_runs
        let target_c0 = target_g0(place, head, quad, class_c0, voxel, left); //# each c
        //# else
        //#= let probabilities = rows_of_probabilities_g0(place, head, lane, voxel, left);
        //#= let target_c0 = select(NONE, probabilities[c0], quad.valid); //# each c
        //# end

        var top = ONES;
        top = top_share(place, voxel, left); //# if top_k

        // the softmax, for whichever term needs one
        var s_c0 = NONE; //# each c
        //# if softmax
        var peak = z_c0;
        peak = max(peak, z_c0); //# each c
        peak = share_max(invocation, CLASS_STRIDE_g0, CLASS_SPAN_g0, peak); //# if split
        var sum = NONE;
        //# each c
        s_c0 = exp(z_c0 - peak);
        if held_c0 //# if ragged
        { sum += s_c0; }
        //# end
        sum = share_sum(invocation, CLASS_STRIDE_g0, CLASS_SPAN_g0, sum); //# if split
        let scale = 1.0 / sum;
        s_c0 *= scale; //# each c
        //# end

        // Q − D: the part of dz_c / s_c that all classes share
        var joint = NONE;
        //# each c
        if held_c0 //# if ragged
        {
            joint -= s_c0 * overlap_slope_g0(s_c0, target_c0, a_c0, b_c0); //# if overlap_softmax
            //# if cross_entropy
            joint += top * soft_label_g0(head, target_c0, on_c0); //# if not unweighted_labels
            //# end
        }
        //# end
        //# if split
        joint = share_sum(invocation, CLASS_STRIDE_g0, CLASS_SPAN_g0, joint); //# if softmax
        //# end
        //# if unweighted_labels
        // Σ q = 1
        joint += top * on;
        //# end

        //# if bent
        //# if focal_softmax
        var bent_peak = LOWEST;
        //# each c
        if held_c0 && class_c0 >= head.pixel_first_class { //# if ragged
        //#= if class_c0 >= head.pixel_first_class { //# if not ragged
            bent_peak = max(bent_peak, z_c0);
        }
        //# end
        bent_peak = share_max(invocation, CLASS_STRIDE_g0, CLASS_SPAN_g0, bent_peak); //# if split
        var bent_sum = NONE;
        //# each c
        if held_c0 && class_c0 >= head.pixel_first_class { //# if ragged
        //#= if class_c0 >= head.pixel_first_class { //# if not ragged
            bent_sum += exp(z_c0 - bent_peak);
        }
        //# end
        bent_sum = share_sum(invocation, CLASS_STRIDE_g0, CLASS_SPAN_g0, bent_sum); //# if split
        let bent_ln = log(bent_sum);
        //# else
        //#= let bent_peak = peak;
        //#= let bent_ln = log(sum);
        //# end
        var u_sum = NONE;
        //# each c
        let ln_s_c0 = z_c0 - bent_peak - bent_ln;
        let u_c0 = top * bent_slope_g0(head, class_c0, exp(ln_s_c0), ln_s_c0, target_c0, on_c0);
        if held_c0 && class_c0 >= head.pixel_first_class { //# if ragged
        //#= if class_c0 >= head.pixel_first_class { //# if not ragged
            u_sum += u_c0;
        }
        //# end
        u_sum = share_sum(invocation, CLASS_STRIDE_g0, CLASS_SPAN_g0, u_sum); //# if split
        //# end

        var dz: array<vec4<f32>, HELD_g0>; //# if channels_last
        //# each c
        if present && held_c0 { //# if ragged
        //#= if present { //# if not ragged
            var of_overlap = NONE;
            var of_pixel = NONE;
            //# if overlap
            let p = activate_g0(z_c0, s_c0);
            let g = overlap_slope_g0(p, target_c0, a_c0, b_c0);
            of_overlap = s_c0 * (joint + g); //# if overlap_softmax
            of_overlap = p * (1.0 - p) * g; //# if sigmoid
            of_overlap = g; //# if identity
            //# end
            //# if cross_entropy
            of_pixel = s_c0 * joint; //# if not overlap_softmax
            //# if unweighted_labels
            of_pixel -= top * soft_label_g0(head, target_c0, on);
            //# else
            of_pixel -= top * soft_label_g0(head, target_c0, on_c0);
            //# end
            //# end
            if class_c0 >= head.pixel_first_class {
                of_pixel += binary_slope_g0(head, class_c0, z_c0, target_c0, on_c0, off_c0); //# if binary
                of_pixel += u_c0 - exp(ln_s_c0) * u_sum; //# if bent
            }
            //# if apart
            // terms that share no softmax: where one is off, a 0 is selected, so that its NaN does not reach the other
            of_overlap = select(NONE, of_overlap, vec4<bool>(is_on.overlap));
            of_pixel = select(NONE, of_pixel, vec4<bool>(is_on.pixel));
            //# end
            let dz_c0 = select(NONE, worth_g0(quad, of_overlap + of_pixel), quad.valid);
            //# if channels_last
            dz[c0] = dz_c0;
            //# else
            finite = store_g0(place, head, class_c0, voxel, left, dz_c0) && finite;
            //# end
        }
        //# end
        //# if channels_last
        if present {
            finite = store_rows_g0(place, head, lane, voxel, left, dz) && finite;
        }
        //# end
    }
    return finite;
}
