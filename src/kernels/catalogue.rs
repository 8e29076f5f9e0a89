//! The shaders that plans are made of, without a device: to validate all, and to read a few.

use std::collections::HashSet;

use super::axes::{Choice, ChosenStep, Slots, VARIANT, names, runs_alone};
use super::{compose, cover};
use crate::layout::Layout;
use crate::layout::tensors;
use crate::layout::variant::Variant;
use crate::spec::{Activation, FloatType, Head, Loss, LossSpec, MemoryFormat, Overlap, Pixel, Reduction};

/// The text of one shader.
#[derive(Clone, Debug)]
pub struct ComposedShader {
    /// Its stage and its choices, fit for a file name.
    pub name: String,
    /// Its entry point.
    pub entry_point: &'static str,
    /// WGSL.
    pub source: String,
}

impl ComposedShader {
    fn new(entry_point: &'static str, choices: &str, source: String) -> Self {
        Self { name: joined([entry_point, choices].into_iter()), entry_point, source }
    }
}

/// The names of choices as one, without the empty ones.
fn joined<'a>(chosen: impl Iterator<Item = &'a str>) -> String {
    chosen.filter(|chosen| !chosen.is_empty()).collect::<Vec<_>>().join("-")
}

fn name_of(choice: &Choice) -> String {
    joined(names(choice).map(|(_, name)| name))
}

/// Shaders that together have every pair of choices (terms, targets and masks, ways to hold classes, types, windows, binding
/// and gradient modes, reductions, outputs), and those in which something was broken once.
#[must_use]
pub fn permutations_of_every_pair() -> Vec<ComposedShader> {
    let mut all = all_small_stages();
    let choices = cover::every_pair(|_| true).into_iter().chain(cover::broken());
    all.extend(choices.flat_map(|choice| of_choice(&choice)));
    once(all)
}

/// Those of [`permutations_of_every_pair`], and of `sample` random combinations of choices, drawn from `seed`.
#[must_use]
pub fn permutations(seed: u64, sample: usize) -> Vec<ComposedShader> {
    let mut all = permutations_of_every_pair();
    all.extend(cover::sample(seed, sample).iter().flat_map(of_choice));
    once(all)
}

/// How many shaders all combinations of choices would make.
#[must_use]
pub fn all_permutations() -> u64 {
    2 * cover::count() + all_small_stages().len() as u64
}

/// Steps to run, with tensors bound one by one and gradients overwritten, that together have every pair of choices possible
/// for such steps. Each has a name, a specification, and a variant of hardware adapters with the chosen ways to hold classes,
/// to load and to reduce.
#[must_use]
pub fn covering_steps() -> Vec<CoveringStep> {
    let named = cover::every_pair(runs_alone).into_iter().map(|choice| {
        let step = ChosenStep::new(&choice);
        CoveringStep {
            name: name_of(&choice),
            spec: step.spec(),
            variant: Variant { wide: step.slots.wide, ..step.variant },
            built_in_f16: step.slots.f16.decodes,
        }
    });
    named.collect()
}

/// One of [`covering_steps`].
#[derive(Clone, Debug)]
pub struct CoveringStep {
    /// Its choices.
    pub name: String,
    /// Its heads.
    pub spec: LossSpec,
    /// A variant of hardware adapters.
    pub variant: Variant,
    /// Whether f16 is converted by WGSL's built-in functions, where the device's are exact.
    pub built_in_f16: bool,
}

/// Keeps the first shader of each name.
fn once(mut all: Vec<ComposedShader>) -> Vec<ComposedShader> {
    let mut seen = HashSet::new();
    all.retain(|shader| seen.insert(shader.name.clone()));
    all
}

fn of_choice(choice: &Choice) -> [ComposedShader; 2] {
    let step = ChosenStep::new(choice);
    voxel_stages(&name_of(choice), &step.spec(), step.variant, step.slots)
}

fn all_small_stages() -> Vec<ComposedShader> {
    let mut all = vec![ComposedShader::new("copy_upstream", "", compose::upstream())];
    let asked = [("", false, false), ("subgroups", true, false), ("one-subgroup", true, true)];
    all.extend(
        asked.map(|(name, subgroups, one)| ComposedShader::new("ask", name, compose::ask(64, 6, subgroups, one))),
    );
    for (name, loss) in [
        ("dice-ce", Loss::monai_dice_ce()),
        ("generalized-dice", Loss::monai_generalized_dice()),
        ("top-k", Loss::new().pixel(Pixel::top_k_cross_entropy(10.0))),
        ("item-means", Loss::new().pixel(Pixel::binary_cross_entropy().reduction(Reduction::SumOfItemMeans))),
    ] {
        let spec = LossSpec::new().head(Head::new([2, 4, 8, 8, 8], loss));
        let one_subgroup = Variant { subgroups: true, subgroup_size: VARIANT.fold_invocations, ..VARIANT };
        for (fold, variant) in [("workgroup", VARIANT), ("one-subgroup", one_subgroup)] {
            all.extend(small_stages(&spec, &joined([name, fold].into_iter()), variant));
        }
    }
    all
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
        all.extend(small_stages(&spec, name, VARIANT));
        all.extend(voxel_stages(name, &spec, VARIANT, Slots { wide: true, ..Slots::PLAIN }));
    }
    all
}

/// Statistics and gradient of a head of `classes` classes with soft Dice and cross-entropy, as hardware runs them: for a
/// driver's compiler, to read its statistics.
#[must_use]
pub fn of_classes(classes: usize, memory_format: MemoryFormat, label_smoothing: f32) -> Vec<ComposedShader> {
    let loss = Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(label_smoothing));
    let smoothing = if label_smoothing > 0.0 { "smoothing" } else { "" };
    let last = if memory_format == MemoryFormat::ChannelsLast { "channels-last" } else { "" };
    let head = Head::new([1, classes, 64, 64, 64], loss).memory_format(memory_format);
    let slots = Slots { wide: tensors::row(&head, VARIANT).is_multiple_of(4), ..Slots::PLAIN };
    let choices = joined([&format!("{classes}-classes"), last, smoothing].into_iter());
    voxel_stages(&choices, &LossSpec::new().head(head), VARIANT, slots).to_vec()
}

/// Statistics and gradient of heads whose tensors each have a slot of their own.
fn voxel_stages(choices: &str, spec: &LossSpec, variant: Variant, slots: Slots) -> [ComposedShader; 2] {
    let layout = Layout::new(spec, variant).expect("small shapes fit");
    let statistics = compose::statistics(&slots.dispatch(spec, variant, false), &layout, variant, slots.f16);
    let bound = !slots.pooled && !slots.shared;
    let gradient = compose::gradient(&slots.dispatch(spec, variant, true), &layout, variant, slots.f16, bound);
    [ComposedShader::new("statistics", choices, statistics), ComposedShader::new("gradient", choices, gradient)]
}

fn small_stages(spec: &LossSpec, choices: &str, variant: Variant) -> Vec<ComposedShader> {
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
        let choices = joined([choices, "distributed"].into_iter());
        let entry_points = ["row_sums", "finish"];
        all.extend(entry_points.map(|entry_point| ComposedShader::new(entry_point, &choices, text.clone())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::answers::BuiltInF16;
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

    /// `SEGLOSS_PERMUTATIONS` choices are drawn from `SEGLOSS_SEED`.
    #[test]
    fn every_pair_of_choices_a_sample_and_what_was_broken_once_are_valid() {
        let number = |name: &str, otherwise: u64| {
            std::env::var(name).map_or(otherwise, |given| given.parse().unwrap_or_else(|_| panic!("{name}: {given}")))
        };
        let (seed, sample) = (number("SEGLOSS_SEED", 1), number("SEGLOSS_PERMUTATIONS", 200));
        let all = permutations(seed, usize::try_from(sample).expect("a small number"));
        println!("{} of {} shaders, SEGLOSS_SEED={seed}", all.len(), all_permutations());
        assert!(all.len() > 600 && all.len() <= 15_000, "{} permutations", all.len());
        let check = |shader: &ComposedShader| {
            let module = validate(&shader.name, &shader.source);
            assert!(module.entry_points.iter().any(|e| e.name == shader.entry_point), "{}", shader.name);
        };
        std::thread::scope(|scope| {
            for part in all.chunks(all.len().div_ceil(2)) {
                scope.spawn(move || part.iter().for_each(check));
            }
        });
        representative().iter().for_each(check);
    }

    #[test]
    fn a_driver_runs_at_most_250_steps_for_every_pair_of_choices() {
        let steps = covering_steps();
        assert!(steps.len() > 70 && steps.len() <= 250, "{}", steps.len());
    }

    #[test]
    fn the_arithmetic_of_like_heads_is_emitted_once() {
        let spec = LossSpec { heads: vec![Head::new([2, 4, 16, 16, 16], Loss::monai_dice_ce()); 5] };
        let layout = Layout::new(&spec, VARIANT).expect("fits");
        let text =
            compose::statistics(&Slots::PLAIN.dispatch(&spec, VARIANT, false), &layout, VARIANT, BuiltInF16::default());
        assert_eq!(text.matches("fn statistics_g").count(), 1);
        assert_eq!(text.matches("fn load_logits").count(), 5);
    }
}
