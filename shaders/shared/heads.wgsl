// The table of heads, and where a workgroup stands in it.
//
// Every stage reads the same table. A head is one output of the network; the plan fills a row with its shape, where its
// tensors and its scratch lie, and its loss settings. `Head` is mirrored by `layout::table::HeadRow` on the host; a test
// holds the two layouts together.
//
// bindings   0  heads  (HEADS)  uniform
// determinism   a table look-up: nothing here depends on the order of anything

//# stand-in
const HEADS = 1u;
//# end

struct Head {
    // shape of the logits: [items, classes, voxels], of the items that this dispatch handles; rows of a uniform array begin at
    // multiples of 16 bytes
    @align(16) items: u32,
    classes: u32,
    voxels: u32,
    // the arithmetic this head shares with others of the same class count and kinds
    group: u32,

    // tensors: which load or store, and the first element in it
    logits_slot: u32,
    logits_first: u32,
    target_slot: u32,
    target_first: u32,
    gradient_slot: u32,
    gradient_first: u32,
    mask_slot: u32,
    mask_first: u32,
    weight_map_slot: u32,
    weight_map_first: u32,
    sample_mask_slot: u32,
    sample_mask_first: u32,
    voxel_losses_slot: u32,
    voxel_losses_first: u32,
    upstream: u32,

    // work: the first workgroup of this head, tiles per item, and the first workgroup of `combine`
    first_workgroup: u32,
    tiles: u32,
    first_column: u32,

    // scratch: the first word of this head in each buffer. Of the coefficients: `coefficients` the switches and then κ, and
    // `slopes` ∂total/∂I and ∂total/∂P; `kappa_row`, `slope_row` are the distances between items (0: shared)
    partials: u32,
    statistics: u32,
    coefficients: u32,
    kappa_row: u32,
    slopes: u32,
    slope_row: u32,
    report: u32,
    // columns of partial sums that belong to classes: 3 per class, 6 with hard counts; and words of an item's statistics
    class_columns: u32,
    item_words: u32,
    // where the report has what a head asks for (0: it does not): hard counts, those of each item, the unreduced overlap
    hard_counts: u32,
    item_counts: u32,
    overlap_losses: u32,
    // 1 where a gradient that is not finite is to be reported
    check_finite: u32,
    // this head's three weights: its own, of its overlap term, of its pixel term
    weights: u32,

    // target; labels of another spatial size have `target_voxels` per item, and `axes` axes described among the parameters
    has_ignore_index: u32,
    ignore_index: u32,
    target_voxels: u32,
    axes: u32,
    axis_parameters: u32,
    // a table of `table_labels` labels, `table_words` each, among the parameters
    label_table: u32,
    table_labels: u32,
    table_words: u32,
    // 1 where the target is labels, and where T is a count whose words are integers
    has_labels: u32,
    counts: u32,

    // pixel term, if there is one: smoothed target on_target t + off_target; two parameters a class where `class_parameters` is set
    has_pixel: u32,
    pixel_reduction: u32,
    on_target: f32,
    off_target: f32,
    // γ of focal, ε of poly-1, q of generalized cross-entropy; where γ differs per class, from `bends` on
    bend: f32,
    bends: u32,
    has_class_parameters: u32,
    class_parameters: u32,
    pixel_first_class: u32,
    pixel_denominator: u32,
    // what a mean over voxels and classes multiplies the voxels by
    pixel_classes: f32,
    empty: u32,
    // top-k: how many losses it takes (0: none), where they lie, and this head's share of the work
    top_k: u32,
    losses: u32,
    selection: u32,
    first_loss_run: u32,
    loss_runs: u32,
    top_coefficients: u32,

    // overlap term
    overlap_kind: u32,
    overlap_reduction: u32,
    first_class: u32,
    batch: u32,
    smooth_nr: f32,
    smooth_dr: f32,
    denominator_floor: f32,
    form: u32,
    // the exponent of the form's value, and the least that a logarithm or a power sees
    form_gamma: f32,
    eps: f32,
    alpha: f32,
    beta: f32,
    class_weighting: u32,
    // 1 where a row has one ratio
    micro: u32,
    absent: u32,
    power_of_mean: f32,
    // how many classes take part, and what the mean over them divides by where none is skipped
    taking_part: u32,
    mean_terms: f32,
    // CLASS_NUMBERS per class, where `has_class_numbers` is set
    has_class_numbers: u32,
    class_numbers: u32,
    // 1 where a sample mask says which items take part
    masked_samples: u32,
    // rows of the table: a number that no compiler knows, so that none unrolls a loop over heads
    rows: u32,
    // items of the head over all dispatches, and the first that this one handles: scratch is indexed by the item of the head
    all_items: u32,
    first_item: u32,
}

@group(0) @binding(0) var<uniform> heads: array<Head, HEADS>;

struct Place {
    head: u32,
    item: u32,
    tile: u32,
    // false for the workgroups that fold a long grid into two dimensions and have no tile
    inside: bool,
}

// Workgroups are numbered along x, then y: a grid longer than the device's limit for x is folded.
fn workgroup_number(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 {
    return workgroup.x + workgroup.y * grid.x;
}

// The head that a workgroup of `combine` serves: each head has a column of partial sums a workgroup.
fn column_head(number: u32) -> Head {
    var index = 0u;
    while index + 1u < heads[0].rows && number >= heads[index + 1u].first_column {
        index += 1u;
    }
    return heads[index];
}

fn place_of(number: u32) -> Place {
    var index = 0u;
    while index + 1u < heads[0].rows && number >= heads[index + 1u].first_workgroup {
        index += 1u;
    }
    let head = heads[index];
    let tile = number - head.first_workgroup;
    let item = tile / max(head.tiles, 1u);
    return Place(index, item, tile - item * head.tiles, item < head.items);
}

fn head_of(place: Place) -> Head {
    return heads[place.head];
}
