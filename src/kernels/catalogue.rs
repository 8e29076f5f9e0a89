//! The shaders that plans are made of, without a device: to validate every one, and to read a few.

use std::collections::HashSet;

use super::compose;
use crate::layout::Layout;
use crate::layout::defaults::INTEGRATED;
use crate::layout::slots::{HeadSlots, PartText, Role, SlotKind};
use crate::layout::tensors::Format;
use crate::layout::variant::Variant;
use crate::spec::{
    Activation, Alpha, FloatType, HardCounts, Head, LabelType, Loss, LossSpec, Overlap, Pixel, Product, Reduction,
    Target,
};

/// The text of one shader.
#[derive(Clone, Debug)]
pub struct ComposedShader {
    /// Its stage and its choices, fit for a file name.
    pub name: String,
    /// The choices that made it: what was chosen, and which.
    pub choices: Choices,
    /// Its entry point.
    pub entry_point: &'static str,
    /// WGSL.
    pub source: String,
}

/// Names of choices, and which was taken of each.
type Choices = Vec<(&'static str, String)>;

impl ComposedShader {
    fn new(entry_point: &'static str, choices: &Choices, source: String) -> Self {
        let chosen = choices.iter().map(|(_, chosen)| chosen.as_str());
        let name = joined(std::iter::once(entry_point).chain(chosen));
        Self { name, choices: choices.clone(), entry_point, source }
    }
}

/// A name of choices.
fn joined<'a>(chosen: impl Iterator<Item = &'a str>) -> String {
    chosen.filter(|chosen| !chosen.is_empty()).collect::<Vec<_>>().join("-")
}

/// The variant of hardware adapters: classes beyond a few are split over invocations, which share through workgroup memory.
const VARIANT: Variant = Variant { subgroups: false, ..INTEGRATED };

/// A workgroup that is one subgroup: it shares and folds by subgroup operations.
const ONE_SUBGROUP: Variant = Variant { subgroups: true, subgroup_size: 64, ..VARIANT };

/// Heads with more classes than a workgroup holds.
const STREAMED: Variant = Variant { split_classes: 0, ..VARIANT };

/// Every permutation of every shader. Arithmetic and loads are separate text that meets in function signatures, so it is
/// every choice of terms × targets and masks × held, split (either way to share) or streamed × outputs asked for, on one way
/// to load; and every way to load, store and reduce (types × wide or scalar × windows × binding modes × gradient modes × subgroups), on one choice of
/// terms.
#[must_use]
pub fn permutations() -> Vec<ComposedShader> {
    let mut all = Vec::new();
    for (name, loss) in [
        ("dice-ce", Loss::monai_dice_ce()),
        ("generalized-dice", Loss::monai_generalized_dice()),
        ("top-k", Loss::new().pixel(Pixel::top_k_cross_entropy(10.0))),
        ("item-means", Loss::new().pixel(Pixel::binary_cross_entropy().reduction(Reduction::SumOfItemMeans))),
    ] {
        let spec = LossSpec::new().head(Head::new([2, 4, 8, 8, 8], loss));
        for (fold, variant) in [("workgroup", VARIANT), ("one-subgroup", ONE_SUBGROUP)] {
            let choices = vec![("loss", name.to_owned()), ("fold", fold.to_owned())];
            all.extend(small_stages(&spec, &choices, variant));
        }
    }
    for (choices, spec, variant, slots) in steps() {
        all.extend(voxel_stages(&choices, &spec, variant, slots));
    }
    all
}

/// A step: its choices, and what a plan takes of them.
type StepChoice = (Choices, LossSpec, Variant, SlotChoice);

/// The steps whose statistics and gradients are [`permutations`].
fn steps() -> Vec<StepChoice> {
    let mut all = Vec::new();
    let targets = targets();
    for (terms, loss) in losses() {
        for (target, head_of) in &targets {
            for (classes, held, variant) in [
                (4, "4-classes", VARIANT),
                (17, "17-classes", VARIANT),
                (17, "17-classes-one-subgroup", ONE_SUBGROUP),
                (17, "17-classes-streamed", STREAMED),
            ] {
                for (outputs, asking) in [("", false), ("all-outputs", true)] {
                    let counts = if asking { HardCounts::Item } else { HardCounts::None };
                    let head = Head::new([2, classes, 8, 8, 8], loss(classes));
                    let head = head.hard_counts(counts).unreduced(asking).check_finite(asking);
                    let spec = LossSpec::new().head(head_of(head));
                    let mut choices = [&terms[..], &target[..]].concat();
                    choices.extend([("classes", held.to_owned()), ("outputs", outputs.to_owned())]);
                    all.push((choices, spec, variant, SlotChoice::SIMPLE));
                }
            }
        }
    }
    for (target, head_of) in &targets {
        for slots in SlotChoice::all() {
            for (reduction, subgroups) in [("workgroup", false), ("subgroup", true)] {
                let head = head_of(Head::new([2, 4, 8, 8, 8], Loss::monai_dice_ce()));
                let spec = LossSpec::new().head(slots.types(head));
                let mut choices = [&target[..], &slots.names()].concat();
                choices.push(("reduction", reduction.to_owned()));
                all.push((choices.clone(), spec.clone(), Variant { subgroups, ..VARIANT }, slots));
                // heads that share their text, each with slots of its own
                if slots.is_simple() && slots.labels == LabelType::U8 && !subgroups {
                    choices.push(("heads", "two-heads".to_owned()));
                    let spec = LossSpec { heads: [&spec.heads[..], &spec.heads[..]].concat() };
                    all.push((choices, spec, VARIANT, slots));
                }
            }
        }
    }
    all
}

/// Steps to run, of tensors bound one by one and overwritten gradients, that have every pair of choices that any of those
/// has: a name, the specification, and the variant of hardware adapters whose ways to hold classes, load and reduce it wants.
#[must_use]
pub fn covering_steps() -> Vec<(String, LossSpec, Variant)> {
    let mut pairs = Pairs::default();
    let steps = steps().into_iter().filter(|(.., slots)| slots.is_simple());
    let covering = steps.filter(|(choices, ..)| pairs.grow(choices));
    let named = covering.map(|(choices, spec, variant, slots)| {
        (joined(choices.iter().map(|(_, chosen)| chosen.as_str())), spec, Variant { wide: slots.wide, ..variant })
    });
    named.collect()
}

/// The pairs of choices that were seen.
#[derive(Default)]
struct Pairs(HashSet<[(&'static str, String); 2]>);

impl Pairs {
    /// Adds the pairs of these; whether there are more now.
    fn grow(&mut self, choices: &[(&'static str, String)]) -> bool {
        let pairs = choices.iter().enumerate().flat_map(|(i, one)| choices[i..].iter().map(move |two| [one, two]));
        let before = self.0.len();
        self.0.extend(pairs.map(|pair| pair.map(Clone::clone)));
        self.0.len() > before
    }
}

/// Of [`permutations`], a few hundred that have every pair of choices that any of them has: what slower tools read.
#[must_use]
pub fn covering() -> Vec<ComposedShader> {
    let mut pairs = Pairs::default();
    let mut adds_a_pair = |shader: &ComposedShader| {
        let stage = [("stage", shader.entry_point.to_owned())];
        pairs.grow(&stage.iter().chain(&shader.choices).cloned().collect::<Vec<_>>())
    };
    permutations().into_iter().filter(|shader| adds_a_pair(shader)).collect()
}

/// The shaders of a few plans that show the rest: one head of few classes, one of many, five unlike heads.
#[must_use]
pub fn representative() -> Vec<ComposedShader> {
    let five = [[2, 4, 128, 128, 128], [2, 4, 64, 64, 64], [2, 3, 32, 32, 32], [2, 14, 16, 16, 16], [2, 105, 8, 8, 8]];
    let regions = Loss::new().overlap(Overlap::dice()).pixel(Pixel::binary_cross_entropy());
    let regions = Loss { activation: Activation::Sigmoid, ..regions };
    let plans = [
        ("monai-dice-ce-4-classes", vec![Head::new([2, 4, 128, 128, 128], Loss::monai_dice_ce())]),
        ("nnunet-dc-ce-105-classes", vec![Head::new([2, 105, 96, 96, 96], Loss::nnunet_dc_ce())]),
        ("regions-3-classes", vec![Head::new([2, 3, 96, 96, 96], regions).probabilities(FloatType::F32).mask(true)]),
        (
            "top-k-4-classes",
            vec![Head::new([2, 4, 128, 128, 128], Loss::new().pixel(Pixel::top_k_cross_entropy(10.0)))],
        ),
        ("five-heads", five.map(|shape| Head::new(shape, Loss::monai_dice_ce())).to_vec()),
    ];
    let mut all = Vec::new();
    for (name, heads) in plans {
        let spec = LossSpec { heads };
        let choices = vec![("plan", name.to_owned())];
        all.extend(small_stages(&spec, &choices, VARIANT));
        all.extend(voxel_stages(&choices, &spec, VARIANT, SlotChoice { wide: true, ..SlotChoice::SIMPLE }));
    }
    all
}

/// Statistics and gradient of a head of so many classes, soft Dice and cross-entropy, as hardware runs them: to give to a
/// driver's compiler and read its statistics.
#[must_use]
pub fn of_classes(classes: usize, label_smoothing: f32) -> Vec<ComposedShader> {
    let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(label_smoothing));
    let smoothing = if label_smoothing > 0.0 { "smoothing" } else { "" };
    let spec = LossSpec::new().head(Head::new([1, classes, 64, 64, 64], loss));
    let choice = SlotChoice { wide: true, ..SlotChoice::SIMPLE };
    let choices = vec![("classes", format!("{classes}-classes")), ("smoothing", smoothing.to_owned())];
    voxel_stages(&choices, &spec, VARIANT, choice).to_vec()
}

type LossOf = Box<dyn Fn(usize) -> Loss>;
type HeadChange = fn(Head) -> Head;
type HeadOf = Box<dyn Fn(Head) -> Head>;

/// Every choice of terms that changes text.
fn losses() -> Vec<(Choices, LossOf)> {
    let activations = [("softmax", Activation::Softmax), ("sigmoid", Activation::Sigmoid), ("none", Activation::None)];
    let overlaps = [
        ("", None),
        ("dice", Some(Overlap::dice())),
        ("dice-squared", Some(Overlap::dice().squared(true))),
        ("dice-minimum", Some(Overlap::dice().product(Product::Minimum))),
    ];
    let mut losses: Vec<(Choices, LossOf)> = Vec::new();
    for (activation_name, activation) in activations {
        for &(overlap_name, ref overlap) in &overlaps {
            for (pixel_name, pixel) in pixels() {
                let focal = pixel_name.starts_with("focal");
                if pixel_name.is_empty() && overlap.is_none() || focal && activation == Activation::None {
                    continue;
                }
                let overlap = overlap.clone();
                let loss = move |classes| Loss { activation, overlap: overlap.clone(), pixel: pixel(classes) };
                let names = [("activation", activation_name), ("overlap", overlap_name), ("pixel", pixel_name)];
                losses.push((names.map(|(what, name)| (what, name.to_owned())).to_vec(), Box::new(loss)));
            }
        }
    }
    losses
}

type PixelOf = fn(usize) -> Option<Pixel>;

fn pixels() -> [(&'static str, PixelOf); 11] {
    [
        ("", |_| None),
        ("ce", |_| Some(Pixel::cross_entropy())),
        ("ce-smoothing", |_| Some(Pixel::cross_entropy().label_smoothing(0.1))),
        ("ce-weights", |classes| Some(Pixel::cross_entropy().class_weights(vec![2.0; classes]))),
        ("ce-smoothing-weights", |classes| {
            Some(Pixel::cross_entropy().label_smoothing(0.1).class_weights(vec![2.0; classes]))
        }),
        ("top-k", |_| Some(Pixel::top_k_cross_entropy(10.0))),
        ("top-k-smoothing", |_| Some(Pixel::top_k_cross_entropy(10.0).label_smoothing(0.1))),
        ("bce", |_| Some(Pixel::binary_cross_entropy())),
        ("bce-pos-weight", |classes| Some(Pixel::binary_cross_entropy_with(vec![2.0; classes]))),
        ("focal", |_| Some(Pixel::focal(2.0, Alpha::None))),
        ("focal-alpha-list", |classes| Some(Pixel::focal(2.0, Alpha::PerClass(vec![0.5; classes])))),
    ]
}

/// Every kind of target and masks.
fn targets() -> Vec<(Choices, HeadOf)> {
    let targets: [(&str, HeadChange); 3] = [
        ("labels", |head| head),
        ("resampled", |head| head.resample([16, 16, 16])),
        ("probabilities", |head| head.probabilities(FloatType::F32)),
    ];
    let mut all: Vec<(Choices, HeadOf)> = Vec::new();
    for (target_name, target) in targets {
        for (masks, masked) in [("", false), ("masked", true)] {
            let name = vec![("target", target_name.to_owned()), ("masks", masks.to_owned())];
            let head = move |head| target(head).mask(masked).weight_map(masked).sample_mask(masked);
            all.push((name, Box::new(head)));
        }
    }
    all
}

/// How a head's tensors are bound.
#[derive(Clone, Copy)]
struct SlotChoice {
    labels: LabelType,
    floats: FloatType,
    wide: bool,
    windows: u32,
    pooled: bool,
    gradient: Role,
}

impl SlotChoice {
    const SIMPLE: Self = Self {
        labels: LabelType::U8,
        floats: FloatType::F32,
        wide: false,
        windows: 1,
        pooled: false,
        gradient: Role::Gradient,
    };

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for (labels, floats) in [
            (LabelType::U8, FloatType::F32),
            (LabelType::U16, FloatType::F16),
            (LabelType::I32, FloatType::Bf16),
            (LabelType::U32, FloatType::F16),
            (LabelType::I8, FloatType::F32),
            (LabelType::I16, FloatType::Bf16),
            (LabelType::I64, FloatType::F32),
        ] {
            for wide in [false, true] {
                for windows in [1, 3] {
                    for gradient in [Role::Gradient, Role::AccumulatedGradient, Role::GradientInPlace] {
                        // how labels are read has nothing to do with how a gradient is stored
                        let signed = matches!(labels, LabelType::I8 | LabelType::I16 | LabelType::I64);
                        if signed && gradient != Role::Gradient {
                            continue;
                        }
                        let choice = |pooled| Self { labels, floats, wide, windows, pooled, gradient };
                        all.extend([false, true].map(choice));
                    }
                }
            }
        }
        all
    }

    /// Tensors bound one by one, and an overwritten gradient.
    fn is_simple(&self) -> bool {
        self.windows == 1 && !self.pooled && self.gradient == Role::Gradient
    }

    /// The head with tensors of these types.
    fn types(self, head: Head) -> Head {
        let target = match head.target {
            Target::Labels(_) => Target::Labels(self.labels),
            Target::Probabilities(_) => Target::Probabilities(self.floats),
        };
        Head { logits: self.floats, target, ..head }
    }

    fn names(self) -> Choices {
        let lower = |text: String| text.to_lowercase();
        vec![
            ("labels", lower(format!("{:?}", self.labels))),
            ("floats", lower(format!("{:?}", self.floats))),
            ("loads", (if self.wide { "wide" } else { "scalar" }).to_owned()),
            ("windows", format!("{}-windows", self.windows)),
            ("binding", (if self.pooled { "pooled" } else { "separate" }).to_owned()),
            ("gradient", lower(format!("{:?}", self.gradient))),
        ]
    }

    fn kind(self, role: Role, head: &Head) -> SlotKind {
        let format = match role {
            Role::Labels => Format::Integer(self.labels),
            Role::Mask | Role::SampleMask => Format::Integer(LabelType::U8),
            Role::WeightMap | Role::VoxelLosses => Format::Float(FloatType::F32),
            _ => Format::Float(self.floats),
        };
        let one_by_one = role == Role::SampleMask || role == Role::Labels && head.resample.is_some();
        SlotKind {
            role,
            format,
            wide: self.wide && !one_by_one,
            window: if self.windows > 1 { 25 } else { 31 },
            windows: self.windows,
            read_write: self.pooled || role.is_written(),
        }
    }
}

/// Statistics and gradient of heads that have a slot of their own for each tensor.
fn voxel_stages(choices: &Choices, spec: &LossSpec, variant: Variant, slots: SlotChoice) -> [ComposedShader; 2] {
    let layout = Layout::new(spec, variant).expect("small shapes fit");
    let statistics = compose::statistics(&part(spec, slots, false), &layout, variant);
    let gradient = compose::gradient(&part(spec, slots, true), &layout, variant, slots.pooled);
    [ComposedShader::new("statistics", choices, statistics), ComposedShader::new("gradient", choices, gradient)]
}

fn part(spec: &LossSpec, choice: SlotChoice, with_gradient: bool) -> PartText {
    let mut part = PartText { heads: Vec::new(), kinds: Vec::new() };
    for (index, head) in spec.heads.iter().enumerate() {
        let labels = matches!(head.target, Target::Labels(_));
        let in_place = with_gradient && choice.gradient == Role::GradientInPlace;
        let roles = [
            (Role::Logits, !in_place),
            (Role::Labels, labels),
            (Role::Probabilities, !labels),
            (Role::Mask, head.mask),
            (Role::WeightMap, head.weight_map),
            (Role::SampleMask, head.sample_mask),
            (Role::VoxelLosses, !with_gradient && head.voxel_losses()),
            (choice.gradient, with_gradient),
        ];
        let mut slots = HeadSlots {
            head: index,
            items: 0..u32::try_from(head.items()).expect("few items"),
            ..HeadSlots::default()
        };
        for (role, _) in roles.into_iter().filter(|(_, wanted)| *wanted) {
            let slot = u32::try_from(part.kinds.len()).expect("few slots");
            slots.slots.extend(role.lists().iter().map(|list| (*list, (slot, 0))));
            part.kinds.push(choice.kind(role, head));
        }
        part.heads.push(slots);
    }
    part
}

fn small_stages(spec: &LossSpec, choices: &Choices, variant: Variant) -> Vec<ComposedShader> {
    let layout = Layout::new(spec, variant).expect("small shapes fit");
    let heads = spec.heads.len();
    let mut all = vec![
        ComposedShader::new("combine", choices, compose::combine(heads, variant)),
        ComposedShader::new("finish", choices, compose::finish(&layout, variant, false)),
    ];
    if layout.has_top_k() {
        let text = compose::top_k(heads, variant);
        let entry_points = ["begin", "histogram", "pick", "sum_top"];
        all.extend(entry_points.map(|entry_point| ComposedShader::new(entry_point, choices, text.clone())));
    } else {
        let text = compose::finish(&layout, variant, true);
        let choices: Choices = choices.iter().cloned().chain([("ranks", "distributed".to_owned())]).collect();
        let entry_points = ["row_sums", "finish"];
        all.extend(entry_points.map(|entry_point| ComposedShader::new(entry_point, &choices, text.clone())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    fn validate(name: &str, source: &str) -> naga::Module {
        let module = naga::front::wgsl::parse_str(source)
            .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
        validator.subgroup_stages(naga::valid::ShaderStages::all());
        validator.subgroup_operations(naga::valid::SubgroupOperationSet::all());
        validator.validate(&module).unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
        module
    }

    #[test]
    fn every_file_stands_alone() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        let files = [root.clone(), root.join("shared")]
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).expect("the folder exists"))
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|e| e == "wgsl"))
            .collect::<Vec<_>>();
        assert!(files.len() > 15, "{files:?}");
        for path in files {
            let source = std::fs::read_to_string(&path).expect("readable");
            validate(&path.display().to_string(), &source);
        }
    }

    #[test]
    fn every_permutation_is_valid() {
        let all = permutations();
        assert!(all.len() > 1500, "{} permutations", all.len());
        for shader in all.iter().chain(&representative()) {
            let module = validate(&shader.name, &shader.source);
            assert!(module.entry_points.iter().any(|e| e.name == shader.entry_point), "{}", shader.name);
        }
    }

    #[test]
    fn a_few_hundred_have_every_pair_of_choices() {
        let (all, few) = (permutations(), covering());
        assert!(few.len() < all.len() / 4, "{} of {}", few.len(), all.len());
        let of = |shader: &ComposedShader| {
            let choices = shader.choices.clone();
            choices
                .clone()
                .into_iter()
                .flat_map(move |one| choices.clone().into_iter().map(move |two| (one.clone(), two)))
        };
        let pairs = |shaders: &[ComposedShader]| shaders.iter().flat_map(of).collect::<HashSet<_>>();
        assert_eq!(pairs(&few), pairs(&all));
    }

    #[test]
    fn the_arithmetic_of_like_heads_is_emitted_once() {
        let spec = LossSpec { heads: vec![Head::new([2, 4, 16, 16, 16], Loss::monai_dice_ce()); 5] };
        let layout = Layout::new(&spec, VARIANT).expect("fits");
        let text = compose::statistics(&part(&spec, SlotChoice::SIMPLE, false), &layout, VARIANT);
        assert_eq!(text.matches("fn statistics_g").count(), 1);
        assert_eq!(text.matches("fn load_logits").count(), 5);
    }
}
