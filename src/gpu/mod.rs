//! Calls to wgpu that know nothing of losses: devices, pipelines, dispatches, and readback.

pub mod adapter;
mod ask;
pub(crate) mod device;
pub(crate) mod dispatch;
pub(crate) mod pipelines;
mod probe;
pub(crate) mod staging;
