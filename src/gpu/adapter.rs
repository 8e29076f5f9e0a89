//! A convenience for programs without a device: choose an adapter, and open it with its full limits.

use crate::error::Error;

/// Which adapter to open.
#[derive(Clone, Debug)]
pub struct AdapterChoice {
    /// Part of the adapter's or the driver's name, upper or lower case. `None`: any.
    pub name: Option<String>,
    /// The back ends to search.
    pub backends: wgpu::Backends,
    /// Whether a discrete GPU (high performance) or an integrated one (low power) comes first. A software adapter comes
    /// last.
    pub power_preference: wgpu::PowerPreference,
}

impl Default for AdapterChoice {
    fn default() -> Self {
        Self {
            name: None,
            backends: wgpu::Backends::PRIMARY | wgpu::Backends::GL,
            power_preference: wgpu::PowerPreference::HighPerformance,
        }
    }
}

impl AdapterChoice {
    /// The adapters that match, best first. Those without compute shaders, such as GL ES 3.0, are left out: the kernels
    /// cannot run there.
    #[must_use]
    pub fn adapters(&self) -> Vec<wgpu::Adapter> {
        let adapters = all_adapters(self.backends).into_iter().filter(|adapter| self.fits(&adapter.get_info()));
        let ranked = |adapter: wgpu::Adapter| {
            let rank = rank(self.power_preference, adapter.get_info().device_type, has_compute(&adapter))?;
            Some((rank, adapter))
        };
        let mut ranked: Vec<_> = adapters.filter_map(ranked).collect();
        // stable: adapters of a kind stay in wgpu's order
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, adapter)| adapter).collect()
    }

    /// Opens the best adapter that matches.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where none matches: there is no silent fallback. [`Error::Device`] where it cannot be
    /// opened.
    pub fn open(&self) -> Result<(wgpu::Device, wgpu::Queue), Error> {
        match self.adapters().first() {
            Some(adapter) => open_adapter(adapter),
            None => {
                Err(Error::NoAdapter { wanted: self.to_string(), found: names(&all_adapters(wgpu::Backends::all())) })
            }
        }
    }

    fn fits(&self, info: &wgpu::AdapterInfo) -> bool {
        let Some(name) = &self.name else { return true };
        let name = name.to_lowercase();
        [&info.name, &info.driver, &info.driver_info].iter().any(|text| text.to_lowercase().contains(&name))
    }
}

/// An adapter's place in the order, the best first; `None` for one that is never chosen.
fn rank(preference: wgpu::PowerPreference, kind: wgpu::DeviceType, has_compute: bool) -> Option<u8> {
    let low_power = preference == wgpu::PowerPreference::LowPower;
    has_compute.then_some(match kind {
        wgpu::DeviceType::DiscreteGpu => u8::from(low_power),
        wgpu::DeviceType::IntegratedGpu => u8::from(!low_power),
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    })
}

fn has_compute(adapter: &wgpu::Adapter) -> bool {
    adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
}

impl std::fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "the name \"{name}\" on {:?}", self.backends),
            None => write!(f, "{:?}", self.backends),
        }
    }
}

/// Opens an adapter with its full limits, and with the optional features that the kernels and the tool use where it has
/// them: subgroups and timestamps.
///
/// # Errors
/// [`Error::Device`] where it cannot be opened.
pub fn open_adapter(adapter: &wgpu::Adapter) -> Result<(wgpu::Device, wgpu::Queue), Error> {
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("segloss"),
        required_features: adapter.features() & (wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY),
        required_limits: adapter.limits(),
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|error| Error::Device { during: "opening the adapter", message: error.to_string() })
}

fn all_adapters(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    pollster::block_on(instance.enumerate_adapters(backends))
}

fn names(adapters: &[wgpu::Adapter]) -> String {
    if adapters.is_empty() {
        return "none".to_owned();
    }
    let name = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        name(&info.name, info.backend, has_compute(adapter))
    };
    adapters.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// An adapter's name in errors, with the reason where it is left out.
fn name(name: &str, backend: wgpu::Backend, has_compute: bool) -> String {
    let without = if has_compute { "" } else { ", without compute shaders" };
    format!("{name} ({backend:?}{without})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::{DeviceType, PowerPreference};

    const KINDS: [DeviceType; 5] = [
        DeviceType::DiscreteGpu,
        DeviceType::IntegratedGpu,
        DeviceType::VirtualGpu,
        DeviceType::Other,
        DeviceType::Cpu,
    ];

    #[test]
    fn an_adapter_without_compute_shaders_is_never_chosen_and_a_software_one_with_them_is() {
        for preference in [PowerPreference::HighPerformance, PowerPreference::LowPower] {
            for kind in KINDS {
                assert_eq!(rank(preference, kind, false), None, "{kind:?}");
            }
            assert!(rank(preference, DeviceType::Cpu, true).is_some());
        }
    }

    #[test]
    fn discrete_or_integrated_comes_first_as_wished_and_software_last() {
        let order = |preference| {
            let mut kinds = KINDS;
            kinds.sort_by_key(|&kind| rank(preference, kind, true));
            kinds
        };
        let [discrete, integrated, rest @ ..] = KINDS;
        assert_eq!(order(PowerPreference::HighPerformance), KINDS);
        assert_eq!(order(PowerPreference::LowPower)[..2], [integrated, discrete]);
        assert_eq!(order(PowerPreference::LowPower)[2..], rest);
    }

    #[test]
    fn an_adapter_without_compute_shaders_is_named_as_such() {
        assert_eq!(name("Mali-400", wgpu::Backend::Gl, false), "Mali-400 (Gl, without compute shaders)");
        assert_eq!(name("llvmpipe", wgpu::Backend::Vulkan, true), "llvmpipe (Vulkan)");
    }
}
