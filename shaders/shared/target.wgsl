// The labels of a quad of voxels: which voxels count and of which class they are, and where labels of another size are read.
//
// A voxel counts unless it lies past the end of the row, is masked out, has the ignore label, or has a label out of range. In
// range are the labels in [0, C), and with one channel 0, the background, and 1, its class. A label out of range is never
// used as an index.

//# stand-in
const AXIS_LENGTH = 0u; const AXIS_STRIDE = 1u; const AXIS_TABLE = 2u; const AXIS_WORDS = 3u;
const LANES = vec4<u32>(0u, 1u, 2u, 3u);
struct Head { has_ignore_index: u32, ignore_index: u32, axes: u32, axis_parameters: u32 }
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
//# end

// the class of a voxel that does not count, and of one channel's background
const NO_CLASS = 0xffffffffu;

struct Labels {
    class_of: vec4<u32>,
    valid: vec4<bool>,
    out_of_range: vec4<bool>,
}

// The lanes that lie in the row; left: voxels from the quad's first to the end of the row.
fn lanes_inside(left: u32) -> vec4<bool> {
    return LANES < vec4<u32>(left);
}

fn classify(labels: vec4<u32>, inside: vec4<bool>, classes: u32, head: Head) -> Labels {
    let ignored = (labels == vec4<u32>(head.ignore_index)) & vec4<bool>(head.has_ignore_index != 0u);
    let present = inside & !ignored;
    // labels below that of class 0
    let background = select(0u, 1u, classes == 1u);
    let known = labels < vec4<u32>(classes + background);
    let valid = present & known;
    // with one channel, the background wraps to NO_CLASS
    return Labels(select(vec4<u32>(NO_CLASS), labels - background, valid), valid, present & !known);
}

// Where labels of another spatial size are read: PyTorch's nearest-exact, looked up axis by axis. Three parameters per axis,
// last axis first: its length in the logits, its stride in the labels, and where its table begins.
fn resampled(head: Head, voxel: vec4<u32>) -> vec4<u32> {
    var rest = voxel;
    var source = vec4<u32>();
    for (var axis = 0u; axis < head.axes; axis += 1u) {
        let at = head.axis_parameters + AXIS_WORDS * axis;
        let length = u32(coefficients[at + AXIS_LENGTH]);
        let stride = u32(coefficients[at + AXIS_STRIDE]);
        let table = u32(coefficients[at + AXIS_TABLE]);
        let i = rest % vec4<u32>(length);
        rest /= vec4<u32>(length);
        let there = vec4<f32>(
            coefficients[table + i.x],
            coefficients[table + i.y],
            coefficients[table + i.z],
            coefficients[table + i.w],
        );
        source += vec4<u32>(there) * stride;
    }
    return source;
}
