//! `segloss adapters`

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{Table, presets};
use segloss::{AdapterChoice, wgpu};

pub fn run(choice: &AdapterChoice) -> Result<ExitCode> {
    let adapters = choice.adapters();
    if adapters.is_empty() {
        // the same error as in commands that need an adapter
        choice.open()?;
    }
    for adapter in adapters {
        writeln!(std::io::stdout(), "{}\n{}\n", adapter.get_info().name, table(&adapter))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(adapter: &wgpu::Adapter) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in states(adapter) {
        table.add_row([format!("  {name}"), value]);
    }
    table
}

/// An adapter's name and back end.
pub fn name(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({:?})", info.name, info.backend)
}

/// Limits and features of an adapter that the kernels depend on.
pub fn states(adapter: &wgpu::Adapter) -> Vec<(String, String)> {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let features = adapter.features();
    let subgroups = if features.contains(wgpu::Features::SUBGROUP) {
        format!("{} to {}", info.subgroup_min_size, info.subgroup_max_size)
    } else {
        "no feature".to_owned()
    };
    let states = [
        ("back end", format!("{:?}", info.backend)),
        ("kind", format!("{:?}", info.device_type)),
        ("driver", format!("{} {}", info.driver, info.driver_info)),
        ("subgroup size", subgroups),
        ("f16 arithmetic", features.contains(wgpu::Features::SHADER_F16).to_string()),
        ("timestamps", features.contains(wgpu::Features::TIMESTAMP_QUERY).to_string()),
        ("invocations per workgroup", limits.max_compute_invocations_per_workgroup.to_string()),
        ("workgroup memory", bytes(limits.max_compute_workgroup_storage_size.into())),
        ("workgroups per dimension", limits.max_compute_workgroups_per_dimension.to_string()),
        ("storage buffers per stage", limits.max_storage_buffers_per_shader_stage.to_string()),
        ("largest storage binding", bytes(limits.max_storage_buffer_binding_size)),
        ("largest uniform binding", bytes(limits.max_uniform_buffer_binding_size)),
        ("largest buffer", bytes(limits.max_buffer_size)),
        ("storage offset alignment", bytes(limits.min_storage_buffer_offset_alignment.into())),
    ];
    states.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// A size in the largest binary unit that gives a whole number.
fn bytes(size: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let unit = (size.trailing_zeros() / 10).min(3) as usize;
    if size == 0 { "0 B".to_owned() } else { format!("{} {}", size >> (10 * unit), units[unit]) }
}
