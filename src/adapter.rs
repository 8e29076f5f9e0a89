//! A convenience for programs that have no device yet: pick an adapter, and open it with all that it has.

use crate::Error;

/// Which adapter to open.
#[derive(Clone, Debug)]
pub struct AdapterChoice {
    /// Part of the adapter's or the driver's name, in any case. `None`: any.
    pub name: Option<String>,
    /// Which back ends to look at.
    pub backends: wgpu::Backends,
    /// Whether a discrete GPU (high performance) or an integrated one (low power) comes first. Software comes last.
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
    /// The adapters that fit, best first.
    #[must_use]
    pub fn adapters(&self) -> Vec<wgpu::Adapter> {
        let mut adapters = all_adapters(self.backends);
        adapters.retain(|adapter| self.fits(&adapter.get_info()));
        // stable: adapters of a kind stay in wgpu's order
        adapters.sort_by_key(|adapter| self.rank(adapter.get_info().device_type));
        adapters
    }

    /// Opens the best adapter that fits.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where none fits: there is no silent fallback. [`Error::Device`] where it cannot be opened.
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

    fn rank(&self, kind: wgpu::DeviceType) -> u8 {
        let low_power = self.power_preference == wgpu::PowerPreference::LowPower;
        match kind {
            wgpu::DeviceType::DiscreteGpu => u8::from(low_power),
            wgpu::DeviceType::IntegratedGpu => u8::from(!low_power),
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        }
    }
}

impl std::fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "the name \"{name}\" on {:?}", self.backends),
            None => write!(f, "{:?}", self.backends),
        }
    }
}

/// Opens an adapter with its full limits, and with those optional features that the kernels and the tool use: subgroups, and
/// timestamps.
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
        format!("{} ({:?})", info.name, info.backend)
    };
    adapters.iter().map(name).collect::<Vec<_>>().join(", ")
}
