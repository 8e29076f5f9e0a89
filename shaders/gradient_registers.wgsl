// Gradient of a tile, few classes: all classes of a quad of voxels at once, in registers, their loops unrolled in text.
//
// With a_c = upstream α_c, b_c = upstream β_c, k_c = upstream κ w_c, read once a workgroup:
//
//   D    = Σ_c p_c g_c = a_y p_y + Σ_c b_c p_c       (squared: a_y p_y + Σ_c 2 b_c p_c²)
//   Q    = Σ_c κ q_c   = on_label k_y + off_label Σ_c k_c
//   dz_c = p_c (g_c − D + Q) − on_label k_c [y = c] − off_label k_c

//# stand-in
const INVOCATIONS = 8u;
const TILE = 4096u;
const c0 = 0u;
const s0 = 0u;
const t0 = 0u;
const d0 = 0u;
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Head {
    voxels: u32, logits_slot: u32, logits_first: u32, target_slot: u32, target_first: u32, gradient_slot: u32,
    gradient_first: u32, coefficients: u32, coefficient_row: u32, on_label: f32, off_label: f32,
}
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 1.0, 0.0); }
fn load_logits_s0(first: u32, left: u32) -> vec4<f32> { return vec4<f32>(); }
fn load_labels_t0(first: u32, left: u32) -> vec4<u32> { return vec4<u32>(); }
fn store_gradient_d0(first: u32, left: u32, value: vec4<f32>) {}
fn classify(labels: vec4<u32>, left: u32, classes: u32, head: Head) -> Labels { return Labels(labels, vec4<bool>(), vec4<bool>()); }
struct Labels { class_of: vec4<u32>, valid: vec4<bool>, out_of_range: vec4<bool> }
//# end

const CLASSES_g0 = 1u;

fn gradient_g0(place: Place, invocation: u32, incoming: f32) {
    let head = head_of(place);
    let tile_first = place.tile * TILE;
    let tile_end = min(tile_first + TILE, head.voxels);
    let item_first = place.item * CLASSES_g0 * head.voxels;
    let target_row = head.target_first + place.item * head.voxels;

    let pixel_at = head.coefficients;
    let overlap_at = pixel_at + 1u + CLASSES_g0 + place.item * head.coefficient_row;
    //# if overlap
    //# each c
    let a_c0 = incoming * coefficients[overlap_at + 2u * c0];
    let b_c0 = incoming * coefficients[overlap_at + 2u * c0 + 1u];
    //# end
    //# end
    var k_sum = 0.0;
    //# each c
    let k_c0 = incoming * coefficients[pixel_at + 1u + c0];
    k_sum += k_c0;
    //# end

    for (var voxel = tile_first + invocation * 4u; voxel < tile_end; voxel += INVOCATIONS * 4u) {
        let left = head.voxels - voxel;

        //# each c
        var p_c0 = vec4<f32>();
        //# end
        switch head.logits_slot {
            //# each s
            case s0: {
                //# each c
                p_c0 = load_logits_s0(head.logits_first + item_first + c0 * head.voxels + voxel, left);
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

        var peak = p_c0;
        //# each c
        peak = max(peak, p_c0);
        //# end
        var sum = vec4<f32>();
        //# each c
        p_c0 = exp(p_c0 - peak);
        sum += p_c0;
        //# end
        let scale = 1.0 / sum;
        // the part of dz_c / p_c that all classes share: Q − D
        var shared_part = vec4<f32>();
        //# if cross_entropy
        shared_part = vec4<f32>(head.off_label * k_sum);
        //# end
        //# each c
        p_c0 *= scale;
        //# if overlap
        //# if not squared
        shared_part -= p_c0 * (select(vec4<f32>(), vec4<f32>(a_c0), y.class_of == vec4<u32>(c0)) + b_c0);
        //# end
        //# if squared
        shared_part -= p_c0 * (select(vec4<f32>(), vec4<f32>(a_c0), y.class_of == vec4<u32>(c0)) + 2.0 * b_c0 * p_c0);
        //# end
        //# end
        //# if cross_entropy
        shared_part += select(vec4<f32>(), vec4<f32>(head.on_label * k_c0), y.class_of == vec4<u32>(c0));
        //# end
        //# end

        //# each c
        {
            let mine = y.class_of == vec4<u32>(c0);
            var g = shared_part;
            //# if overlap
            //# if not squared
            g += select(vec4<f32>(), vec4<f32>(a_c0), mine) + b_c0;
            //# end
            //# if squared
            g += select(vec4<f32>(), vec4<f32>(a_c0), mine) + 2.0 * b_c0 * p_c0;
            //# end
            //# end
            var dz = p_c0 * g;
            //# if cross_entropy
            dz -= select(vec4<f32>(), vec4<f32>(head.on_label * k_c0), mine) + head.off_label * k_c0;
            //# end
            p_c0 = select(vec4<f32>(), dz, y.valid);
        }
        //# end
        switch head.gradient_slot {
            //# each d
            case d0: {
                //# each c
                store_gradient_d0(head.gradient_first + item_first + c0 * head.voxels + voxel, left, p_c0);
                //# end
            }
            //# end
            default: {}
        }
    }
}
