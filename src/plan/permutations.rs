//! The shaders that plans are made of, without a device: to validate every one, and to read a few.

use super::compose;
use super::layout::Layout;
use super::slots::{HeadSlots, PartText, Role, SlotKind};
use super::variant::Variant;
use crate::{Head, Loss, LossSpec, Overlap, Pixel};

/// The text of one shader.
#[derive(Clone, Debug)]
pub struct ComposedShader {
    /// The choices that made it, fit for a file name.
    pub name: String,
    /// Its entry point.
    pub entry_point: &'static str,
    /// WGSL.
    pub source: String,
}

/// The variant that the shaders below take; tuning numbers do not change their structure.
const VARIANT: Variant =
    Variant { invocations: 64, tile: 4096, register_classes: 16, chunk: 8, fold_invocations: 64, subgroups: false };

/// Every permutation of every shader: all term settings that change text × registers or streamed × loads × windows ×
/// binding modes × reductions. A few thousand.
#[must_use]
pub fn permutations() -> Vec<ComposedShader> {
    let mut all = small_stages(1, "1-head");
    for (terms, loss) in losses() {
        for classes in [4, 17] {
            let spec = LossSpec::new().head(Head::new([2, classes, 8, 8, 8], loss(classes)));
            for (loads, kinds) in kinds() {
                for subgroups in [false, true] {
                    let variant = Variant { subgroups, ..VARIANT };
                    let reduction = if subgroups { "subgroup" } else { "workgroup" };
                    let name = format!("{terms}-{classes}-classes-{loads}-{reduction}");
                    all.extend(voxel_stages(&name, &spec, variant, &[kinds]));
                }
            }
        }
    }
    all
}

/// The shaders of a few plans that show the rest: one head of few classes, one of many, five unlike heads.
#[must_use]
pub fn representative() -> Vec<ComposedShader> {
    let wide = slot_kinds(8, true, 1, false);
    let five = [[2, 4, 128, 128, 128], [2, 4, 64, 64, 64], [2, 3, 32, 32, 32], [2, 14, 16, 16, 16], [2, 105, 8, 8, 8]];
    let plans = [
        ("monai-dice-ce-4-classes", vec![Head::new([2, 4, 128, 128, 128], Loss::monai_dice_ce())]),
        ("nnunet-dc-ce-105-classes", vec![Head::new([2, 105, 96, 96, 96], Loss::nnunet_dc_ce())]),
        ("five-heads", five.map(|shape| Head::new(shape, Loss::monai_dice_ce())).to_vec()),
    ];
    let mut all = Vec::new();
    for (name, heads) in plans {
        let kinds = vec![wide; heads.len()];
        all.extend(small_stages(heads.len(), name));
        all.extend(voxel_stages(name, &LossSpec { heads }, VARIANT, &kinds));
    }
    all
}

type LossOf = Box<dyn Fn(usize) -> Loss>;

/// Every choice of terms that changes text.
fn losses() -> Vec<(String, LossOf)> {
    let overlaps = [("", None), ("dice", Some(false)), ("dice-squared", Some(true))];
    let pixels = [("", None), ("ce", Some((false, false))), ("ce-smoothing", Some((true, false)))]
        .into_iter()
        .chain([("ce-weights", Some((false, true))), ("ce-smoothing-weights", Some((true, true)))]);
    let mut losses: Vec<(String, LossOf)> = Vec::new();
    for (pixel_name, pixel) in pixels {
        for (overlap_name, overlap) in overlaps {
            if pixel.is_none() && overlap.is_none() {
                continue;
            }
            let loss = move |classes| Loss {
                overlap: overlap.map(|squared| Overlap::dice().squared(squared)),
                pixel: pixel.map(|(smoothing, weights)| Pixel {
                    label_smoothing: if smoothing { 0.1 } else { 0.0 },
                    class_weights: weights.then(|| vec![1.0; classes]),
                    ..Pixel::cross_entropy()
                }),
                ..Loss::new()
            };
            losses.push((format!("{overlap_name}+{pixel_name}"), Box::new(loss)));
        }
    }
    losses
}

/// Logits, labels and gradient of a head.
type HeadKinds = [SlotKind; 3];

/// Every way to load and store.
fn kinds() -> Vec<(String, HeadKinds)> {
    let mut all = Vec::new();
    for bits in [8, 16, 32] {
        for wide in [false, true] {
            for windows in [1, 3] {
                for pooled in [false, true] {
                    let width = if wide { "wide" } else { "scalar" };
                    let mode = if pooled { "pooled" } else { "separate" };
                    let name = format!("u{bits}-{width}-{windows}-windows-{mode}");
                    all.push((name, slot_kinds(bits, wide, windows, pooled)));
                }
            }
        }
    }
    all
}

fn slot_kinds(label_bits: u32, wide: bool, windows: u32, pooled: bool) -> HeadKinds {
    let window = if windows > 1 { 25 } else { 31 };
    let kind = |role, bits, read_write| SlotKind { role, bits, wide, window, windows, read_write };
    [kind(Role::Logits, 32, pooled), kind(Role::Labels, label_bits, pooled), kind(Role::Gradient, 32, true)]
}

/// Statistics and gradient of heads that have these loads and stores.
fn voxel_stages(name: &str, spec: &LossSpec, variant: Variant, kinds: &[HeadKinds]) -> [ComposedShader; 2] {
    let layout = Layout::new(spec, variant).expect("small shapes fit");
    let pooled = kinds[0][0].read_write;
    let with_gradient = part(kinds, 3);
    [
        ComposedShader {
            name: format!("statistics-{name}"),
            entry_point: "statistics",
            source: compose::statistics(&part(kinds, 2), &layout.heads, variant),
        },
        ComposedShader {
            name: format!("gradient-{name}"),
            entry_point: "gradient",
            source: compose::gradient(&with_gradient, &layout.heads, variant, pooled),
        },
    ]
}

/// A part in which each head has slots of its own, the first `slots_a_head` of its three.
fn part(kinds: &[HeadKinds], slots_a_head: usize) -> PartText {
    let mut slots = Vec::new();
    let mut heads = Vec::new();
    for (head, of_head) in kinds.iter().enumerate() {
        let first = u32::try_from(slots.len()).expect("few slots");
        slots.extend(&of_head[..slots_a_head]);
        heads.push(HeadSlots { head, logits: (first, 0), target: (first + 1, 0), gradient: (first + 2, 0) });
    }
    PartText { heads, kinds: slots }
}

fn small_stages(heads: usize, name: &str) -> Vec<ComposedShader> {
    vec![
        ComposedShader {
            name: format!("combine-{name}"),
            entry_point: "combine",
            source: compose::combine(heads, VARIANT),
        },
        ComposedShader {
            name: format!("finish-{name}"),
            entry_point: "finish",
            source: compose::finish(heads, VARIANT),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::table::HeadRow;
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
        assert!(all.len() > 2000, "{} permutations", all.len());
        for shader in all.iter().chain(&representative()) {
            let module = validate(&shader.name, &shader.source);
            assert!(module.entry_points.iter().any(|e| e.name == shader.entry_point), "{}", shader.name);
        }
    }

    #[test]
    fn the_arithmetic_of_like_heads_is_emitted_once() {
        let heads = vec![Head::new([2, 4, 16, 16, 16], Loss::monai_dice_ce()); 5];
        let layout = Layout::new(&LossSpec { heads }, VARIANT).expect("fits");
        let kinds = vec![slot_kinds(8, true, 1, false); 5];
        let text = compose::statistics(&part(&kinds, 2), &layout.heads, VARIANT);
        assert_eq!(text.matches("fn statistics_g").count(), 1);
        assert_eq!(text.matches("fn load_logits_s").count(), 5);
    }

    /// naga's layout of the struct against the host's, field by field.
    #[test]
    fn the_table_row_mirrors_its_shader_struct() {
        let module = validate("combine", &compose::combine(1, VARIANT));
        let (_, head) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Head")).expect("Head");
        let naga::TypeInner::Struct { members, span } = &head.inner else { panic!("Head is a struct") };
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).expect("layout");

        macro_rules! offsets {
            ($($field:ident),* $(,)?) => {
                [$((stringify!($field), std::mem::offset_of!(HeadRow, $field))),*]
            };
        }
        let host = offsets![
            items,
            classes,
            voxels,
            group,
            logits_slot,
            logits_first,
            target_slot,
            target_first,
            gradient_slot,
            gradient_first,
            upstream,
            first_workgroup,
            tiles,
            first_column,
            partials,
            statistics,
            coefficients,
            coefficient_row,
            report,
            has_ignore_index,
            ignore_index,
            pixel_kind,
            pixel_reduction,
            pixel_weight,
            on_label,
            off_label,
            weighted_classes,
            class_weights,
            class_weight_sum,
            empty,
            overlap_kind,
            overlap_reduction,
            overlap_weight,
            first_class,
            batch,
            smooth_nr,
            smooth_dr,
            denominator_floor,
            form,
            weighted_overlap,
            overlap_class_weights,
        ];
        let shader: Vec<_> = members.iter().map(|m| (m.name.as_deref().expect("named"), m.offset as usize)).collect();
        assert_eq!(shader, host);
        // in a uniform array, the stride is the size rounded up to 16 bytes
        assert_eq!(span.next_multiple_of(16) as usize, size_of::<HeadRow>());
    }
}
