//! The shape of the kernels: the numbers that tuning chooses. Which are good where: `src/tuning`.

use super::words::{NOWHERE, TILE_COLUMNS};
use crate::error::{Bound, Error};

/// Classes that an invocation holds at most: their loops are unrolled in text.
const MOST_HELD: u32 = 32;

/// The shape of the kernels on a device: numbers that change speed and nothing else.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Invocations a workgroup of the statistics and gradient kernels.
    pub invocations: u32,
    /// Voxels a tile: what one workgroup handles. A multiple of 4 · `invocations`, at most 2^24.
    pub tile: u32,
    /// Classes that an invocation holds at once. Heads with more are split over the invocations of a workgroup.
    pub register_classes: u32,
    /// Classes that an invocation of a split head holds, if the workgroup has invocations enough; where it has not, up to 32.
    /// Heads with still more classes stream them, as all do that would be split where this is 0.
    pub split_classes: u32,
    /// Classes a chunk: of a stream, and of the sums that meet in workgroup memory.
    pub chunk: u32,
    /// Invocations of the combine and finish kernels; a power of two.
    pub fold_invocations: u32,
    /// Loads and stores four elements at once, where a tensor's offset and rows allow it; false: one by one everywhere.
    pub wide: bool,
    /// Sums inside a workgroup by subgroup operations, instead of workgroup memory alone.
    pub subgroups: bool,
    /// Compiles the kernels without the bounds checks that wgpu adds to every access and loop. Their indices follow from sizes
    /// that are checked when tensors are bound.
    pub unchecked: bool,
    /// Heads that share a statistics or gradient dispatch, as far as the device's bindings go. A driver that runs every side
    /// of a branch, with lanes masked, runs and compiles a dispatch a head faster: heads of one arithmetic share the pipeline.
    pub heads_per_dispatch: u32,
    /// The size of every subgroup, where the device has but one; 0 where it is not known.
    pub subgroup_size: u32,
}

/// How the classes of a quad lie over invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Invocations that share a quad.
    pub lanes: u32,
    /// Classes that each holds.
    pub held: u32,
}

impl Variant {
    /// How the classes of a head are held; `None` where they stream.
    pub(crate) fn split(self, classes: u32) -> Option<Split> {
        if classes <= self.register_classes {
            return Some(Split { lanes: 1, held: classes });
        }
        let most = 1 << self.invocations.trailing_zeros();
        if self.split_classes == 0 || most < 2 {
            return None;
        }
        let mut lanes = 2;
        while lanes <= most {
            let held = classes.div_ceil(lanes);
            if held <= self.split_classes || lanes == most && held <= MOST_HELD {
                return Some(Split { lanes, held });
            }
            lanes *= 2;
        }
        None
    }

    /// A quarter of the classes an invocation, where sharing them is cheap.
    pub(crate) fn for_several_slots(self) -> Self {
        if !self.shares_by_subgroup() {
            return self;
        }
        Self {
            register_classes: self.register_classes.div_ceil(4),
            split_classes: self.split_classes.div_ceil(4),
            ..self
        }
    }

    /// A workgroup that is one subgroup shares by subgroup operations.
    pub(crate) fn shares_by_subgroup(self) -> bool {
        self.subgroups && self.subgroup_size == self.invocations
    }

    /// Rows of workgroup memory of the statistics kernel: three a class of a chunk, or those of a tile.
    pub(crate) fn rows(self) -> u32 {
        (3 * self.chunk).max(TILE_COLUMNS)
    }

    /// Bytes of workgroup memory of the statistics kernel, by the larger of its reductions.
    fn workgroup_memory(self) -> u64 {
        // rows of sums, and what the invocations of split heads share
        u64::from(self.rows()) * (u64::from(self.invocations) + 1) * 4 + u64::from(self.invocations) * 16
    }

    /// Checks the numbers against each other and against the device.
    pub(crate) fn validate(self, device: &wgpu::Device) -> Result<(), Error> {
        let limits = device.limits();
        let refuse =
            |setting, expected: String, given: u32| Err(Error::Variant { setting, expected, given: given.to_string() });
        if self.invocations == 0 {
            return refuse("invocations", "at least 1".into(), self.invocations);
        }
        if self.chunk == 0 {
            return refuse("chunk", "at least 1".into(), self.chunk);
        }
        if self.heads_per_dispatch == 0 {
            return refuse("heads_per_dispatch", "at least 1".into(), self.heads_per_dispatch);
        }
        let step = 4 * u64::from(self.invocations);
        if self.tile == 0 || u64::from(self.tile) % step != 0 || f64::from(self.tile) > NOWHERE.into() {
            return refuse("tile", format!("a multiple of {step}, 4 · invocations, at most 2^24"), self.tile);
        }
        if !self.fold_invocations.is_power_of_two() {
            return refuse("fold_invocations", "a power of two".into(), self.fold_invocations);
        }
        if self.subgroups && !device.features().contains(wgpu::Features::SUBGROUP) {
            return Err(Error::Variant {
                setting: "subgroups",
                expected: "false: the device has no subgroup feature".into(),
                given: "true".into(),
            });
        }
        let info = device.adapter_info();
        let known = if info.subgroup_min_size == info.subgroup_max_size { info.subgroup_min_size } else { 0 };
        if ![0, known].contains(&self.subgroup_size) {
            let expected = format!("0, or the size of every subgroup where the device has but one ({known})");
            return refuse("subgroup_size", expected, self.subgroup_size);
        }
        let limit = |what: &str, bound, needed: u64, available: u64| {
            if needed <= available {
                return Ok(());
            }
            Err(Error::Limit { head: None, what: what.into(), bound, needed, available })
        };
        let most = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let invocations = self.invocations.max(self.fold_invocations);
        limit("a workgroup", Bound::Invocations, invocations.into(), most.into())?;
        let memory = limits.max_compute_workgroup_storage_size;
        limit("workgroup memory", Bound::WorkgroupMemory, self.workgroup_memory(), memory.into())
    }
}
