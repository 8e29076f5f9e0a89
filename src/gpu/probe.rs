//! What a driver states of itself, queried once per plan.

use crate::error::Error;
use crate::layout::driver::Driver;
use crate::layout::variant::Variant;

impl Driver {
    /// The driver of a device.
    pub(crate) fn of(device: &wgpu::Device) -> Self {
        let info = device.adapter_info();
        let one_size = info.subgroup_min_size == info.subgroup_max_size;
        Self {
            kind: info.device_type,
            limits: device.limits(),
            subgroups: device.features().contains(wgpu::Features::SUBGROUP),
            subgroup_size: if one_size { info.subgroup_min_size } else { 0 },
        }
    }
}

impl Variant {
    /// The default variant for the device's kind of adapter, within its limits and features.
    #[must_use]
    pub fn for_device(device: &wgpu::Device) -> Self {
        Self::for_driver(&Driver::of(device))
    }

    /// Checks the variant's numbers against each other and against the device.
    ///
    /// # Errors
    /// [`Error::Variant`] for numbers that are wrong, [`Error::Limit`] where the device's limits are too small.
    pub fn validate(self, device: &wgpu::Device) -> Result<(), Error> {
        self.check(&Driver::of(device))
    }
}
