//! The heads of a plan: what they ask for, and where they lie.

use super::Layout;
use crate::spec::LossSpec;

/// A specification, and its layout.
#[derive(Debug)]
pub(crate) struct Heads {
    pub spec: LossSpec,
    pub layout: Layout,
}
