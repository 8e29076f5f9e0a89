// Gradient of a tile, many classes: the classes of a quad stream past in chunks, and no invocation ever holds them all.
//
// A quad's logits are read twice: first for peak, S and D, rescaling S and D when the peak moves; then for dz, which
// follows gradient_registers.wgsl. The second read finds them in cache: 16 · INVOCATIONS · C bytes are in use at once.

//# stand-in
const INVOCATIONS = 8u;
const CHUNK = 4u;
const TILE = 4096u;
const k0 = 0u;
const s0 = 0u;
const t0 = 0u;
const d0 = 0u;
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Head {
    voxels: u32, logits_slot: u32, logits_first: u32, target_slot: u32, target_first: u32, gradient_slot: u32,
    gradient_first: u32, coefficients: u32, coefficient_row: u32, on_label: f32, off_label: f32,
    class_weight_sum: f32,
}
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 1.0, 0.0, 1.0); }
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
    let kappa = incoming * coefficients[pixel_at];

    for (var voxel = tile_first + invocation * 4u; voxel < tile_end; voxel += INVOCATIONS * 4u) {
        let left = head.voxels - voxel;
        var labels = vec4<u32>();
        switch head.target_slot {
            //# each t
            case t0: { labels = load_labels_t0(target_row + voxel, left); }
            //# end
            default: {}
        }
        let y = classify(labels, left, CLASSES_g0, head);

        var peak = vec4<f32>();
        var sum = vec4<f32>();
        // a_y e_y + Σ b_c e_c, still to be divided by S   (squared: the second part apart, divided by S²)
        var dot = vec4<f32>();
        //# if squared
        var dot_squared = vec4<f32>();
        //# end
        var k_label = vec4<f32>();
        for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
            //# each k
            let class_k0 = min(class_first + k0, CLASSES_g0 - 1u);
            let more_k0 = class_first + k0 < CLASSES_g0;
            var z_k0 = vec4<f32>();
            //# end
            switch head.logits_slot {
                //# each s
                case s0: {
                    //# each k
                    z_k0 = load_logits_s0(head.logits_first + item_first + class_k0 * head.voxels + voxel, left);
                    //# end
                }
                //# end
                default: {}
            }
            var higher = select(peak, z_k0, class_first == 0u);
            //# each k
            higher = max(higher, z_k0);
            //# end
            // at the first chunk the old sums are 0, and exp(0) harmless
            let rescale = exp(select(peak, higher, class_first == 0u) - higher);
            peak = higher;
            sum *= rescale;
            //# if overlap
            dot *= rescale;
            //# if squared
            dot_squared *= rescale * rescale;
            //# end
            //# end
            //# each k
            if more_k0 {
                let mine = y.class_of == vec4<u32>(class_k0);
                let e = exp(z_k0 - peak);
                sum += e;
                //# if overlap
                let a = incoming * coefficients[overlap_at + 2u * class_k0];
                let b = incoming * coefficients[overlap_at + 2u * class_k0 + 1u];
                //# if not squared
                dot += e * (select(vec4<f32>(), vec4<f32>(a), mine) + b);
                //# end
                //# if squared
                dot += e * select(vec4<f32>(), vec4<f32>(a), mine);
                dot_squared += 2.0 * b * e * e;
                //# end
                //# end
                //# if cross_entropy
                k_label = select(k_label, vec4<f32>(incoming * coefficients[pixel_at + 1u + class_k0]), mine);
                //# end
            }
            //# end
        }

        let scale = 1.0 / sum;
        // the part of dz_c / p_c that all classes share: Q − D
        var shared_part = vec4<f32>();
        //# if cross_entropy
        shared_part = head.on_label * k_label + vec4<f32>(head.off_label * kappa * head.class_weight_sum);
        //# end
        //# if overlap
        shared_part -= dot * scale;
        //# if squared
        shared_part -= dot_squared * scale * scale;
        //# end
        //# end

        for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
            //# each k
            let class_k0 = min(class_first + k0, CLASSES_g0 - 1u);
            var z_k0 = vec4<f32>();
            //# end
            switch head.logits_slot {
                //# each s
                case s0: {
                    //# each k
                    z_k0 = load_logits_s0(head.logits_first + item_first + class_k0 * head.voxels + voxel, left);
                    //# end
                }
                //# end
                default: {}
            }
            //# each k
            {
                let mine = y.class_of == vec4<u32>(class_k0);
                let p = exp(z_k0 - peak) * scale;
                var g = shared_part;
                //# if overlap
                let a = incoming * coefficients[overlap_at + 2u * class_k0];
                let b = incoming * coefficients[overlap_at + 2u * class_k0 + 1u];
                //# if not squared
                g += select(vec4<f32>(), vec4<f32>(a), mine) + b;
                //# end
                //# if squared
                g += select(vec4<f32>(), vec4<f32>(a), mine) + 2.0 * b * p;
                //# end
                //# end
                var dz = p * g;
                //# if cross_entropy
                let k = incoming * coefficients[pixel_at + 1u + class_k0];
                dz -= select(vec4<f32>(), vec4<f32>(head.on_label * k), mine) + head.off_label * k;
                //# end
                z_k0 = select(vec4<f32>(), dz, y.valid);
            }
            //# end
            switch head.gradient_slot {
                //# each d
                case d0: {
                    // the classes that repeat at the end of the last chunk store the same value again
                    //# each k
                    store_gradient_d0(head.gradient_first + item_first + class_k0 * head.voxels + voxel, left, z_k0);
                    //# end
                }
                //# end
                default: {}
            }
        }
    }
}
