//! A good variant for each kind of adapter: the numbers that tuning starts from.

use super::driver::Driver;
use super::variant::Variant;

/// A software driver runs a workgroup one SIMD vector after another, each over the whole tile: with one vector per workgroup
/// the tile is streamed once. It runs both sides of a branch, with lanes masked, so heads are faster in dispatches of their
/// own. Classes that two invocations cannot hold are shared by all eight, so that each load touches eight rows: 32 classes took
/// two thirds of the time of two invocations with sixteen each, on Mesa 22 and 25. The gradient, which walks the rows of two
/// tensors, streams them: 118 classes took 157 ms instead of 216 on Mesa 25, 434 instead of 358 on Mesa 22.
const SOFTWARE: Variant = Variant {
    invocations: 8,
    tile: 4096,
    register_classes: 8,
    register_classes_last: 16,
    split_classes: 4,
    streamed_gradient: 17,
    chunk: 4,
    fold_invocations: 8,
    wide: true,
    subgroups: true,
    unchecked: false,
    heads_per_dispatch: 1,
    subgroup_size: 0,
};

/// A wave or two per workgroup, and few enough registers that eight or more waves share a SIMD: `docs/isa.md` has the
/// compiler's figures. A few hundred tiles fill a few dozen SIMDs.
pub(crate) const INTEGRATED: Variant = Variant {
    invocations: 64,
    register_classes: 6,
    register_classes_last: 6,
    split_classes: 6,
    streamed_gradient: u32::MAX,
    chunk: 8,
    fold_invocations: 64,
    heads_per_dispatch: u32::MAX,
    ..SOFTWARE
};

/// As integrated, with more tiles for more SIMDs: 2 × 128³ voxels are 2048 workgroups of one wave, 13 per SIMD on the 160
/// SIMDs of the example in docs/isa.md. Tiles of 4096 voxels would be 6 per SIMD, where 8 and more fit. With still shorter
/// tiles, the partial sums of a few classes would be near 1 % of the logits.
const DISCRETE: Variant = Variant { tile: 2048, ..INTEGRATED };

impl Variant {
    /// The default of a discrete GPU, before the limits and the features of one: without subgroups.
    #[must_use]
    pub const fn hardware() -> Self {
        Self { subgroups: false, ..DISCRETE }
    }

    /// The default of a software driver, before the limits and the features of one: without subgroups.
    #[must_use]
    pub const fn software() -> Self {
        Self { subgroups: false, ..SOFTWARE }
    }

    /// A good variant for the kind of adapter, within the device's limits and features.
    pub(crate) fn for_driver(driver: &Driver) -> Self {
        let default = match driver.kind {
            wgpu::DeviceType::Cpu => SOFTWARE,
            wgpu::DeviceType::DiscreteGpu => DISCRETE,
            wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => INTEGRATED,
        };
        let most = driver.limits.max_compute_invocations_per_workgroup;
        Self {
            invocations: default.invocations.min(most),
            fold_invocations: default.fold_invocations.min(most),
            subgroups: driver.subgroups,
            subgroup_size: if driver.subgroups { driver.subgroup_size } else { 0 },
            ..default
        }
    }
}
