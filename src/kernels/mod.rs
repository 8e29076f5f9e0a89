//! The text of the kernels: the files under `shaders/`, put together for a plan. No device is needed.

#[cfg(any(test, feature = "testing"))]
mod axes;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod catalogue;
pub(crate) mod compose;
#[cfg(any(test, feature = "testing"))]
mod cover;
pub(crate) mod groups;
#[cfg(test)]
mod stand_ins;
mod template;
