// Stage 4, gradient: dtotal/dz of every logit, times the upstream gradient, in one pass over logits and target.
//
//   dz_c = m (∂overlap/∂z_c + κ ∂ℓ/∂z_c), exactly 0 where a voxel does not count; the terms are in terms.wgsl, and their sum
//   in gradient_registers.wgsl. Terms on the softmax share it. A term that is switched off (its weight or the head's is 0)
//   adds exactly 0, whatever its logits hold: the 0 comes from a selection, not from a product.
//
// bindings   0  heads         (HEADS)                        uniform     the table
//            1  coefficients  upstream gradient; parameters; per head the switches, κ on, κ off per class; ∂total/∂I, ∂total/∂P per (row,
//                             class)  read  finish.wgsl
//            2  upstream      (words)                       read        the incoming gradient of the total, at head.upstream;
//                             only where it is read from the caller's buffer, and not from the coefficients: upstream.wgsl
//            LOSSES_BINDING  losses  per head (items · voxels)  read    bits of f32, only where a head has a top-k: see
//                             top_k.wgsl
//            REPORT_BINDING  report  see finish.wgsl        read_write  atomic, only where a head asks whether its gradient
//                             is finite: sets that head's word
//            …  one per window of a binding of tensors      read; read_write in the gradient's buffer: shared/binding_*.wgsl
// dispatch   one workgroup per (head, item, tile), of INVOCATIONS invocations; grids past the limit for x are folded into y
// modes      overwrite, accumulate, in place over the logits: they differ in the text of a slot's store
// determinism   bit for bit: sums over the classes of a quad have one order, within an invocation and where several share the
//               quad (shared/share_*.wgsl); no other value depends on another invocation

@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
//# if upstream_bound
@group(0) @binding(2) var<storage, read> upstream: array<f32>;
//# end
//# if losses
@group(0) @binding(LOSSES_BINDING) var<storage, read> losses: array<u32>;

// The factor of each voxel of a quad in the top-k: 1 above the threshold, the share at the threshold, 0 below. Finish leaves
// threshold and share behind the head's row notes.
fn top_share(place: Place, voxel: u32, left: u32) -> vec4<f32> {
    let head = head_of(place);
    let i = vec4<u32>(head.losses + (head.first_item + place.item) * head.voxels + voxel) + min(LANES, vec4<u32>(left - 1u));
    // compared as bits, which have the order of the losses
    let loss = vec4<u32>(losses[i.x], losses[i.y], losses[i.z], losses[i.w]);
    let threshold = vec4<u32>(bitcast<u32>(coefficients[head.top_coefficients + TOP_THRESHOLD]));
    let share = vec4<f32>(coefficients[head.top_coefficients + TOP_SHARE]);
    return select(select(NONE, share, loss == threshold), ONES, loss > threshold);
}
//# end

// Which of a head's terms are on, by the switches that finish leaves.
struct Switches {
    overlap: bool,
    pixel: bool,
}

fn switches_of(head: Head) -> Switches {
    return Switches(coefficients[head.coefficients + OVERLAP_SWITCH] > 0.5, coefficients[head.coefficients + PIXEL_SWITCH] > 0.5);
}

//# if check_finite
@group(0) @binding(REPORT_BINDING) var<storage, read_write> report: array<atomic<u32>>;
//# end

//# stand-in
const INVOCATIONS = 8u; const LOSSES_BINDING = 3u; const REPORT_BINDING = 4u; const REPORT_NON_FINITE_GRADIENT = 13u; const TOP_THRESHOLD = 0u;
const TOP_SHARE = 1u; const UPSTREAM = 0u; const OVERLAP_SWITCH = 0u; const PIXEL_SWITCH = 1u; const g0 = 0u;
const LANES = vec4<u32>(0u, 1u, 2u, 3u);
const NONE = vec4<f32>(); const ONES = vec4<f32>(1.0);
struct Head { group: u32, upstream: u32, losses: u32, voxels: u32, top_coefficients: u32, report: u32, check_finite: u32, first_item: u32, coefficients: u32 }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u, 0u, 1u, 0u, 0u, 0u, 0u, 0u); }
fn workgroup_number(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 { return workgroup.x + workgroup.y * grid.x; }
fn place_of(number: u32) -> Place { return Place(0u, 0u, number, number == 0u); }
fn gradient_g0(place: Place, invocation: u32, incoming: f32) -> bool { return true; }
//# end

// The two numbers of a class in a row of coefficients, times the upstream gradient: κ on the target and off it, or ∂total/∂I and
// ∂total/∂P.
fn of_class(at: u32, class_index: u32, incoming: f32) -> vec2<f32> {
    let first = at + 2u * class_index;
    return incoming * vec2<f32>(coefficients[first], coefficients[first + 1u]);
}

@compute @workgroup_size(INVOCATIONS)
fn gradient(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let place = place_of(workgroup_number(workgroup, grid));
    if !place.inside {
        return;
    }
    let group = head_of(place).group;
    var incoming = coefficients[UPSTREAM];
    incoming = upstream[head_of(place).upstream]; //# if upstream_bound
    var finite = true;
    //# each g
    if group == g0 {
        finite = gradient_g0(place, invocation, incoming);
    }
    //# end
    //# if check_finite
    if !finite && head_of(place).check_finite != 0u {
        atomicOr(&report[head_of(place).report + REPORT_NON_FINITE_GRADIENT], 1u);
    }
    //# end
}
