// Folds one value per invocation into one value per workgroup, through workgroup memory.
//
// memory        sh_fold  (FOLD_INVOCATIONS)  a power of two
// determinism   bit for bit: a tree whose shape is fixed by the text below

//# stand-in
const FOLD_INVOCATIONS = 64u; const SUM = 0u;
fn fold(kind: u32, a: u32, b: u32) -> u32 { return a + b; }
//# end

var<workgroup> sh_fold: array<u32, FOLD_INVOCATIONS>;

// Called by all invocations; all get the result. Because of the first barrier, one call may directly follow another.
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
