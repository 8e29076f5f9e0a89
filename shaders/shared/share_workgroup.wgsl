// What invocations of a workgroup exchange: a maximum or a sum over some of them, through workgroup memory.
//
// Those that exchange are `stride` apart, in blocks of `span` invocations: the invocations that hold classes of one quad, or
// those that hold the same classes. Called by all invocations; all get the result of theirs.
//
// memory        sh_shared  (INVOCATIONS)
// determinism   bit for bit: the text below fixes the order of the additions, the same for all that exchange

//# stand-in
const INVOCATIONS = 8u; const NONE = vec4<f32>();
//# end

var<workgroup> sh_shared: array<vec4<f32>, INVOCATIONS>;

fn share_max(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sh_shared[index] = value;
    workgroupBarrier();
    let first = index - index % span + index % stride;
    var largest = value;
    for (var i = first; i < first + span; i += stride) {
        largest = max(largest, sh_shared[i]);
    }
    return largest;
}

fn share_sum(index: u32, stride: u32, span: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sh_shared[index] = value;
    workgroupBarrier();
    let first = index - index % span + index % stride;
    var sum = NONE;
    for (var i = first; i < first + span; i += stride) {
        sum += sh_shared[i];
    }
    return sum;
}
