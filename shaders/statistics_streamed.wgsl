// Statistics of a tile, many classes: the classes of a quad stream past in chunks, and no invocation ever holds them all.
//
// The tile is walked in blocks of one quad per invocation. A block's logits are read twice:
//   first   peak and S = Σ exp(z_c − peak), chunk by chunk, rescaling S when the peak moves;
//   second  all terms (terms.wgsl), and I, P, T of the chunk's classes, summed over the workgroup and added to the tile's
//           row.
// The second read finds them in cache: a block is 16 · INVOCATIONS · C bytes. Without a softmax there is only the second.

//# stand-in
const INVOCATIONS = 8u; const CHUNK = 4u; const TILE = 4096u; const NOWHERE = 16777216.0; const NONE = vec4<f32>();
const ONES = vec4<f32>(1.0); const CLASSES_g0 = 1u; const k0 = 0u;
struct Invocation { index: u32 }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Head { voxels: u32, class_parameters: u32, pixel_first_class: u32 }
struct Quad_g0 { class_of: vec4<u32>, valid: vec4<bool>, out_of_range: vec4<bool>, m: vec4<f32> }
struct TileSums { pixel: f32, mass: f32, counted: f32, out_of_range: f32, non_finite: f32, first_out_of_range: f32 }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u, 0u); }
fn lanes_inside(left: u32) -> vec4<bool> { return vec4<bool>(left > 0u); }
fn logits_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32) -> vec4<f32> { return NONE; }
fn target_g0(place: Place, head: Head, quad: Quad_g0, class_index: u32, voxel: u32, left: u32) -> vec4<f32> { return NONE; }
fn quad_g0(place: Place, head: Head, present: vec4<bool>, voxel: u32, left: u32) -> Quad_g0 { return Quad_g0(vec4<u32>(), present, present, ONES); }
struct Softmax_g0 { peak: vec4<f32>, sum: vec4<f32>, focal_peak: vec4<f32>, focal_sum: vec4<f32> }
fn softmax_g0(place: Place, head: Head, voxel: u32, left: u32) -> Softmax_g0 { return Softmax_g0(NONE, NONE, NONE, NONE); }
fn item_counts_g0(place: Place, head: Head) -> bool { return true; }
fn worth_g0(quad: Quad_g0, x: vec4<f32>) -> vec4<f32> { return x; }
fn activate_g0(z: vec4<f32>, s: vec4<f32>) -> vec4<f32> { return s; }
fn product_g0(p: vec4<f32>, t: vec4<f32>) -> vec4<f32> { return p * t; }
fn measure_g0(x: vec4<f32>) -> vec4<f32> { return x; }
fn soft_label_g0(head: Head, t: vec4<f32>, on: f32) -> vec4<f32> { return t * on; }
fn binary_g0(head: Head, z: vec4<f32>, t: vec4<f32>, on: f32, off: f32) -> vec4<f32> { return z; }
fn focal_g0(head: Head, s: vec4<f32>, ln_s: vec4<f32>, t: vec4<f32>, on: f32) -> vec4<f32> { return s; }
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
fn write_rows(place: Place, me: Invocation, column: u32, classes: u32, first_class: u32, count: u32, begin: bool) {}
fn write_tile(place: Place, me: Invocation, sums: TileSums) {}
//# end

fn statistics_g0(place: Place, me: Invocation) {
    let head = head_of(place);
    let tile_first = place.tile * TILE;
    let tile_end = min(tile_first + TILE, head.voxels);
    let item_counts = vec4<bool>(item_counts_g0(place, head));
    var sums = TileSums(0.0, 0.0, 0.0, 0.0, 0.0, NOWHERE);

    // All invocations walk all blocks, since they meet at the barriers of the sums below; past the end of the row they read
    // its last voxel again, and do not count it.
    for (var block = tile_first; block < tile_end; block += INVOCATIONS * 4u) {
        let voxel = min(block + me.index * 4u, head.voxels - 1u);
        let present = block + me.index * 4u < head.voxels;
        let left = head.voxels - voxel;
        let quad = quad_g0(place, head, lanes_inside(left) & item_counts & vec4<bool>(present), voxel, left);
        var out_of_range = quad.out_of_range;
        var non_finite = vec4<bool>();
        var taken = vec4<bool>();

        let soft = softmax_g0(place, head, voxel, left);
        let scale = 1.0 / soft.sum;
        let ln_sum = log(soft.sum);
        let focal_ln = log(soft.focal_sum);

        var loss = NONE;
        for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
            //# each k
            let class_k0 = min(class_first + k0, CLASSES_g0 - 1u);
            let z_k0 = logits_g0(place, head, class_k0, voxel, left);
            //# end
            //# each k
            {
                let t = target_g0(place, head, quad, class_k0, voxel, left);
                non_finite = non_finite | not_finite(z_k0); //# if check_finite
                out_of_range = out_of_range | outside_unit(t); //# if probabilities
                var on = 1.0;
                var off = 1.0;
                //# if class_parameters
                on = coefficients[head.class_parameters + 2u * class_k0];
                off = coefficients[head.class_parameters + 2u * class_k0 + 1u];
                //# end
                if class_first + k0 < CLASSES_g0 && class_k0 >= head.pixel_first_class {
                    loss += weighed(soft_label_g0(head, t, on), ln_sum - (z_k0 - soft.peak)); //# if cross_entropy
                    loss += binary_g0(head, z_k0, t, on, off); //# if binary
                    //# if focal_softmax
                    let ln_s = z_k0 - soft.focal_peak - focal_ln;
                    loss += focal_g0(head, exp(ln_s), ln_s, t, on);
                    //# end
                }
                var s = NONE;
                s = exp(z_k0 - soft.peak) * scale; //# if softmax
                // selected, not multiplied by 0: a voxel that does not count may hold a NaN
                let p = select(NONE, activate_g0(z_k0, s), quad.valid);
                put(me, 3u * k0, total(worth_g0(quad, product_g0(p, t))));
                put(me, 3u * k0 + 1u, total(worth_g0(quad, measure_g0(p))));
                put(me, 3u * k0 + 2u, total(worth_g0(quad, measure_g0(t))));
            }
            //# end
            let classes_here = min(CHUNK, CLASSES_g0 - class_first);
            write_rows(place, me, 0u, CLASSES_g0, class_first, classes_here, block == tile_first);
            //# if hard_counts
            //# each k
            {
                let largest = (z_k0 == soft.peak) & !taken;
                taken = taken | largest;
                let predicted = predicted_g0(z_k0, largest);
                let positive = target_g0(place, head, quad, class_k0, voxel, left) > vec4<f32>(0.5);
                put(me, 3u * k0, count(quad.valid & predicted & positive));
                put(me, 3u * k0 + 1u, count(quad.valid & predicted & !positive));
                put(me, 3u * k0 + 2u, count(quad.valid & !predicted & positive));
            }
            //# end
            write_rows(place, me, 3u * CLASSES_g0, CLASSES_g0, class_first, classes_here, block == tile_first);
            //# end
        }
        let counted_loss = select(NONE, worth_g0(quad, loss), quad.valid);
        if present {
            store_losses_g0(place, head, voxel, left, counted_loss); //# if voxel_losses
            keep_losses(place, voxel, left, counted_loss); //# if top_k
        }
        non_finite = non_finite & lanes_inside(left) & vec4<bool>(present);
        sums = add_quad(sums, voxel - tile_first, counted_loss, quad.m, quad.valid, out_of_range, non_finite);
    }
    write_tile(place, me, sums);
}
