//! The command-line tool: lists adapters, checks the kernels on them, times them, finds the fastest variant, writes the
//! shaders.

mod adapters;
mod bench;
mod check;
mod hardware;
mod page;
mod read_back;
mod shaders;
mod tune;
mod validate;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use segloss::{AdapterChoice, wgpu};

/// Segmentation losses on any GPU: adapters, checks, timings, shaders.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Lists the adapters, with the limits that the kernels depend on.
    Adapters(AdapterArgs),
    /// Runs case files (`segloss-cases/1`, .json or .json.gz) and compares loss and gradient.
    Check(check::Check),
    /// Times the kernels against the floor of this adapter.
    Bench(bench::Bench),
    /// Validates the shaders and their results on this machine's adapters, and writes a page.
    Validate(Box<validate::Validate>),
    /// Finds the fastest variant of the kernels for this adapter, and remembers it.
    Tune(tune::Tune),
    /// Writes one page that validates and measures the kernels in any browser with WebGPU.
    Page(page::Page),
    /// Writes the table of devices in docs/hardware/README.md from the results beside it.
    Hardware(hardware::Hardware),
    /// Writes the composed WGSL of representative plans.
    Shaders(shaders::Shaders),
}

/// Which adapter to use.
#[derive(Args, Clone)]
struct AdapterArgs {
    /// Part of the adapter's or the driver's name.
    #[arg(long, value_name = "TEXT")]
    adapter: Option<String>,
    /// Only adapters of this back end.
    #[arg(long, value_enum)]
    backend: Option<Backend>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Backend {
    Vulkan,
    Gl,
    Metal,
    Dx12,
}

impl AdapterArgs {
    fn choice(&self) -> AdapterChoice {
        let backends = self.backend.map(|backend| match backend {
            Backend::Vulkan => wgpu::Backends::VULKAN,
            Backend::Gl => wgpu::Backends::GL,
            Backend::Metal => wgpu::Backends::METAL,
            Backend::Dx12 => wgpu::Backends::DX12,
        });
        let default = AdapterChoice::default();
        AdapterChoice { name: self.adapter.clone(), backends: backends.unwrap_or(default.backends), ..default }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Adapters(adapter_args) => adapters::run(&adapter_args.choice()),
        Verb::Check(check) => check.run(),
        Verb::Bench(bench) => bench.run(),
        Verb::Validate(validate) => validate.run(),
        Verb::Tune(tune) => tune.run(),
        Verb::Hardware(hardware) => hardware.run(),
        Verb::Page(page) => page.run(),
        Verb::Shaders(shaders) => shaders.run(),
    };
    outcome.unwrap_or_else(|error| {
        // the reader of the output closed the pipe, as `head` does: not an error
        let closed = error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe);
        if closed {
            return ExitCode::SUCCESS;
        }
        eprintln!("segloss: {error:#}");
        ExitCode::FAILURE
    })
}
