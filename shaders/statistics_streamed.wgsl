// Statistics of a tile, many classes: the classes of a quad stream past in chunks, and no invocation ever holds them all.
//
// The tile is walked in blocks of one quad an invocation. A block's logits are read twice:
//   first   peak, S = Σ exp(z_c − peak) and the pixel term, chunk by chunk, rescaling S when the peak moves;
//   second  p_c = exp(z_c − peak) / S, and I, P, T of the chunk's classes, summed over the workgroup and added to the
//           tile's row.
// The second read finds them in cache: a block is 16 · INVOCATIONS · C bytes.
//
// With smoothing, Σ w_c d_c = Σ w_c (z_c − z_0) + W (z_0 − peak): z_0, unlike the peak, is known from the start, and
// d_0 is a term of the sum, so the detour costs no more than its rounding.

//# stand-in
const INVOCATIONS = 8u;
const CHUNK = 4u;
const TILE = 4096u;
const NOWHERE = 16777216.0;
const k0 = 0u;
const s0 = 0u;
const t0 = 0u;
struct Invocation { @builtin(local_invocation_index) index: u32 }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Head {
    voxels: u32, logits_slot: u32, logits_first: u32, target_slot: u32, target_first: u32, has_ignore_index: u32,
    ignore_index: u32, class_weights: u32, on_label: f32, off_label: f32, class_weight_sum: f32,
}
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
@group(0) @binding(1) var<storage, read> class_weights: array<f32>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 1.0, 0.0, 1.0); }
fn load_logits_s0(first: u32, left: u32) -> vec4<f32> { return vec4<f32>(); }
fn load_labels_t0(first: u32, left: u32) -> vec4<u32> { return vec4<u32>(); }
fn classify(labels: vec4<u32>, left: u32, classes: u32, head: Head) -> Labels { return Labels(labels, vec4<bool>(), vec4<bool>()); }
struct Labels { class_of: vec4<u32>, valid: vec4<bool>, out_of_range: vec4<bool> }
fn total(x: vec4<f32>) -> f32 { return x.x; }
fn first_of(lanes: vec4<bool>, position: f32) -> f32 { return position; }
fn put(me: Invocation, row: u32, value: f32) {}
fn write_rows(place: Place, me: Invocation, classes: u32, first_class: u32, count: u32, begin: bool) {}
fn write_tile(place: Place, me: Invocation, classes: u32, pixel: f32, out_of_range: f32, first_out_of_range: f32) {}
//# end

const CLASSES_g0 = 1u;

fn statistics_g0(place: Place, me: Invocation) {
    let head = head_of(place);
    let tile_first = place.tile * TILE;
    let tile_end = min(tile_first + TILE, head.voxels);
    let logits_row = head.logits_first + place.item * CLASSES_g0 * head.voxels;
    let target_row = head.target_first + place.item * head.voxels;

    var pixel = 0.0;
    var out_of_range = 0.0;
    var first_out_of_range = NOWHERE;

    // All invocations walk all blocks, since the sums below meet at barriers; past the end of the row they repeat its
    // last voxel, which then counts nowhere.
    for (var block = tile_first; block < tile_end; block += INVOCATIONS * 4u) {
        let voxel = min(block + me.index * 4u, head.voxels - 1u);
        let left = select(0u, head.voxels - voxel, block + me.index * 4u < head.voxels);
        let readable = max(left, 1u);
        var labels = vec4<u32>();
        switch head.target_slot {
            //# each t
            case t0: { labels = load_labels_t0(target_row + voxel, readable); }
            //# end
            default: {}
        }
        let y = classify(labels, left, CLASSES_g0, head);

        var peak = vec4<f32>();
        var sum = vec4<f32>();
        //# if cross_entropy
        var z_label = vec4<f32>();
        //# end
        //# if smoothing
        var z_zero = vec4<f32>();
        var from_zero = vec4<f32>();
        //# end
        //# if class_weights
        var w_label = vec4<f32>();
        //# end
        for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
            // a chunk past the last class repeats it
            //# each k
            let class_k0 = min(class_first + k0, CLASSES_g0 - 1u);
            let more_k0 = class_first + k0 < CLASSES_g0;
            var z_k0 = vec4<f32>();
            //# end
            switch head.logits_slot {
                //# each s
                case s0: {
                    //# each k
                    z_k0 = load_logits_s0(logits_row + class_k0 * head.voxels + voxel, readable);
                    //# end
                }
                //# end
                default: {}
            }
            var higher = select(peak, z_k0, class_first == 0u);
            //# each k
            higher = max(higher, z_k0);
            //# end
            // at the first chunk the old sum is 0, and exp(0) harmless
            sum *= exp(select(peak, higher, class_first == 0u) - higher);
            peak = higher;
            //# if smoothing
            z_zero = select(z_zero, z_k0, class_first == 0u);
            //# end
            //# each k
            if more_k0 {
                sum += exp(z_k0 - peak);
                //# if cross_entropy
                z_label = select(z_label, z_k0, y.class_of == vec4<u32>(class_k0));
                //# end
                //# if class_weights
                let w = class_weights[head.class_weights + class_k0];
                w_label = select(w_label, vec4<f32>(w), y.class_of == vec4<u32>(class_k0));
                //# end
                //# if smoothing
                //# if class_weights
                from_zero += w * (z_k0 - z_zero);
                //# end
                //# if not class_weights
                from_zero += z_k0 - z_zero;
                //# end
                //# end
            }
            //# end
        }

        //# if cross_entropy
        let ln_sum = log(sum);
        var loss = head.on_label * (ln_sum - (z_label - peak));
        //# if class_weights
        loss *= w_label;
        //# end
        //# if smoothing
        loss += head.off_label * (head.class_weight_sum * (ln_sum - (z_zero - peak)) - from_zero);
        //# end
        pixel += total(select(vec4<f32>(), loss, y.valid));
        //# end
        out_of_range += total(select(vec4<f32>(), vec4<f32>(1.0), y.out_of_range));
        first_out_of_range = min(first_out_of_range, first_of(y.out_of_range, f32(voxel - tile_first)));

        let scale = 1.0 / sum;
        for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
            //# each k
            let class_k0 = min(class_first + k0, CLASSES_g0 - 1u);
            var z_k0 = vec4<f32>();
            //# end
            switch head.logits_slot {
                //# each s
                case s0: {
                    //# each k
                    z_k0 = load_logits_s0(logits_row + class_k0 * head.voxels + voxel, readable);
                    //# end
                }
                //# end
                default: {}
            }
            //# each k
            {
                // selected, not multiplied by 0: a voxel that does not count may hold a NaN
                let p = select(vec4<f32>(), exp(z_k0 - peak) * scale, y.valid);
                let mine = y.class_of == vec4<u32>(class_k0);
                put(me, 3u * k0, total(select(vec4<f32>(), p, mine)));
                //# if squared
                put(me, 3u * k0 + 1u, total(p * p));
                //# end
                //# if not squared
                put(me, 3u * k0 + 1u, total(p));
                //# end
                put(me, 3u * k0 + 2u, total(select(vec4<f32>(), vec4<f32>(1.0), mine)));
            }
            //# end
            let count = min(CHUNK, CLASSES_g0 - class_first);
            write_rows(place, me, CLASSES_g0, class_first, count, block == tile_first);
        }
    }
    write_tile(place, me, CLASSES_g0, pixel, out_of_range, first_out_of_range);
}
