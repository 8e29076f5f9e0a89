// The softmax of a quad whose classes stream past in chunks: its peak, and its sum of exponentials.
//
// One copy per group of heads with many classes, for statistics_streamed.wgsl and gradient_streamed.wgsl. S is rescaled when
// the peak moves, so one read of the logits is enough. The focal term has a softmax of its own, without class 0 where the
// term leaves that class out.

//# stand-in
const CHUNK = 4u; const LOWEST = vec4<f32>(-3.4028234e38); const NONE = vec4<f32>(); const CLASSES_g0 = 1u; const k0 = 0u;
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Head { pixel_first_class: u32 }
fn logits_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32) -> vec4<f32> { return NONE; }
//# end

struct Softmax_g0 {
    peak: vec4<f32>,
    sum: vec4<f32>,
    focal_peak: vec4<f32>,
    focal_sum: vec4<f32>,
}

fn softmax_g0(place: Place, head: Head, voxel: u32, left: u32) -> Softmax_g0 {
    var peak = LOWEST;
    var sum = NONE;
    var focal_peak = LOWEST;
    var focal_sum = NONE;
    //# if softmax
    for (var class_first = 0u; class_first < CLASSES_g0; class_first += CHUNK) {
        // past the last class a chunk reads the last one again, and leaves it out of the sums
        let z_k0 = logits_g0(place, head, min(class_first + k0, CLASSES_g0 - 1u), voxel, left); //# each k
        //# if softmax
        var higher = peak;
        higher = max(higher, z_k0); //# each k
        sum *= exp(peak - higher);
        peak = higher;
        //# each k
        if class_first + k0 < CLASSES_g0 {
            sum += exp(z_k0 - peak);
        }
        //# end
        //# end
        //# if focal_softmax
        var focal_higher = focal_peak;
        //# each k
        if class_first + k0 >= head.pixel_first_class {
            focal_higher = max(focal_higher, z_k0);
        }
        //# end
        focal_sum *= exp(focal_peak - focal_higher);
        focal_peak = focal_higher;
        //# each k
        if class_first + k0 >= head.pixel_first_class && class_first + k0 < CLASSES_g0 {
            focal_sum += exp(z_k0 - focal_peak);
        }
        //# end
        //# end
    }
    //# end
    return Softmax_g0(peak, sum, focal_peak, focal_sum);
}
