//! What a device answered when it was asked; `gpu/ask.rs` asks it.

use super::driver::Driver;
use super::variant::Variant;
use crate::error::Error;

/// Facts on which the kernels rest, each `true` where the device was asked a question with a known answer, and was right.
///
/// A wrong sum makes every loss wrong, without a word. What is `false` is not used: sums then go through workgroup memory, and
/// halves are converted by integers.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "a fact each")]
pub struct Answers {
    /// Sums over a workgroup, through workgroup memory and barriers. Without it no plan is made.
    pub workgroup_sums: bool,
    /// Sums and least numbers over the subgroups of a workgroup, which have consecutive numbers.
    pub subgroup_sums: bool,
    /// A workgroup of as many invocations as the device states for every subgroup is one subgroup, and its lanes have the order
    /// of its invocations.
    pub one_subgroup: bool,
    /// Atomic additions to workgroup memory. Without it no plan with a top-k is made.
    pub workgroup_atomics: bool,
    /// `unpack2x16float` is exact, subnormal halves included.
    pub decodes_f16: bool,
    /// `pack2x16float` rounds to nearest, ties to even, from subnormal halves to infinite ones.
    pub encodes_f16: bool,
}

/// Which of the two are by WGSL's built-in functions, instead of integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct BuiltInF16 {
    pub decodes: bool,
    pub encodes: bool,
}

impl Answers {
    /// What follows from what the driver states, if it is trusted. Halves are converted by integers, since WGSL states nothing.
    pub(crate) fn trusting(driver: &Driver) -> Self {
        Self {
            workgroup_sums: true,
            subgroup_sums: driver.subgroups,
            one_subgroup: driver.subgroups && driver.subgroup_size > 0,
            workgroup_atomics: true,
            decodes_f16: false,
            encodes_f16: false,
        }
    }

    /// The variant without what the device answered wrong.
    pub(crate) fn within(self, variant: Variant) -> Variant {
        let subgroups = variant.subgroups && self.subgroup_sums;
        let one_subgroup = subgroups && self.one_subgroup;
        Variant { subgroups, subgroup_size: if one_subgroup { variant.subgroup_size } else { 0 }, ..variant }
    }

    /// Refuses a caller's variant that uses what the device answered wrong.
    pub(crate) fn check(self, variant: Variant) -> Result<(), Error> {
        let refuse = |setting, expected: &str, given: String| {
            Err(Error::Variant { setting, expected: expected.to_owned(), given })
        };
        if variant.subgroups && !self.subgroup_sums {
            return refuse("subgroups", "false: the device's sums over subgroups are wrong", "true".to_owned());
        }
        if variant.subgroups && variant.subgroup_size > 0 && !self.one_subgroup {
            let expected = "0: a workgroup of that size is not one subgroup with lanes in order";
            return refuse("subgroup_size", expected, variant.subgroup_size.to_string());
        }
        Ok(())
    }

    /// How halves are converted, if nothing else is asked for: by the built-in functions where they are right. Mesa's software
    /// driver is faster with integers, and no other was measured.
    pub(crate) fn built_in_f16(self, driver: &Driver) -> BuiltInF16 {
        let hardware = !driver.is_software();
        BuiltInF16 { decodes: hardware && self.decodes_f16, encodes: hardware && self.encodes_f16 }
    }
}
