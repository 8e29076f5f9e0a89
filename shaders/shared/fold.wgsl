// One value an invocation, folded into one value a workgroup: a sum of f32, a sum of u32, or the least u32.
//
// Values travel as u32 words, so that integers stay integers; a word is seen as f32 only where it is one.
//
// memory        sh_fold  (FOLD_INVOCATIONS)  a power of two
// determinism   a tree whose shape is the text below

const FOLD_INVOCATIONS = 64u;

// what a word is, and how two become one
const SUM = 0u;
const COUNT = 1u;
const LEAST = 2u;

var<workgroup> sh_fold: array<u32, FOLD_INVOCATIONS>;

fn fold(kind: u32, a: u32, b: u32) -> u32 {
    switch kind {
        case SUM: { return bitcast<u32>(bitcast<f32>(a) + bitcast<f32>(b)); }
        case COUNT: { return a + b; }
        default: { return min(a, b); }
    }
}

fn identity(kind: u32) -> u32 {
    return select(0u, 0xffffffffu, kind == LEAST);
}

// Called by all invocations; all get the result. The first barrier lets a call follow another at once.
fn fold_workgroup(kind: u32, invocation: u32, value: u32) -> u32 {
    workgroupBarrier();
    sh_fold[invocation] = value;
    workgroupBarrier();
    for (var half = FOLD_INVOCATIONS / 2u; half > 0u; half /= 2u) {
        if invocation < half {
            sh_fold[invocation] = fold(kind, sh_fold[invocation], sh_fold[invocation + half]);
        }
        workgroupBarrier();
    }
    return sh_fold[0];
}

fn sum_workgroup(invocation: u32, value: f32) -> f32 {
    return bitcast<f32>(fold_workgroup(SUM, invocation, bitcast<u32>(value)));
}
