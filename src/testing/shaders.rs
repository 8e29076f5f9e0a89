//! The composed text of the shaders, to read and to validate: no device is needed.

pub use crate::kernels::catalogue::{
    ComposedShader, covering, covering_steps, of_classes, permutations, representative,
};
