// What the invocations that hold a quad's classes exchange: a maximum or a sum over them, through workgroup memory.
//
// Invocation `index` holds some classes of quad `index % quads`; the others of that quad are `quads` apart.
// Called by all invocations; all get their quad's result.
//
// memory        sh_shared  (INVOCATIONS)
// determinism   bit for bit: the text below fixes the order of the additions, the same for every invocation of a quad

//# stand-in
const INVOCATIONS = 8u; const NONE = vec4<f32>();
//# end

var<workgroup> sh_shared: array<vec4<f32>, INVOCATIONS>;

fn share_max(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sh_shared[index] = value;
    workgroupBarrier();
    var largest = value;
    for (var i = index % quads; i < INVOCATIONS; i += quads) {
        largest = max(largest, sh_shared[i]);
    }
    return largest;
}

fn share_sum(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sh_shared[index] = value;
    workgroupBarrier();
    var sum = NONE;
    for (var i = index % quads; i < INVOCATIONS; i += quads) {
        sum += sh_shared[i];
    }
    return sum;
}

// The sum over the quads of a workgroup: the invocations that hold the same classes have consecutive indices.
fn sum_quads(index: u32, quads: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sh_shared[index] = value;
    workgroupBarrier();
    let first = index - index % quads;
    var sum = NONE;
    for (var i = first; i < first + quads; i += 1u) {
        sum += sh_shared[i];
    }
    return sum;
}
