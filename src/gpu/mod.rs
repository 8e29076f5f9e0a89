//! Every call to wgpu: devices, pipelines, dispatches, and words on their way back. Nothing here knows a loss.

pub mod adapter;
pub(crate) mod device;
pub(crate) mod dispatch;
pub(crate) mod pipelines;
mod probe;
pub(crate) mod staging;
