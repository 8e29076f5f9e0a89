// What a quad of labels means to a head: the class of each voxel, and which voxels count.
//
// A voxel counts unless it lies past the end of the row, carries the ignore label, or is out of range: not in [0, C).
// A label out of range is never used as an index.

//# stand-in
struct Head { has_ignore_index: u32, ignore_index: u32 }
//# end

const LANES = vec4<u32>(0u, 1u, 2u, 3u);
// the class of a voxel that does not count
const NO_CLASS = 0xffffffffu;

struct Labels {
    class_of: vec4<u32>,
    valid: vec4<bool>,
    out_of_range: vec4<bool>,
}

// left: voxels from the quad's first to the end of the row
fn classify(labels: vec4<u32>, left: u32, classes: u32, head: Head) -> Labels {
    let ignored = (labels == vec4<u32>(head.ignore_index)) & vec4<bool>(head.has_ignore_index != 0u);
    let present = (LANES < vec4<u32>(left)) & !ignored;
    let known = labels < vec4<u32>(classes);
    let valid = present & known;
    return Labels(select(vec4<u32>(NO_CLASS), labels, valid), valid, present & !known);
}

fn total(x: vec4<f32>) -> f32 {
    return (x.x + x.y) + (x.z + x.w);
}

// The first lane that is set, counted from `position`; a number past every tile where none is.
fn first_of(lanes: vec4<bool>, position: f32) -> f32 {
    let at = select(vec4<f32>(16777216.0), vec4<f32>(position) + vec4<f32>(LANES), lanes);
    return min(min(at.x, at.y), min(at.z, at.w));
}
