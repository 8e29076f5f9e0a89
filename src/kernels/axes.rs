//! What the text of a voxel stage depends on, as axes: a new setting is a new line of [`AXES`].

use crate::layout::answers::BuiltInF16;
use crate::layout::defaults::INTEGRATED;
use crate::layout::slots::{BindingKind, DispatchText, HeadSlots, Role, SlotKind, Unit};
use crate::layout::tensors::{Format, row};
use crate::layout::variant::Variant;
use crate::spec::{
    Activation, Alpha, FloatType, HardCounts, Head, LabelType, Loss, LossSpec, MemoryFormat, Overlap, Pixel, Product,
    Target,
};

/// The variant of hardware adapters: more than a few classes are split over invocations, which exchange through workgroup
/// memory.
pub(super) const VARIANT: Variant = Variant { subgroups: false, ..INTEGRATED };

/// A setting and its choices.
pub(super) struct Axis {
    pub what: &'static str,
    pub choices: &'static [Named],
}

/// A choice: its name, and what it changes in a step.
type Named = (&'static str, fn(&mut ChosenStep));

/// Steps of `[2, C, 8, 8, 8]`. The first choice of an axis is the plainest.
#[rustfmt::skip]
pub(super) const AXES: [Axis; 17] = [
    Axis { what: "classes", choices: &[
        ("4-classes", |step| step.classes = 4),
        ("17-classes", |_| {}),
        ("16-classes", |step| step.classes = 16),
        ("17-classes-one-subgroup", |step| step.variant = Variant { subgroups: true, subgroup_size: 64, ..VARIANT }),
        ("17-classes-streamed", |step| step.variant.split_classes = 0),
        ("17-classes-one-subgroup-streamed", |step| {
            step.variant = Variant { split_classes: 0, subgroups: true, subgroup_size: 64, ..VARIANT };
        }),
    ] },
    Axis { what: "memory format", choices: &[
        ("", |_| {}),
        ("channels-last", |step| step.memory_format = MemoryFormat::ChannelsLast),
    ] },
    Axis { what: "activation", choices: &[
        ("softmax", |_| {}),
        ("sigmoid", |step| step.loss.activation = Activation::Sigmoid),
        ("none", |step| step.loss.activation = Activation::None),
    ] },
    Axis { what: "overlap", choices: &[
        ("dice", |step| step.loss.overlap = Some(Overlap::dice())),
        ("dice-squared", |step| step.loss.overlap = Some(Overlap::dice().squared(true))),
        ("dice-minimum", |step| step.loss.overlap = Some(Overlap::dice().product(Product::Minimum))),
        ("", |_| {}),
    ] },
    Axis { what: "pixel", choices: &[
        ("ce", |step| step.pixel(Pixel::cross_entropy())),
        ("ce-smoothing", |step| step.pixel(Pixel::cross_entropy().label_smoothing(0.1))),
        ("ce-weights", |step| step.pixel(Pixel::cross_entropy().class_weights(step.per_class(2.0)))),
        ("ce-smoothing-weights", |step| {
            step.pixel(Pixel::cross_entropy().label_smoothing(0.1).class_weights(step.per_class(2.0)));
        }),
        ("top-k", |step| step.pixel(Pixel::top_k_cross_entropy(10.0))),
        ("top-k-smoothing", |step| step.pixel(Pixel::top_k_cross_entropy(10.0).label_smoothing(0.1))),
        ("poly-smoothing", |step| step.pixel(Pixel::poly_cross_entropy(2.0).label_smoothing(0.1))),
        ("generalized-weights", |step| {
            step.pixel(Pixel::generalized_cross_entropy(0.7).class_weights(step.per_class(2.0)));
        }),
        ("bce", |step| step.pixel(Pixel::binary_cross_entropy())),
        ("bce-pos-weight", |step| step.pixel(Pixel::binary_cross_entropy_with(step.per_class(2.0)))),
        ("focal", |step| step.pixel(Pixel::focal(2.0, Alpha::None))),
        ("focal-alpha-list", |step| step.pixel(Pixel::focal(2.0, Alpha::PerClass(step.per_class(0.5))))),
        ("focal-gamma-list", |step| step.pixel(Pixel::focal(step.per_class(2.0), Alpha::None))),
        ("", |_| {}),
    ] },
    Axis { what: "target", choices: &[
        ("labels", |_| {}),
        ("resampled", |step| step.resampled = true),
        ("label-map", |step| step.label_map = true),
        ("regions", |step| step.regions = true),
        ("probabilities", |step| step.probabilities = true),
    ] },
    Axis { what: "masks", choices: &[("", |_| {}), ("masked", |step| step.masked = true)] },
    Axis { what: "outputs", choices: &[("", |_| {}), ("all-outputs", |step| step.all_outputs = true)] },
    Axis { what: "labels", choices: &[
        ("u8", |_| {}),
        ("u16", |step| step.slots.labels = LabelType::U16),
        ("i32", |step| step.slots.labels = LabelType::I32),
        ("u32", |step| step.slots.labels = LabelType::U32),
        ("i8", |step| step.slots.labels = LabelType::I8),
        ("i16", |step| step.slots.labels = LabelType::I16),
        ("i64", |step| step.slots.labels = LabelType::I64),
    ] },
    Axis { what: "floats", choices: &[
        ("f32", |_| {}),
        ("f16", |step| step.slots.floats = FloatType::F16),
        ("bf16", |step| step.slots.floats = FloatType::Bf16),
    ] },
    Axis { what: "f16", choices: &[
        ("integers", |_| {}),
        ("built-in", |step| step.slots.f16 = BuiltInF16 { decodes: true, encodes: true }),
    ] },
    Axis { what: "loads", choices: &[("scalar", |_| {}), ("wide", |step| step.slots.wide = true)] },
    Axis { what: "windows", choices: &[("1-window", |_| {}), ("3-windows", |step| step.slots.windows = 3)] },
    Axis { what: "binding", choices: &[
        ("separate", |_| {}),
        ("pooled", |step| step.slots.pooled = true),
        ("shared", |step| step.slots.shared = true),
    ] },
    Axis { what: "gradient", choices: &[
        ("overwrite", |_| {}),
        ("accumulate", |step| step.slots.gradient = Role::AccumulatedGradient),
        ("in-place", |step| step.slots.gradient = Role::GradientInPlace),
    ] },
    Axis { what: "reduction", choices: &[("workgroup", |_| {}), ("subgroup", |step| step.variant.subgroups = true)] },
    Axis { what: "heads", choices: &[("one-head", |_| {}), ("two-heads", |step| step.heads = 2)] },
];

/// One choice per axis, by its index among the choices.
pub(super) type Choice = [usize; AXES.len()];

/// Each axis, and what is chosen of it, by name.
pub(crate) fn names(choice: &Choice) -> impl Iterator<Item = (&'static str, &'static str)> {
    AXES.iter().zip(*choice).map(|(axis, at)| (axis.what, axis.choices[at].0))
}

/// Whether the choice on axis `what` has a name that begins with `wanted`.
fn is(choice: &Choice, what: &str, wanted: &str) -> bool {
    names(choice).any(|(axis, name)| axis == what && name.starts_with(wanted))
}

/// Whether such a step exists: a loss has a term; a focal term has an activation; a workgroup that is one subgroup reduces by
/// subgroup operations; the type of labels varies only where there are labels, and the conversion of f16 where there is f16.
pub(super) fn exists(choice: &Choice) -> bool {
    let bound = |what: &str| debug_assert!(BOUND.contains(&what), "{what} is an axis that the count takes to be free");
    let is = |what: &str, wanted: &str| {
        bound(what);
        is(choice, what, wanted)
    };
    let is_empty = |what: &str| {
        bound(what);
        names(choice).any(|(axis, name)| axis == what && name.is_empty())
    };
    let nothing = is_empty("overlap") && is_empty("pixel");
    let focal = is("pixel", "focal") && is("activation", "none");
    let one_subgroup = is("classes", "17-classes-one-subgroup") && !is("reduction", "subgroup");
    let labels = is("target", "probabilities") && !is("labels", "u8");
    let f16 = is("f16", "built-in") && !is("floats", "f16");
    !(nothing || focal || one_subgroup || labels || f16)
}

/// The axes that [`exists`] looks at.
pub(super) const BOUND: [&str; 9] =
    ["overlap", "pixel", "activation", "classes", "reduction", "target", "labels", "f16", "floats"];

/// Whether the step can be run on tensors that are bound one by one, its gradient overwritten.
pub(super) fn runs_alone(choice: &Choice) -> bool {
    is(choice, "windows", "1-") && is(choice, "binding", "separate") && is(choice, "gradient", "overwrite")
}

/// A step, while choices are applied to it.
#[expect(clippy::struct_excessive_bools, reason = "a choice each")]
pub(super) struct ChosenStep {
    classes: usize,
    memory_format: MemoryFormat,
    loss: Loss,
    resampled: bool,
    label_map: bool,
    regions: bool,
    probabilities: bool,
    masked: bool,
    all_outputs: bool,
    heads: usize,
    pub variant: Variant,
    pub slots: Slots,
}

impl ChosenStep {
    pub fn new(choice: &Choice) -> Self {
        let mut step = Self {
            classes: 17,
            memory_format: MemoryFormat::ContiguousFormat,
            loss: Loss::new(),
            resampled: false,
            label_map: false,
            regions: false,
            probabilities: false,
            masked: false,
            all_outputs: false,
            heads: 1,
            variant: VARIANT,
            slots: Slots::PLAIN,
        };
        for (axis, at) in AXES.iter().zip(*choice) {
            axis.choices[at].1(&mut step);
        }
        step
    }

    fn pixel(&mut self, pixel: Pixel) {
        self.loss.pixel = Some(pixel);
    }

    fn per_class(&self, number: f32) -> Vec<f32> {
        vec![number; self.classes]
    }

    pub fn spec(&self) -> LossSpec {
        let counts = if self.all_outputs { HardCounts::Item } else { HardCounts::None };
        let head = Head::new([2, self.classes, 8, 8, 8], self.loss.clone());
        let head = head.hard_counts(counts).unreduced(self.all_outputs).check_finite(self.all_outputs);
        let head = head.mask(self.masked).weight_map(self.masked).sample_mask(self.masked);
        let head = if self.resampled { head.resample([16, 16, 16]) } else { head };
        // label 2 c has class c, or the channels from c on; label 1 counts nowhere
        let classes = u32::try_from(self.classes).expect("few classes");
        let map = (0..classes).map(|c| (2 * c, Some(c))).chain([(1, None)]);
        let head = if self.label_map { head.label_map(map) } else { head };
        let regions = (0..classes).map(|c| (2 * c, Some((c..classes).collect()))).chain([(1, None)]);
        let head = if self.regions { head.regions(regions) } else { head };
        let target = if self.probabilities {
            Target::Probabilities(self.slots.floats)
        } else {
            Target::Labels(self.slots.labels)
        };
        LossSpec {
            heads: vec![
                Head { logits: self.slots.floats, target, memory_format: self.memory_format, ..head };
                self.heads
            ],
        }
    }
}

/// How a head's tensors are bound.
#[derive(Clone, Copy)]
pub(super) struct Slots {
    pub labels: LabelType,
    pub floats: FloatType,
    pub f16: BuiltInF16,
    pub wide: bool,
    pub windows: u32,
    /// Tensors lie in a buffer that is written, at the device's alignment.
    pub pooled: bool,
    /// So that one binding has all.
    pub shared: bool,
    pub gradient: Role,
}

impl Slots {
    pub const PLAIN: Self = Self {
        labels: LabelType::U8,
        floats: FloatType::F32,
        f16: BuiltInF16 { decodes: false, encodes: false },
        wide: false,
        windows: 1,
        pooled: false,
        shared: false,
        gradient: Role::Gradient,
    };

    fn slot(self, role: Role, head: &Head, variant: Variant, binding: u32) -> SlotKind {
        let format = match role {
            Role::Labels => Format::Integer(self.labels),
            Role::Mask | Role::SampleMask => Format::Integer(LabelType::U8),
            Role::WeightMap | Role::VoxelLosses => Format::Float(FloatType::F32),
            _ => Format::Float(self.floats),
        };
        let one_by_one = match role {
            Role::SampleMask => true,
            Role::Labels => head.resample.is_some(),
            Role::Mask | Role::WeightMap | Role::VoxelLosses => false,
            _ => !row(head, variant).is_multiple_of(4),
        };
        SlotKind { role, format, wide: self.wide && !one_by_one, binding }
    }

    fn bindings(self, slots: &[SlotKind]) -> Vec<BindingKind> {
        let count = if self.shared { 1 } else { u32::try_from(slots.len()).expect("few slots") };
        let kind = |binding| {
            let here = slots.iter().filter(move |slot| slot.binding == binding);
            BindingKind {
                unit: Unit::of_slots(here.clone()),
                window: if self.windows > 1 { 25 } else { 31 },
                windows: self.windows,
                read_write: self.pooled || here.clone().any(|slot| slot.role.is_written()),
            }
        };
        (0..count).map(kind).collect()
    }

    /// A dispatch of heads whose tensors each have a slot of their own.
    pub fn dispatch(self, spec: &LossSpec, variant: Variant, with_gradient: bool) -> DispatchText {
        let mut dispatch = DispatchText { heads: Vec::new(), slots: Vec::new(), bindings: Vec::new() };
        for (index, head) in spec.heads.iter().enumerate() {
            let labels = matches!(head.target, Target::Labels(_));
            let in_place = with_gradient && self.gradient == Role::GradientInPlace;
            let roles = [
                (Role::Logits, !in_place),
                (Role::Labels, labels),
                (Role::Probabilities, !labels),
                (Role::Mask, head.mask),
                (Role::WeightMap, head.weight_map),
                (Role::SampleMask, head.sample_mask),
                (Role::VoxelLosses, !with_gradient && head.voxel_losses()),
                (self.gradient, with_gradient),
            ];
            let items = 0..u32::try_from(head.items()).expect("few items");
            let mut slots = HeadSlots { head: index, items, ..HeadSlots::default() };
            for (role, _) in roles.into_iter().filter(|(_, wanted)| *wanted) {
                let new = dispatch.slots.len();
                let binding = if self.shared { 0 } else { u32::try_from(new).expect("few slots") };
                let slot = self.slot(role, head, variant, binding);
                let at = dispatch.slots.iter().position(|known| *known == slot).unwrap_or(new);
                if at == new {
                    dispatch.slots.push(slot);
                }
                let at = u32::try_from(at).expect("few slots");
                slots.slots.extend(role.lists().iter().map(|list| (*list, (at, 0))));
            }
            dispatch.heads.push(slots);
        }
        dispatch.bindings = self.bindings(&dispatch.slots);
        dispatch
    }
}
