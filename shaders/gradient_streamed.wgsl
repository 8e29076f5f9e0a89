// Gradient of a tile, many classes: the classes stream past one by one, and no invocation ever holds them all.
//
// The tile is walked in blocks of long runs, as in statistics_streamed.wgsl. A block's logits are read twice, class by class: for
// peak, S and the sums D and Q over the classes, rescaling S and D when the peak moves (softmax_streamed.wgsl); and for dz, which
// follows gradient_registers.wgsl. Between the two comes a third time where the slope depends on p itself, or the focal term
// needs U. Without a softmax there is only the last.

//# stand-in
const INVOCATIONS = 8u; const TILE = 4096u; const NONE = vec4<f32>(); const ONES = vec4<f32>(1.0); const CLASSES_g0 = 1u;
const STREAM_QUADS = 1u; const v0 = 0u;
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
struct Softmax_g0 { peak: vec4<f32>, sum: vec4<f32>, weighed: vec4<f32> }
fn no_class_g0() -> Softmax_g0 { return Softmax_g0(NONE, NONE, NONE); }
fn with_class_g0(soft: Softmax_g0, z: vec4<f32>, g: vec4<f32>) -> Softmax_g0 { return soft; }
fn sum_g0(soft: Softmax_g0) -> vec4<f32> { return soft.sum; }
fn of_class(at: u32, class_index: u32, incoming: f32) -> vec2<f32> { return vec2<f32>(incoming); }
fn item_counts_g0(place: Place, head: Head) -> bool { return true; }
fn store_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32, value: vec4<f32>) -> bool { return true; }
fn worth_g0(quad: Quad_g0, x: vec4<f32>) -> vec4<f32> { return x; }
fn activate_g0(z: vec4<f32>, s: vec4<f32>) -> vec4<f32> { return s; }
fn overlap_slope_g0(p: vec4<f32>, t: vec4<f32>, a: f32, b: f32) -> vec4<f32> { return p * a * b; }
fn soft_label_g0(head: Head, t: vec4<f32>, on: f32) -> vec4<f32> { return t * on; }
fn binary_slope_g0(head: Head, class_index: u32, z: vec4<f32>, t: vec4<f32>, on: f32, off: f32) -> vec4<f32> { return z; }
fn bent_slope_g0(head: Head, class_index: u32, s: vec4<f32>, ln_s: vec4<f32>, t: vec4<f32>, on: f32) -> vec4<f32> { return s; }
//# end

fn gradient_g0(place: Place, invocation: u32, incoming: f32) -> bool {
    let head = head_of(place);
    var finite = true;
    let tile_first = place.tile * TILE;
    let tile_end = min(tile_first + TILE, head.voxels);
    let is_on = switches_of(head);
    let item_counts = vec4<bool>(item_counts_g0(place, head) && (is_on.overlap || is_on.pixel));
    let kappa_at = head.coefficients + SWITCHES + (head.first_item + place.item) * head.kappa_row;
    let slopes_at = head.slopes + (head.first_item + place.item) * head.slope_row;
    //# if unweighted_labels
    // κ, the same for every class
    let on = incoming * coefficients[kappa_at];
    //# end

    for (var block = tile_first; block < tile_end; block += STREAM_QUADS * INVOCATIONS * 4u) {
        //# each v
        let position_v0 = block + (v0 * INVOCATIONS + invocation) * 4u;
        let present_v0 = position_v0 < tile_end;
        let voxel_v0 = min(position_v0, head.voxels - 1u);
        let left_v0 = head.voxels - voxel_v0;
        let quad_v0 = quad_g0(place, head, lanes_inside(left_v0) & item_counts & vec4<bool>(present_v0), voxel_v0, left_v0);
        var top_v0 = ONES;
        top_v0 = top_share(place, voxel_v0, left_v0); //# if top_k
        var soft_v0 = no_class_g0();
        var bent_v0 = no_class_g0();
        // Q − D: the part of dz_c / s_c that all classes share
        var joint_v0 = NONE;
        var u_sum_v0 = NONE;
        //# end

        //# if softmax
        for (var class_index = 0u; class_index < CLASSES_g0; class_index += 1u) {
            //# if not unweighted_labels
            let on = of_class(kappa_at, class_index, incoming).x;
            //# end
            //# if linear_slope
            let slope = of_class(slopes_at, class_index, incoming);
            //# end
            //# each v
            let z_v0 = logits_g0(place, head, class_index, voxel_v0, left_v0);
            {
                let t = target_g0(place, head, quad_v0, class_index, voxel_v0, left_v0);
                var g = NONE;
                g = overlap_slope_g0(NONE, t, slope.x, slope.y); //# if linear_slope
                soft_v0 = with_class_g0(soft_v0, z_v0, g);
                //# if cross_entropy
                joint_v0 += top_v0 * soft_label_g0(head, t, on); //# if not unweighted_labels
                //# end
            }
            //# end
            //# if focal_softmax
            if class_index >= head.pixel_first_class {
                bent_v0 = with_class_g0(bent_v0, z_v0, NONE); //# each v
            }
            //# end
        }
        //# end

        //# each v
        let scale_v0 = 1.0 / sum_g0(soft_v0);
        joint_v0 += top_v0 * on; //# if unweighted_labels
        joint_v0 -= soft_v0.weighed * scale_v0; //# if linear_slope
        bent_v0 = soft_v0; //# if not focal_softmax
        let bent_ln_v0 = log(sum_g0(bent_v0));
        //# end

        //# if third_read
        for (var class_index = 0u; class_index < CLASSES_g0; class_index += 1u) {
            let on = of_class(kappa_at, class_index, incoming).x;
            //# if softmax_slope
            let slope = of_class(slopes_at, class_index, incoming);
            //# end
            //# each v
            {
                let z = logits_g0(place, head, class_index, voxel_v0, left_v0);
                let t = target_g0(place, head, quad_v0, class_index, voxel_v0, left_v0);
                //# if softmax_slope
                let s = exp(z - soft_v0.peak) * scale_v0;
                joint_v0 -= s * overlap_slope_g0(s, t, slope.x, slope.y);
                //# end
                //# if bent
                if class_index >= head.pixel_first_class {
                    let ln_s = z - bent_v0.peak - bent_ln_v0;
                    u_sum_v0 += top_v0 * bent_slope_g0(head, class_index, exp(ln_s), ln_s, t, on);
                }
                //# end
            }
            //# end
        }
        //# end

        for (var class_index = 0u; class_index < CLASSES_g0; class_index += 1u) {
            //# if not unweighted_labels
            let on = of_class(kappa_at, class_index, incoming).x;
            //# end
            let off = of_class(kappa_at, class_index, incoming).y;
            //# if overlap
            let slope = of_class(slopes_at, class_index, incoming);
            //# end
            //# each v
            {
                let z = logits_g0(place, head, class_index, voxel_v0, left_v0);
                let t = target_g0(place, head, quad_v0, class_index, voxel_v0, left_v0);
                var s = NONE;
                s = exp(z - soft_v0.peak) * scale_v0; //# if softmax
                var of_overlap = NONE;
                var of_pixel = NONE;
                //# if overlap
                let p = activate_g0(z, s);
                let g = overlap_slope_g0(p, t, slope.x, slope.y);
                of_overlap = s * (joint_v0 + g); //# if overlap_softmax
                of_overlap = p * (1.0 - p) * g; //# if sigmoid
                of_overlap = g; //# if identity
                //# end
                //# if cross_entropy
                of_pixel = s * joint_v0; //# if not overlap_softmax
                of_pixel -= top_v0 * soft_label_g0(head, t, on);
                //# end
                if class_index >= head.pixel_first_class {
                    of_pixel += binary_slope_g0(head, class_index, z, t, on, off); //# if binary
                    //# if bent
                    let ln_s = z - bent_v0.peak - bent_ln_v0;
                    of_pixel += top_v0 * bent_slope_g0(head, class_index, exp(ln_s), ln_s, t, on) - exp(ln_s) * u_sum_v0;
                    //# end
                }
                //# if apart
                // terms that share no softmax: where one is off, a 0 is selected, so that its NaN does not reach the other
                of_overlap = select(NONE, of_overlap, vec4<bool>(is_on.overlap));
                of_pixel = select(NONE, of_pixel, vec4<bool>(is_on.pixel));
                //# end
                let dz = select(NONE, worth_g0(quad_v0, of_overlap + of_pixel), quad_v0.valid);
                if present_v0 {
                    finite = store_g0(place, head, class_index, voxel_v0, left_v0, dz) && finite;
                }
            }
            //# end
        }
    }
    return finite;
}
