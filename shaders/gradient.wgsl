// Stage 4, gradient: dtotal/dz of every logit, times the upstream gradient, in one pass over logits and target.
//
//   g_c  = m (α_c [y = c] + β_c)              (squared: m (α_c [y = c] + 2 β_c p_c))
//   dz_c = p_c (g_c − Σ_j p_j g_j)  +  κ m (s_c Σ_j q_j − q_c)
//   q_c  = w_c (on_label [y = c] + off_label)
// and exactly 0 where the voxel does not count. Both terms share the softmax: s = p.
//
// bindings   0  heads         (HEADS)                        uniform     the table
//            1  coefficients  per head 1 + C + rows · 2 C    read        κ; κ w_c; then α, β per (row, class): finish.wgsl
//            2  upstream      (words)                        read        the incoming gradient of the total, at head.upstream
//            …  logits_s#, labels_t#                         read        shared/logits_*.wgsl, shared/labels_*.wgsl
//            …  gradient_d#                                  read_write  shared/gradient_*.wgsl
// dispatch   one workgroup a (head, item, tile), INVOCATIONS each; grids past the limit for x are folded into y
// determinism   bit for bit: no value depends on another invocation

const TILE = 4096u;

@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
@group(0) @binding(2) var<storage, read> upstream: array<f32>;

//# stand-in
const INVOCATIONS = 8u;
const g0 = 0u;
struct Head { group: u32, upstream: u32 }
struct Place { head: u32, item: u32, tile: u32, inside: bool }
@group(0) @binding(0) var<uniform> heads: array<vec4<u32>, 1>;
fn head_of(place: Place) -> Head { return Head(heads[place.head].x, 0u); }
fn workgroup_number(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 { return workgroup.x + workgroup.y * grid.x; }
fn place_of(number: u32) -> Place { return Place(0u, 0u, number, number == 0u); }
fn gradient_g0(place: Place, invocation: u32, incoming: f32) {}
//# end

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
    let incoming = upstream[head_of(place).upstream];
    //# each g
    if group == g0 {
        gradient_g0(place, invocation, incoming);
    }
    //# end
}
