//! What a driver states about a device; `gpu/probe.rs` asks for it.

/// What a driver states about a device.
#[derive(Clone, Debug)]
pub(crate) struct Driver {
    pub kind: wgpu::DeviceType,
    pub limits: wgpu::Limits,
    /// Whether the device was opened with the feature.
    pub subgroups: bool,
    /// The size of every subgroup, where the device has one size only; else 0.
    pub subgroup_size: u32,
}

impl Driver {
    /// A driver that runs on the CPU: Mesa's, SwiftShader, WARP.
    pub(crate) fn is_software(&self) -> bool {
        self.kind == wgpu::DeviceType::Cpu
    }
}
