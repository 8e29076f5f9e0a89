//! The text of the kernels: the files under `shaders/`, put together for a plan. No device is needed.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod catalogue;
pub(crate) mod compose;
pub(crate) mod groups;
mod template;
