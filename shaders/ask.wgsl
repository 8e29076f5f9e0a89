// Questions with known answers, asked of a device before a plan rests on it: whether sums over a workgroup and over its
// subgroups are right, whether lanes have the order of invocations, whether workgroup atomics count, and whether halves are
// converted exactly. No loss is in it.
//
// All that is computed with comes from the questions, so that no compiler computes an answer. Invocation i has the number
// i + 1; sums of such numbers are exact in f32.
//
// bindings   0  questions  (1 + HALVES + 2 HALVES)   read        1; words of two halves; pairs of f32
//            1  answers    (ANSWERS + 3 HALVES)      read_write  as `answers` of gpu/ask.rs expects them: by name, then of each
//                          word its two f32, then of each pair its word of halves
// dispatch   one workgroup of INVOCATIONS invocations
// memory     sh_sums, sh_least, sh_wrong  (INVOCATIONS)    sh_digits  (4)
// determinism   integers, and sums that are exact in any order

@group(0) @binding(0) var<storage, read> questions: array<u32>;
@group(0) @binding(1) var<storage, read_write> answers: array<u32>;

//# stand-in
const INVOCATIONS = 8u; const HALVES = 1u; const ASKED_SUM = 0u; const ASKED_TREE = 1u; const ASKED_SUBGROUP_SUM = 2u;
const ASKED_SUBGROUP_LEAST = 3u; const ASKED_OUT_OF_ORDER = 4u; const ASKED_DIGITS = 5u; const ANSWERS = 9u;
//# end

var<workgroup> sh_sums: array<f32, INVOCATIONS>;
var<workgroup> sh_least: array<f32, INVOCATIONS>;
var<workgroup> sh_wrong: array<u32, INVOCATIONS>;
var<workgroup> sh_digits: array<atomic<u32>, 4>;

@compute @workgroup_size(INVOCATIONS)
fn ask(
    @builtin(local_invocation_index) invocation: u32,
    //# if subgroups
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    //# end
) {
    let number = f32(invocation + questions[0]);

    // a sum in a row, by one invocation
    sh_sums[invocation] = number;
    if invocation < 4u {
        atomicStore(&sh_digits[invocation], 0u);
    }
    workgroupBarrier();
    if invocation == 0u {
        var sum = 0.0;
        for (var i = 0u; i < INVOCATIONS; i += 1u) {
            sum += sh_sums[i];
        }
        answers[ASKED_SUM] = u32(sum);
    }

    // a histogram: all count in the first digit, and a third of them in each of the others
    atomicAdd(&sh_digits[0], questions[0]);
    atomicAdd(&sh_digits[questions[0] + invocation % 3u], questions[0]);
    workgroupBarrier();
    if invocation < 4u {
        answers[ASKED_DIGITS + invocation] = atomicLoad(&sh_digits[invocation]);
    }

    // a sum as a tree
    for (var width = INVOCATIONS; width > 1u; width = (width + 1u) / 2u) {
        let half = (width + 1u) / 2u;
        if invocation + half < width {
            sh_sums[invocation] += sh_sums[invocation + half];
        }
        workgroupBarrier();
    }
    if invocation == 0u {
        answers[ASKED_TREE] = u32(sh_sums[0]);
    }
    workgroupBarrier();

    //# if subgroups
    // a sum and a least number, over each subgroup and then over the subgroups
    let sum_of_subgroup = subgroupAdd(number);
    let least_of_subgroup = subgroupMin(f32(INVOCATIONS) - number);
    if lane == 0u {
        sh_sums[subgroup] = sum_of_subgroup;
        sh_least[subgroup] = least_of_subgroup;
    }
    workgroupBarrier();
    if invocation == 0u {
        var sum = 0.0;
        var least = f32(INVOCATIONS);
        for (var i = 0u; i < subgroups; i += 1u) {
            sum += sh_sums[i];
            least = min(least, sh_least[i]);
        }
        answers[ASKED_SUBGROUP_SUM] = u32(sum);
        answers[ASKED_SUBGROUP_LEAST] = u32(least);
    }
    //# end

    //# if one_subgroup
    // lanes: what each invocation receives from the one whose index differs in one bit, and the sum in all of them
    var wrong = 0u;
    for (var apart = 1u; apart < INVOCATIONS; apart *= 2u) {
        wrong += u32(subgroupShuffleXor(invocation, apart) != (invocation ^ apart));
    }
    wrong += u32(sum_of_subgroup != f32(INVOCATIONS * (INVOCATIONS + 1u) / 2u));
    sh_wrong[invocation] = wrong;
    workgroupBarrier();
    if invocation == 0u {
        var all = 0u;
        for (var i = 0u; i < INVOCATIONS; i += 1u) {
            all += sh_wrong[i];
        }
        answers[ASKED_OUT_OF_ORDER] = all;
    }
    //# end

    for (var i = invocation; i < HALVES; i += INVOCATIONS) {
        let pair = unpack2x16float(questions[1u + i]);
        answers[ANSWERS + 2u * i] = bitcast<u32>(pair.x);
        answers[ANSWERS + 2u * i + 1u] = bitcast<u32>(pair.y);
        let at = 1u + HALVES + 2u * i;
        let floats = bitcast<vec2<f32>>(vec2<u32>(questions[at], questions[at + 1u]));
        answers[ANSWERS + 2u * HALVES + i] = pack2x16float(floats);
    }
}
