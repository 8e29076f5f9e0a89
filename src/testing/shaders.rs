//! The composed text of the shaders, to read and to validate: no device is needed.

pub use crate::kernels::catalogue::{
    ComposedShader, all_permutations, covering_steps, of_classes, permutations, permutations_of_every_pair,
    representative,
};
