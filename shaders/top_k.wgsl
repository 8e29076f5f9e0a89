// Between statistics and finish, where a head asks for it: the k largest pixel losses, exactly, by a radix select.
//
// A loss is not negative, so its bits as u32 have the order of the losses, and a NaN is the largest. Four rounds of 8 bits,
// from the top: count the values of each digit among those that share the digits found so far; then, from the largest digit
// down, find the digit in which the k-th value lies. After the last round the threshold is known bit for bit, and so is how
// many of the values equal to it belong to the k: all values at the threshold share what is left, in the loss and in the
// gradient.
//
//   begin      clears what the last step left
//   histogram  counts digits          )
//   pick       finds the digit        )  four times
//   sum_top    adds the losses above the threshold, one partial sum per workgroup; finish.wgsl adds these
//
// bindings   0  heads      (HEADS)   uniform     the table: heads with top_k > 0 take part
//            1  losses     per head (items · voxels)  read  bits of f32, written by `statistics`; 0 where a voxel does not
//                          count
//            2  selection  per head SELECTION_WORDS + loss_runs  read_write  words: 0 shift, 1 prefix, 2 how many are left
//                          to find, 3 how many equal the threshold, 4 … 259 the histogram; then the partial sums (f32)
// dispatch   begin, pick: one workgroup per head; histogram, sum_top: one per run of LOSS_RUN losses, in grids that past the
//            limit for x are folded into y. Each of FOLD_INVOCATIONS invocations
// determinism   bit for bit: integer atomics, and sums as trees

const DIGITS = 256u;

//# stand-in
const LOSS_RUN = 4096u; const SELECTION_WORDS = 260u; const FOLD_INVOCATIONS = 64u;
struct Head { @align(16) items: u32, voxels: u32, top_k: u32, losses: u32, selection: u32, first_loss_run: u32, loss_runs: u32, rows: u32 }
@group(0) @binding(0) var<uniform> heads: array<Head, 1>;
fn workgroup_number(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 { return workgroup.x + workgroup.y * grid.x; }
fn sum_workgroup(invocation: u32, value: f32) -> f32 { return value; }
//# end

@group(0) @binding(1) var<storage, read> losses: array<u32>;
@group(0) @binding(2) var<storage, read_write> selection: array<atomic<u32>>;

var<workgroup> sh_digits: array<atomic<u32>, DIGITS>;

// The head that a run of losses belongs to. Heads without a top-k have no runs.
fn run_head(number: u32) -> Head {
    var index = 0u;
    for (var i = 0u; i < heads[0].rows; i += 1u) {
        if heads[i].loss_runs > 0u && number >= heads[i].first_loss_run {
            index = i;
        }
    }
    return heads[index];
}

@compute @workgroup_size(FOLD_INVOCATIONS)
fn begin(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let head = heads[workgroup.x];
    if head.top_k == 0u {
        return;
    }
    for (var i = invocation; i < SELECTION_WORDS; i += FOLD_INVOCATIONS) {
        var value = 0u;
        if i == 0u { value = 24u; }
        if i == 2u { value = head.top_k; }
        atomicStore(&selection[head.selection + i], value);
    }
}

@compute @workgroup_size(FOLD_INVOCATIONS)
fn histogram(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let number = workgroup_number(workgroup, grid);
    let head = run_head(number);
    for (var i = invocation; i < DIGITS; i += FOLD_INVOCATIONS) {
        atomicStore(&sh_digits[i], 0u);
    }
    workgroupBarrier();
    if head.top_k > 0u && number - head.first_loss_run < head.loss_runs {
        let shift = atomicLoad(&selection[head.selection]);
        let prefix = atomicLoad(&selection[head.selection + 1u]);
        let first = (number - head.first_loss_run) * LOSS_RUN;
        let end = min(first + LOSS_RUN, head.items * head.voxels);
        for (var i = first + invocation; i < end; i += FOLD_INVOCATIONS) {
            let bits = losses[head.losses + i];
            // the digits above this one; a shift by 32 is not defined
            let above = select(bits >> min(shift + 8u, 31u), 0u, shift == 24u);
            if above == prefix {
                atomicAdd(&sh_digits[(bits >> shift) & 0xffu], 1u);
            }
        }
    }
    workgroupBarrier();
    if head.top_k > 0u && number - head.first_loss_run < head.loss_runs {
        for (var i = invocation; i < DIGITS; i += FOLD_INVOCATIONS) {
            let count_of_digit = atomicLoad(&sh_digits[i]);
            if count_of_digit > 0u {
                atomicAdd(&selection[head.selection + 4u + i], count_of_digit);
            }
        }
    }
}

@compute @workgroup_size(FOLD_INVOCATIONS)
fn pick(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) invocation: u32) {
    let head = heads[workgroup.x];
    if head.top_k == 0u || invocation != 0u {
        return;
    }
    let at = head.selection;
    var left = atomicLoad(&selection[at + 2u]);
    var digit = DIGITS - 1u;
    var of_digit = atomicLoad(&selection[at + 4u + digit]);
    while digit > 0u && of_digit < left {
        left -= of_digit;
        digit -= 1u;
        of_digit = atomicLoad(&selection[at + 4u + digit]);
    }
    let prefix = atomicLoad(&selection[at + 1u]);
    let shift = atomicLoad(&selection[at]);
    atomicStore(&selection[at], max(shift, 8u) - 8u);
    atomicStore(&selection[at + 1u], (prefix << 8u) | digit);
    atomicStore(&selection[at + 2u], left);
    atomicStore(&selection[at + 3u], of_digit);
    for (var i = 0u; i < DIGITS; i += 1u) {
        atomicStore(&selection[at + 4u + i], 0u);
    }
}

@compute @workgroup_size(FOLD_INVOCATIONS)
fn sum_top(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let number = workgroup_number(workgroup, grid);
    let head = run_head(number);
    let run = number - head.first_loss_run;
    var mine = 0.0;
    if head.top_k > 0u && run < head.loss_runs {
        let threshold = atomicLoad(&selection[head.selection + 1u]);
        let end = min((run + 1u) * LOSS_RUN, head.items * head.voxels);
        for (var i = run * LOSS_RUN + invocation; i < end; i += FOLD_INVOCATIONS) {
            let bits = losses[head.losses + i];
            if bits > threshold {
                mine += bitcast<f32>(bits);
            }
        }
    }
    let sum = sum_workgroup(invocation, mine);
    if head.top_k > 0u && run < head.loss_runs && invocation == 0u {
        atomicStore(&selection[head.selection + SELECTION_WORDS + run], bitcast<u32>(sum));
    }
}
