// Statistics of a tile, few classes: all classes of a quad of voxels at once, in registers, their loops unrolled in text.
//
// An invocation takes the quads INVOCATIONS apart, so that neighbours read neighbouring addresses. For each it computes,
// with z the logits and y the label,
//
//   peak = max_c z_c,  d_c = z_c − peak,  e_c = exp(d_c),  S = Σ e_c,  p_c = e_c / S,  −log s_c = ln S − d_c
//   ℓ = on_label w_y (ln S − d_y) + off_label (W ln S − Σ_c w_c d_c),   W = Σ_c w_c
//
// which is cross-entropy with label smoothing ε: on_label = 1 − ε, off_label = ε / C. `peak` and `ln S` are never added
// to one number: logits may share an offset that would swallow ln S.
//
// The four voxels of a quad are added before they reach an accumulator: a quarter of the registers, a shorter chain.

//# stand-in
const INVOCATIONS = 8u;
const CHUNK = 4u;
const TILE = 4096u;
const NOWHERE = 16777216.0;
const c0 = 0u;
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

    //# each c
    var i_c0 = 0.0;
    var p_c0 = 0.0;
    var t_c0 = 0.0;
    //# end
    var pixel = 0.0;
    var out_of_range = 0.0;
    var first_out_of_range = NOWHERE;
    //# if class_weights
    //# each c
    let w_c0 = class_weights[head.class_weights + c0];
    //# end
    //# end

    for (var voxel = tile_first + me.index * 4u; voxel < tile_end; voxel += INVOCATIONS * 4u) {
        let left = head.voxels - voxel;

        //# each c
        var e_c0 = vec4<f32>();
        //# end
        switch head.logits_slot {
            //# each s
            case s0: {
                //# each c
                e_c0 = load_logits_s0(logits_row + c0 * head.voxels + voxel, left);
                //# end
            }
            //# end
            default: {}
        }
        var labels = vec4<u32>();
        switch head.target_slot {
            //# each t
            case t0: { labels = load_labels_t0(target_row + voxel, left); }
            //# end
            default: {}
        }
        let y = classify(labels, left, CLASSES_g0, head);

        var peak = e_c0;
        //# each c
        peak = max(peak, e_c0);
        //# end
        var sum = vec4<f32>();
        //# if cross_entropy
        var d_label = vec4<f32>();
        //# end
        //# if smoothing
        var d_all = vec4<f32>();
        //# end
        //# if class_weights
        var w_label = vec4<f32>();
        //# end
        //# each c
        {
            let d = e_c0 - peak;
            //# if cross_entropy
            d_label = select(d_label, d, y.class_of == vec4<u32>(c0));
            //# end
            //# if smoothing
            //# if not class_weights
            d_all += d;
            //# end
            //# if class_weights
            d_all += w_c0 * d;
            //# end
            //# end
            //# if class_weights
            w_label = select(w_label, vec4<f32>(w_c0), y.class_of == vec4<u32>(c0));
            //# end
            e_c0 = exp(d);
            sum += e_c0;
        }
        //# end

        let scale = 1.0 / sum;
        //# each c
        {
            // selected, not multiplied by 0: a voxel that does not count may hold a NaN
            let p = select(vec4<f32>(), e_c0 * scale, y.valid);
            i_c0 += total(select(vec4<f32>(), p, y.class_of == vec4<u32>(c0)));
            t_c0 += total(select(vec4<f32>(), vec4<f32>(1.0), y.class_of == vec4<u32>(c0)));
            //# if squared
            p_c0 += total(p * p);
            //# end
            //# if not squared
            p_c0 += total(p);
            //# end
        }
        //# end

        //# if cross_entropy
        let ln_sum = log(sum);
        var loss = head.on_label * (ln_sum - d_label);
        //# if class_weights
        loss *= w_label;
        //# end
        //# if smoothing
        loss += head.off_label * (head.class_weight_sum * ln_sum - d_all);
        //# end
        pixel += total(select(vec4<f32>(), loss, y.valid));
        //# end

        out_of_range += total(select(vec4<f32>(), vec4<f32>(1.0), y.out_of_range));
        first_out_of_range = min(first_out_of_range, first_of(y.out_of_range, f32(voxel - tile_first)));
    }

    // Rows are put CHUNK classes at a time: workgroup memory stays small whatever the class count.
    //# each c
    put(me, 3u * (c0 % CHUNK), i_c0);
    put(me, 3u * (c0 % CHUNK) + 1u, p_c0);
    put(me, 3u * (c0 % CHUNK) + 2u, t_c0);
    if c0 % CHUNK == CHUNK - 1u || c0 == CLASSES_g0 - 1u {
        write_rows(place, me, CLASSES_g0, c0 - c0 % CHUNK, c0 % CHUNK + 1u, true);
    }
    //# end
    write_tile(place, me, CLASSES_g0, pixel, out_of_range, first_out_of_range);
}
