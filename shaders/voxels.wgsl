// Reading and writing a group's tensors: logits, target, masks, losses and gradient of a quad of voxels.
//
// One copy per group of heads. The tensors of a group's heads may lie in different slots; the switch over slots is uniform.
// Where they lie in one slot there is no switch: some compilers miscompile a switch inside the callers' loops.
// `voxel` is the quad's first voxel in its item, and `left` the voxels from there to the end of the row. `…_first` of the
// table is the first element of a head's tensor in its slot.

//# stand-in
const CLASSES_g0 = 1u;
const LANES = vec4<u32>(0u, 1u, 2u, 3u);
const NONE = vec4<f32>(); const ONES = vec4<f32>(1.0); const logits0 = 0u; const labels0 = 0u; const probabilities0 = 0u;
const mask0 = 0u; const weight_map0 = 0u; const sample_mask0 = 0u; const gradient0 = 0u; const voxel_losses0 = 0u;
struct Head {
    voxels: u32, target_voxels: u32, logits_slot: u32, logits_first: u32, target_slot: u32, target_first: u32,
    gradient_slot: u32, gradient_first: u32, mask_slot: u32, mask_first: u32, weight_map_slot: u32,
    weight_map_first: u32, sample_mask_slot: u32, sample_mask_first: u32, voxel_losses_slot: u32,
    voxel_losses_first: u32, has_ignore_index: u32, ignore_index: u32, label_table: u32, table_labels: u32, table_words: u32,
}
@group(0) @binding(1) var<storage, read> coefficients: array<f32>;
const IGNORED_LABEL = -1.0; const UNKNOWN_LABEL = -2.0; const CHANNELS_PER_WORD = 16u; const NO_CLASS = 0xffffffffu;
struct Place { head: u32, item: u32, tile: u32, inside: bool }
struct Labels { class_of: vec4<u32>, valid: vec4<bool>, out_of_range: vec4<bool> }
fn load_logits0(first: u32, left: u32) -> vec4<f32> { return NONE; }
fn load_probabilities0(first: u32, left: u32) -> vec4<f32> { return NONE; }
fn pick_logits0(i: vec4<u32>) -> vec4<f32> { return NONE; }
fn pick_probabilities0(i: vec4<u32>) -> vec4<f32> { return NONE; }
fn load_weight_map0(first: u32, left: u32) -> vec4<f32> { return NONE; }
fn load_labels0(first: u32, left: u32) -> vec4<u32> { return LANES; }
fn load_mask0(first: u32, left: u32) -> vec4<u32> { return LANES; }
fn store_gradient0(first: u32, left: u32, value: vec4<f32>) -> bool { return true; }
fn store_voxel_losses0(first: u32, left: u32, value: vec4<f32>) -> bool { return true; }
fn one_labels0(element: u32) -> u32 { return element; }
fn one_sample_mask0(element: u32) -> u32 { return element; }
fn lanes_inside(left: u32) -> vec4<bool> { return LANES < vec4<u32>(left); }
fn classify(labels: vec4<u32>, inside: vec4<bool>, classes: u32, head: Head) -> Labels { return Labels(labels, inside, inside); }
fn resampled(head: Head, voxel: vec4<u32>) -> vec4<u32> { return voxel; }
fn is_zero(x: vec4<f32>) -> vec4<bool> { return x == NONE; }
//# end

// What a quad's target and masks give.
struct Quad_g0 {
    class_of: vec4<u32>,
    valid: vec4<bool>,
    out_of_range: vec4<bool>,
    // the voxel weight, 0 where a voxel does not count
    m: vec4<f32>,
}

//# if by_element
// Where a tensor has one class of a quad, with channels last. Lanes past the end of the row repeat its last voxel.
fn elements_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32) -> vec4<u32> {
    let voxels = vec4<u32>(place.item * head.voxels + voxel) + min(LANES, vec4<u32>(left - 1u));
    return voxels * CLASSES_g0 + class_index;
}
//# end

// Four elements that follow each other, of which `left` are there: the last is repeated.
fn logits_at_g0(head: Head, element: u32, left: u32) -> vec4<f32> {
    let first = head.logits_first + element;
    var four = NONE;
    //# if one_logits
    four = load_logits0(first, left); //# each logits
    //# else
    switch head.logits_slot {
        case logits0: { four = load_logits0(first, left); } //# each logits
        default: {}
    }
    //# end
    return four;
}

//# if probabilities
fn probabilities_at_g0(head: Head, element: u32, left: u32) -> vec4<f32> {
    let first = head.target_first + element;
    var four = NONE;
    //# if one_probabilities
    four = load_probabilities0(first, left); //# each probabilities
    //# else
    switch head.target_slot {
        case probabilities0: { four = load_probabilities0(first, left); } //# each probabilities
        default: {}
    }
    //# end
    return four;
}
//# end

fn logits_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32) -> vec4<f32> {
    var z = NONE;
    //# if by_element
    let elements = head.logits_first + elements_g0(place, head, class_index, voxel, left);
    //# if one_logits
    z = pick_logits0(elements); //# each logits
    //# else
    switch head.logits_slot {
        case logits0: { z = pick_logits0(elements); } //# each logits
        default: {}
    }
    //# end
    //# else
    z = logits_at_g0(head, (place.item * CLASSES_g0 + class_index) * head.voxels + voxel, left);
    //# end
    return z;
}

//# if label_table
// What the table has of a label. Without a branch, since some drivers unfold one per class and lane.
fn entry_g0(head: Head, label: u32) -> f32 {
    let entry = coefficients[head.label_table + min(label, head.table_labels - 1u) * head.table_words];
    return select(UNKNOWN_LABEL, entry, label < head.table_labels);
}

// As `classify` of shared/target.wgsl, by the table.
fn classify_by_table_g0(labels: vec4<u32>, inside: vec4<bool>, head: Head) -> Labels {
    let entries = vec4<f32>(
        entry_g0(head, labels.x),
        entry_g0(head, labels.y),
        entry_g0(head, labels.z),
        entry_g0(head, labels.w),
    );
    let is_ignore_index = (labels == vec4<u32>(head.ignore_index)) & vec4<bool>(head.has_ignore_index != 0u);
    let present = inside & !(is_ignore_index | (entries == vec4<f32>(IGNORED_LABEL)));
    let known = entries >= NONE;
    let valid = present & known;
    var class_of = labels;
    //# if label_map
    // with one channel, the background wraps to NO_CLASS
    class_of = vec4<u32>(max(entries, NONE)) - select(0u, 1u, CLASSES_g0 == 1u);
    //# end
    return Labels(select(vec4<u32>(NO_CLASS), class_of, valid), valid, present & !known);
}
//# end

//# if regions
// 1 where the label has the channel.
fn region_g0(head: Head, label: u32, class_index: u32) -> f32 {
    let row = head.label_table + min(label, head.table_labels - 1u) * head.table_words;
    let bits = u32(max(coefficients[row + 1u + class_index / CHANNELS_PER_WORD], 0.0));
    return select(f32((bits >> (class_index % CHANNELS_PER_WORD)) & 1u), 0.0, label == NO_CLASS);
}
//# end

// The target of one class: 0 where a voxel does not count.
fn target_g0(place: Place, head: Head, quad: Quad_g0, class_index: u32, voxel: u32, left: u32) -> vec4<f32> {
    var t = NONE;
    //# if labels
    //# if regions
    let regions = vec4<f32>(
        region_g0(head, quad.class_of.x, class_index),
        region_g0(head, quad.class_of.y, class_index),
        region_g0(head, quad.class_of.z, class_index),
        region_g0(head, quad.class_of.w, class_index),
    );
    t = regions;
    //# else
    t = select(NONE, ONES, quad.class_of == vec4<u32>(class_index));
    //# end
    //# end
    //# if probabilities
    //# if by_element
    let elements = head.target_first + elements_g0(place, head, class_index, voxel, left);
    //# if one_probabilities
    t = pick_probabilities0(elements); //# each probabilities
    //# else
    switch head.target_slot {
        case probabilities0: { t = pick_probabilities0(elements); } //# each probabilities
        default: {}
    }
    //# end
    //# else
    t = probabilities_at_g0(head, (place.item * CLASSES_g0 + class_index) * head.voxels + voxel, left);
    //# end
    t = select(NONE, t, quad.valid);
    //# end
    return t;
}

// `present`: the lanes that may count. Those past the end of the row may not, and none may where the whole item does not
// count.
fn quad_g0(place: Place, head: Head, present: vec4<bool>, voxel: u32, left: u32) -> Quad_g0 {
    var inside = present;
    //# if mask
    var mask = LANES;
    //# if one_mask
    mask = load_mask0(head.mask_first + place.item * head.voxels + voxel, left); //# each mask
    //# else
    switch head.mask_slot {
        case mask0: { mask = load_mask0(head.mask_first + place.item * head.voxels + voxel, left); } //# each mask
        default: {}
    }
    //# end
    inside = inside & (mask != vec4<u32>());
    //# end
    var quad = Quad_g0(LANES, inside, vec4<bool>(), select(NONE, ONES, inside));
    //# if labels
    var labels = LANES;
    //# if resample
    let row = head.target_first + place.item * head.target_voxels;
    let source = row + resampled(head, voxel + min(LANES, vec4<u32>(left - 1u)));
    //# if one_labels
    //# each labels
    labels = vec4<u32>(one_labels0(source.x), one_labels0(source.y), one_labels0(source.z), one_labels0(source.w));
    //# end
    //# else
    switch head.target_slot {
        //# each labels
        case labels0: { labels = vec4<u32>(one_labels0(source.x), one_labels0(source.y), one_labels0(source.z), one_labels0(source.w)); }
        //# end
        default: {}
    }
    //# end
    //# else
    let first = head.target_first + place.item * head.voxels + voxel;
    //# if one_labels
    labels = load_labels0(first, left); //# each labels
    //# else
    switch head.target_slot {
        case labels0: { labels = load_labels0(first, left); } //# each labels
        default: {}
    }
    //# end
    //# end
    //# if label_table
    let y = classify_by_table_g0(labels, inside, head);
    //# else
    //#= let y = classify(labels, inside, CLASSES_g0, head);
    //# end
    quad = Quad_g0(y.class_of, y.valid, y.out_of_range, select(NONE, ONES, y.valid));
    //# end
    //# if weight_map
    var weight = ONES;
    //# if one_weight_map
    weight = load_weight_map0(head.weight_map_first + place.item * head.voxels + voxel, left); //# each weight_map
    //# else
    switch head.weight_map_slot {
        //# each weight_map
        case weight_map0: { weight = load_weight_map0(head.weight_map_first + place.item * head.voxels + voxel, left); }
        //# end
        default: {}
    }
    //# end
    quad.m = select(NONE, weight, quad.valid);
    //# end
    return quad;
}

// x times the voxel weight; 0 where that is 0, whatever x is.
fn worth_g0(quad: Quad_g0, x: vec4<f32>) -> vec4<f32> {
    var worth = x;
    worth = select(quad.m * x, NONE, is_zero(quad.m)); //# if weight_map
    return worth;
}

// Whether the item takes part: false where a sample mask holds 0.
fn item_counts_g0(place: Place, head: Head) -> bool {
    var counts = true;
    //# if sample_mask
    //# if one_sample_mask
    counts = one_sample_mask0(head.sample_mask_first + place.item) != 0u; //# each sample_mask
    //# else
    switch head.sample_mask_slot {
        case sample_mask0: { counts = one_sample_mask0(head.sample_mask_first + place.item) != 0u; } //# each sample_mask
        default: {}
    }
    //# end
    //# end
    return counts;
}

//# if gradient
// Stores elements that follow each other, four or `left` of them. Returns whether all that it stored is finite.
fn store_at_g0(head: Head, element: u32, left: u32, value: vec4<f32>) -> bool {
    var finite = true;
    let first = head.gradient_first + element;
    //# if one_gradient
    finite = store_gradient0(first, left, value); //# each gradient
    //# else
    switch head.gradient_slot {
        case gradient0: { finite = store_gradient0(first, left, value); } //# each gradient
        default: {}
    }
    //# end
    return finite;
}

// Stores one class of a quad.
fn store_g0(place: Place, head: Head, class_index: u32, voxel: u32, left: u32, value: vec4<f32>) -> bool {
    //# if by_element
    let elements = elements_g0(place, head, class_index, voxel, left);
    var finite = store_at_g0(head, elements.x, 1u, value.xxxx);
    if left > 1u { finite = store_at_g0(head, elements.y, 1u, value.yyyy) && finite; }
    if left > 2u { finite = store_at_g0(head, elements.z, 1u, value.zzzz) && finite; }
    if left > 3u { finite = store_at_g0(head, elements.w, 1u, value.wwww) && finite; }
    return finite;
    //# else
    //#= return store_at_g0(head, (place.item * CLASSES_g0 + class_index) * head.voxels + voxel, left, value);
    //# end
}
//# end

//# if voxel_losses
// m ℓ of a quad, for a caller who asked for the losses of voxels.
fn store_losses_g0(place: Place, head: Head, voxel: u32, left: u32, value: vec4<f32>) {
    let first = head.voxel_losses_first + place.item * head.voxels + voxel;
    //# if one_voxel_losses
    _ = store_voxel_losses0(first, left, value); //# each voxel_losses
    //# else
    switch head.voxel_losses_slot {
        case voxel_losses0: { _ = store_voxel_losses0(first, left, value); } //# each voxel_losses
        default: {}
    }
    //# end
}
//# end
