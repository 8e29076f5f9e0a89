//! The shape of the kernels: the numbers that tuning chooses. `defaults.rs` and `src/tuning` have which are good where.

use std::any::TypeId;
use std::fmt;
use std::str::FromStr;

use super::driver::Driver;
use super::words::{NOWHERE, TILE_COLUMNS};
use crate::error::{Bound, Error};

/// The most classes that an invocation may hold: their loops are unrolled in text.
const MOST_HELD: u32 = 32;

/// Quads of a row that an invocation takes at once where classes stream: unrolled in text. Two are 256 bytes per row of a
/// workgroup of eight, and were fastest there among 1, 2, 3, 4 and 8.
pub(crate) const STREAM_QUADS: u32 = 2;

macro_rules! numbers {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty,)*) => {
        /// The shape of the kernels on a device: numbers that change speed and nothing else.
        ///
        /// As text, `invocations=64,tile=4096,…`: every number, by its name.
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct Variant {
            $($(#[doc = $doc])* pub $name: $type,)*
        }

        impl Variant {
            /// The names of the numbers.
            const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// Each number's name, and the number as text.
            pub fn numbers(self) -> impl Iterator<Item = (&'static str, String)> {
                [$((stringify!($name), self.$name.to_string())),*].into_iter()
            }

            /// Of no numbers yet.
            fn none() -> Self {
                Self { $($name: <$type>::default(),)* }
            }

            fn set(&mut self, name: &str, text: &str) -> Result<(), Error> {
                match name {
                    $(stringify!($name) => self.$name = number(stringify!($name), text)?,)*
                    _ => return Err(refused("name", format!("one of {}", Self::NAMES.join(", ")), name)),
                }
                Ok(())
            }
        }
    };
}

numbers! {
    /// Invocations per workgroup of the statistics and gradient kernels.
    invocations: u32,
    /// Voxels per tile: what one workgroup handles. A multiple of 4 · `invocations`, at most 2^24.
    tile: u32,
    /// Classes that an invocation holds at once. Heads with more are split over the invocations of a workgroup.
    register_classes: u32,
    /// The same with channels last, where a quad that is held whole is read as it lies.
    register_classes_last: u32,
    /// Classes that an invocation of a split head holds, if the workgroup has invocations enough; where it lacks them, up to
    /// 32. Where only two share a quad, each may hold `register_classes`. Heads with still more classes stream them. 0: no head
    /// is split, and those that would be stream.
    split_classes: u32,
    /// The gradient kernel of a contiguous head with so many classes or more streams them, whatever statistics does.
    streamed_gradient: u32,
    /// Classes per chunk of the sums over a workgroup, which go through workgroup memory.
    chunk: u32,
    /// Invocations of the combine and finish kernels; a power of two.
    fold_invocations: u32,
    /// Loads and stores four elements at once, where a tensor's offset and rows allow it; false: one by one everywhere.
    wide: bool,
    /// Sums inside a workgroup by subgroup operations, instead of workgroup memory alone.
    subgroups: bool,
    /// Compiles the kernels without the bounds checks that wgpu adds to every access and loop. Their indices follow from
    /// sizes that are checked when tensors are bound.
    unchecked: bool,
    /// The most heads per statistics or gradient dispatch, as far as the device's bindings go. A driver that runs both sides
    /// of a branch, with lanes masked, runs and compiles one dispatch per head faster: heads of one arithmetic share the
    /// pipeline.
    heads_per_dispatch: u32,
    /// The size of every subgroup, where the device has one size only; 0 where it is not known.
    subgroup_size: u32,
}

/// Parses a number, or true or false.
fn number<T: FromStr + 'static>(setting: &'static str, text: &str) -> Result<T, Error> {
    let expected = if TypeId::of::<T>() == TypeId::of::<bool>() { "true or false" } else { "a number" };
    text.parse().map_err(|_| refused(setting, expected.to_owned(), text))
}

fn refused(setting: &'static str, expected: String, given: &str) -> Error {
    Error::Variant { setting, expected, given: given.to_owned() }
}

impl Variant {
    /// This variant with other numbers: `tile=2048,wide=true`.
    ///
    /// # Errors
    /// [`Error::Variant`] for a name that a variant lacks, and for a text that is not a number of it.
    pub fn with(mut self, numbers: &str) -> Result<Self, Error> {
        for given in numbers.split(',').map(str::trim).filter(|given| !given.is_empty()) {
            let (name, text) = given
                .split_once('=')
                .ok_or_else(|| refused("text", "NAME=NUMBER, as in tile=2048,wide=true".to_owned(), given))?;
            self.set(name.trim(), text.trim())?;
        }
        Ok(self)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.numbers().map(|(name, number)| format!("{name}={number}")).collect();
        f.write_str(&numbers.join(","))
    }
}

/// The text has to state every number.
impl FromStr for Variant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_given = |name: &&&str| text.split(',').any(|given| given.trim().starts_with(&format!("{name}=")));
        match Self::NAMES.iter().find(|name| !is_given(name)) {
            Some(lacking) => Err(refused("text", format!("a number for {lacking}"), text)),
            None => Self::none().with(text),
        }
    }
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
    /// How the classes of a head are held; `None` where they stream. With channels last those of a split head come in fours.
    pub(crate) fn split(self, classes: u32, channels_last: bool) -> Option<Split> {
        let whole = if channels_last { self.register_classes_last } else { self.register_classes };
        if classes <= whole {
            return Some(Split { lanes: 1, held: classes });
        }
        let most = 1 << self.invocations.trailing_zeros();
        if self.split_classes == 0 || most < 2 {
            return None;
        }
        let fours = |held: u32| if channels_last { held.next_multiple_of(4) } else { held };
        let wanted = if channels_last { (self.split_classes / 4 * 4).max(4) } else { self.split_classes };
        let of_two = self.register_classes.max(wanted);
        let mut lanes = 2;
        while lanes <= most {
            let held = fours(classes.div_ceil(lanes));
            if held <= if lanes == 2 { of_two } else { wanted } || lanes == most && held <= MOST_HELD {
                return Some(Split { lanes, held });
            }
            lanes *= 2;
        }
        None
    }

    /// The same in the gradient kernel.
    pub(crate) fn split_of_gradient(self, classes: u32, channels_last: bool) -> Option<Split> {
        let streams = classes >= self.streamed_gradient && !channels_last;
        if streams { None } else { self.split(classes, channels_last) }
    }

    /// A quarter of the classes per invocation, where sharing them is cheap.
    pub(crate) fn for_several_slots(self) -> Self {
        if !self.shares_by_subgroup() {
            return self;
        }
        Self {
            register_classes: self.register_classes.div_ceil(4),
            register_classes_last: self.register_classes_last.div_ceil(4),
            split_classes: self.split_classes.div_ceil(4),
            ..self
        }
    }

    /// A workgroup that is one subgroup shares by subgroup operations.
    pub(crate) fn shares_by_subgroup(self) -> bool {
        self.subgroups && self.subgroup_size == self.invocations
    }

    /// Rows of workgroup memory of the statistics kernel: three per class of a chunk, or those of a tile if they are more.
    pub(crate) fn rows(self) -> u32 {
        (3 * self.chunk).max(TILE_COLUMNS)
    }

    /// Bytes of workgroup memory of the statistics kernel, by the larger of its reductions.
    fn workgroup_memory(self) -> u64 {
        // rows of sums, and what the invocations of split heads share
        u64::from(self.rows()) * (u64::from(self.invocations) + 1) * 4 + u64::from(self.invocations) * 16
    }

    /// Checks the numbers against each other and against what the driver states.
    pub(crate) fn check(self, driver: &Driver) -> Result<(), Error> {
        let limits = &driver.limits;
        let refuse = |setting, expected: String, given: u32| Err(refused(setting, expected, &given.to_string()));
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
        if self.tile == 0 || u64::from(self.tile) % step != 0 || f64::from(self.tile) > f64::from(NOWHERE) {
            return refuse("tile", format!("a multiple of {step}, 4 · invocations, at most 2^24"), self.tile);
        }
        if !self.fold_invocations.is_power_of_two() {
            return refuse("fold_invocations", "a power of two".into(), self.fold_invocations);
        }
        if self.subgroups && !driver.subgroups {
            return Err(refused("subgroups", "false: the device lacks the subgroup feature".to_owned(), "true"));
        }
        let known = driver.subgroup_size;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::defaults::INTEGRATED;

    #[test]
    fn a_variant_is_read_as_it_is_written() {
        let variant = Variant { tile: 2048, wide: false, heads_per_dispatch: u32::MAX, ..INTEGRATED };
        assert_eq!(variant.to_string().parse(), Ok(variant));
        assert!(variant.to_string().contains("tile=2048") && variant.to_string().contains("wide=false"), "{variant}");
        assert_eq!(INTEGRATED.with("wide=false, tile=2048"), Ok(Variant { tile: 2048, wide: false, ..INTEGRATED }));
    }

    #[test]
    fn a_text_that_is_no_variant_is_refused_with_what_was_expected() {
        for (text, message) in [
            ("tiles=2048", "variant: name: expected one of invocations, tile, "),
            ("tile=2k", "variant: tile: expected a number, got 2k"),
            ("wide=1", "variant: wide: expected true or false, got 1"),
            ("tile", "variant: text: expected NAME=NUMBER, as in tile=2048,wide=true, got tile"),
        ] {
            let error = INTEGRATED.with(text).expect_err(text).to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let error = "tile=2048".parse::<Variant>().expect_err("lacks the rest").to_string();
        assert_eq!(error, "variant: text: expected a number for invocations, got tile=2048");
    }
}
