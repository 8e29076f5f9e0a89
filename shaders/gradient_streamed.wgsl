// Gradient of a tile, many classes: the classes of a quad stream past in chunks, and no invocation ever holds them all.
//
// A quad's logits are read three times: for peak and S, rescaling S when the peak moves; for the sums D, Q, U over the
// classes; and for dz, which follows gradient_registers.wgsl. The later reads find them in cache: 16 · INVOCATIONS · C bytes
// are in use at once. Without a softmax there is only the last read.

//# stand-in
const INVOCATIONS = 8u; const TILE = 4096u; const NONE = vec4<f32>(); const ONES = vec4<f32>(1.0); const CLASSES_g0 = 1u;
const CHUNK = 4u; const k0 = 0u;
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
struct Softmax_g0 { peak: vec4<f32>, sum: vec4<f32>, focal_peak: vec4<f32>, focal_sum: vec4<f32> }
fn softmax_g0(place: Place, head: Head, voxel: u32, left: u32) -> Softmax_g0 { return Softmax_g0(NONE, NONE, NONE, NONE); }
fn item_counts_g0(place: Place, head: Head) -> bool { return true; }
fn store_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32, value: vec4<f32>) -> bool { return true; }
fn worth_g0(quad: Quad_g0, x: vec4<f32>) -> vec4<f32> { return x; }
fn activate_g0(z: vec4<f32>, s: vec4<f32>) -> vec4<f32> { return s; }
fn overlap_slope_g0(p: vec4<f32>, t: vec4<f32>, a: f32, b: f32) -> vec4<f32> { return p * a * b; }
fn soft_label_g0(head: Head, t: vec4<f32>, on: f32) -> vec4<f32> { return t * on; }
fn binary_slope_g0(head: Head, z: vec4<f32>, t: vec4<f32>, on: f32, off: f32) -> vec4<f32> { return z; }
fn focal_slope_g0(head: Head, s: vec4<f32>, ln_s: vec4<f32>, t: vec4<f32>, on: f32) -> vec4<f32> { return s; }
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

    for (var voxel = tile_first + invocation * 4u; voxel < tile_end; voxel += INVOCATIONS * 4u) {
        let left = head.voxels - voxel;
        let quad = quad_g0(place, head, lanes_inside(left) & item_counts, voxel, left);

        var top = ONES;
        top = top_share(place, voxel, left); //# if top_k
        let soft = softmax_g0(place, head, voxel, left);
        let scale = 1.0 / soft.sum;
        let focal_ln = log(soft.focal_sum);

        // Q − D: the part of dz_c / s_c that all classes share
        var joint = NONE;
        var u_sum = NONE;
        //# if softmax
        for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
            //# each k
            if class_first + k0 < CLASSES_g0 {
                let class_k0 = class_first + k0;
                let z = logits_g0(place, head, class_k0, voxel, left);
                let t = target_g0(place, head, quad, class_k0, voxel, left);
                let on = incoming * coefficients[kappa_at + 2u * class_k0];
                //# if overlap_softmax
                let s = exp(z - soft.peak) * scale;
                let a = incoming * coefficients[slopes_at + 2u * class_k0];
                let b = incoming * coefficients[slopes_at + 2u * class_k0 + 1u];
                joint -= s * overlap_slope_g0(s, t, a, b);
                //# end
                joint += top * soft_label_g0(head, t, on); //# if cross_entropy
                //# if focal_softmax
                if class_k0 >= head.pixel_first_class {
                    let ln_s = z - soft.focal_peak - focal_ln;
                    u_sum += focal_slope_g0(head, exp(ln_s), ln_s, t, on);
                }
                //# end
            }
            //# end
        }
        //# end

        for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
            //# each k
            if class_first + k0 < CLASSES_g0 {
                let class_k0 = class_first + k0;
                let z = logits_g0(place, head, class_k0, voxel, left);
                let t = target_g0(place, head, quad, class_k0, voxel, left);
                let on = incoming * coefficients[kappa_at + 2u * class_k0];
                let off = incoming * coefficients[kappa_at + 2u * class_k0 + 1u];
                var s = NONE;
                s = exp(z - soft.peak) * scale; //# if softmax
                var of_overlap = NONE;
                var of_pixel = NONE;
                //# if overlap
                {
                    let p = activate_g0(z, s);
                    let a = incoming * coefficients[slopes_at + 2u * class_k0];
                    let b = incoming * coefficients[slopes_at + 2u * class_k0 + 1u];
                    let g = overlap_slope_g0(p, t, a, b);
                    of_overlap = s * (joint + g); //# if overlap_softmax
                    of_overlap = p * (1.0 - p) * g; //# if sigmoid
                    of_overlap = g; //# if identity
                }
                //# end
                //# if cross_entropy
                of_pixel = s * joint; //# if not overlap_softmax
                of_pixel -= top * soft_label_g0(head, t, on);
                //# end
                if class_k0 >= head.pixel_first_class {
                    of_pixel += binary_slope_g0(head, z, t, on, off); //# if binary
                    //# if focal_softmax
                    let ln_s = z - soft.focal_peak - focal_ln;
                    of_pixel += focal_slope_g0(head, exp(ln_s), ln_s, t, on) - exp(ln_s) * u_sum;
                    //# end
                }
                //# if apart
                // terms that share no softmax: where one is off, a 0 is selected, so that its NaN does not reach the other
                of_overlap = select(NONE, of_overlap, vec4<bool>(is_on.overlap));
                of_pixel = select(NONE, of_pixel, vec4<bool>(is_on.pixel));
                //# end
                let dz = select(NONE, worth_g0(quad, of_overlap + of_pixel), quad.valid);
                finite = store_g0(place, head, class_k0, voxel, left, dz) && finite;
            }
            //# end
        }
    }
    return finite;
}
