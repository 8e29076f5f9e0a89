//! The composed text of the shaders, to read and to validate without a device.

pub use crate::kernels::catalogue::{
    ComposedShader, CoveringStep, all_permutations, covering_steps, of_classes, permutations,
    permutations_of_every_pair, representative,
};
