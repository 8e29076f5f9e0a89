//! Random tensors, and how far a device's step is from the f64 reference. For tools, the tuner and tests.

pub mod cases;
pub(crate) mod compare;
#[cfg(feature = "proptest")]
pub mod draw;
mod evaluate;
mod hashed;
mod kinds;
mod plans;
mod pool;
pub mod shaders;
mod small;
mod tensors;
mod words;

pub use compare::{Comparison, Differences, Expected, ExpectedHead, Tolerance, compare};
pub use evaluate::{check, evaluate};
pub use hashed::{FILL, fill, hash};
pub use kinds::{eight_heads, overlap_kinds, pixel_kinds, reductions};
pub use plans::Plans;
pub use pool::{Place, Pool, PooledGradient};
pub use small::small_copy;
pub use tensors::Tensors;
pub use words::ExpectedWord;
