//! The variants that the tuner tries: the best so far, with one setting changed.

use std::fmt;

use crate::layout::variant::Variant;
use crate::spec::{Head, LossSpec};

/// One setting of a variant, or two that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Invocations(u32),
    Tile(u32),
    /// `register_classes`, `register_classes_last`, `split_classes`.
    Classes(u32, u32, u32),
    StreamedGradient(u32),
    Wide(bool),
    Subgroups(bool),
    Unchecked(bool),
    HeadsPerDispatch(u32),
    Chunk(u32),
    FoldInvocations(u32),
}

/// All settings, in the order in which they are tried: those that matter most come first, since the time may run out.
/// Invocations that hold 4, 6, 8 or 16 classes, or stream them (0), cover the register budgets of all devices.
const SETTINGS: [Setting; 30] = [
    Setting::Invocations(8),
    Setting::Invocations(16),
    Setting::Invocations(32),
    Setting::Invocations(64),
    Setting::Invocations(128),
    Setting::Invocations(256),
    Setting::Tile(1024),
    Setting::Tile(2048),
    Setting::Tile(4096),
    Setting::Tile(8192),
    Setting::Tile(16_384),
    Setting::Classes(4, 4, 4),
    Setting::Classes(6, 6, 6),
    Setting::Classes(8, 8, 8),
    Setting::Classes(16, 16, 16),
    Setting::Classes(8, 16, 4),
    Setting::Classes(8, 16, 0),
    Setting::StreamedGradient(17),
    Setting::StreamedGradient(u32::MAX),
    Setting::Wide(false),
    Setting::Subgroups(false),
    Setting::Unchecked(true),
    Setting::HeadsPerDispatch(1),
    Setting::HeadsPerDispatch(u32::MAX),
    Setting::Chunk(4),
    Setting::Chunk(16),
    Setting::FoldInvocations(8),
    Setting::FoldInvocations(32),
    Setting::FoldInvocations(64),
    Setting::FoldInvocations(256),
];

/// The settings that can make a difference to a specification.
pub(super) struct Candidates {
    pub settings: Vec<Setting>,
    /// Classes of each head, and whether they are channels last. Variants that hold these classes alike are tried once.
    classes: Vec<(u32, bool)>,
}

impl Setting {
    /// The variant with this setting, and its tile rounded up to fit.
    pub(super) fn of(self, variant: Variant) -> Variant {
        match self {
            Self::Invocations(invocations) => {
                Variant { invocations, tile: variant.tile.next_multiple_of(4 * invocations), ..variant }
            }
            Self::Tile(tile) => Variant { tile: tile.next_multiple_of(4 * variant.invocations), ..variant },
            Self::Classes(register_classes, register_classes_last, split_classes) => {
                Variant { register_classes, register_classes_last, split_classes, ..variant }
            }
            Self::StreamedGradient(streamed_gradient) => Variant { streamed_gradient, ..variant },
            Self::Wide(wide) => Variant { wide, ..variant },
            Self::Subgroups(subgroups) => Variant { subgroups, ..variant },
            Self::Unchecked(unchecked) => Variant { unchecked, ..variant },
            Self::HeadsPerDispatch(heads_per_dispatch) => Variant { heads_per_dispatch, ..variant },
            Self::Chunk(chunk) => Variant { chunk, ..variant },
            Self::FoldInvocations(fold_invocations) => Variant { fold_invocations, ..variant },
        }
    }
}

/// In the form that `bench --variant` takes.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invocations(n) => write!(f, "invocations={n}"),
            Self::Tile(n) => write!(f, "tile={n}"),
            Self::Classes(register, last, split) => {
                write!(f, "register_classes={register},register_classes_last={last},split_classes={split}")
            }
            Self::StreamedGradient(n) => write!(f, "streamed_gradient={n}"),
            Self::Wide(yes) => write!(f, "wide={yes}"),
            Self::Subgroups(yes) => write!(f, "subgroups={yes}"),
            Self::Unchecked(yes) => write!(f, "unchecked={yes}"),
            Self::HeadsPerDispatch(n) => write!(f, "heads_per_dispatch={n}"),
            Self::Chunk(n) => write!(f, "chunk={n}"),
            Self::FoldInvocations(n) => write!(f, "fold_invocations={n}"),
        }
    }
}

impl Candidates {
    pub(super) fn new(device: &wgpu::Device, spec: &LossSpec) -> Self {
        let most = device.limits().max_compute_invocations_per_workgroup;
        let aligned = spec.heads.iter().any(|head| head.voxels().is_multiple_of(4));
        let makes_sense = |setting: &Setting| match *setting {
            Setting::Invocations(n) | Setting::FoldInvocations(n) => n <= most,
            // rows of other lengths are read element by element in any case
            Setting::Wide(_) => aligned,
            Setting::HeadsPerDispatch(_) => spec.heads.len() > 1,
            _ => true,
        };
        let classes = |head: &Head| (u32::try_from(head.classes()).unwrap_or(u32::MAX), head.channels_last());
        let classes = spec.heads.iter().map(classes).collect();
        Self { settings: SETTINGS.into_iter().filter(makes_sense).collect(), classes }
    }

    /// Whether this setting changes the kernels of a variant.
    pub(super) fn changes(&self, setting: Setting, variant: Variant) -> bool {
        let other = setting.of(variant);
        if !matches!(setting, Setting::Classes(..) | Setting::StreamedGradient(_)) {
            return other != variant;
        }
        let held = |variant: Variant| {
            let of = |variant: Variant| {
                let kernels = [Variant::split, Variant::split_of_gradient];
                self.classes.iter().flat_map(move |&(classes, last)| kernels.map(|split| split(variant, classes, last)))
            };
            of(variant).chain(of(variant.for_several_slots())).collect::<Vec<_>>()
        };
        held(variant) != held(other)
    }
}

#[cfg(test)]
impl Candidates {
    /// All settings, for heads of these classes.
    pub(super) fn all(classes: &[u32]) -> Self {
        Self { settings: SETTINGS.to_vec(), classes: classes.iter().map(|&classes| (classes, false)).collect() }
    }
}
