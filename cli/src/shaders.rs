//! `segloss shaders`

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use segloss::MemoryFormat;
use segloss::testing::shaders::{ComposedShader, of_classes, representative};

#[derive(clap::Args)]
pub struct Shaders {
    /// The folder to write to; made if it is missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Statistics and gradient of heads with these numbers of classes, in both memory formats, with label smoothing and without,
    /// instead of representative plans.
    #[arg(long, value_name = "C,…", value_delimiter = ',')]
    classes: Vec<usize>,
    /// Also write SPIR-V beside each file, for a driver's offline compiler.
    #[arg(long)]
    spirv: bool,
}

impl Shaders {
    pub fn run(self) -> Result<ExitCode> {
        let folder = &self.out;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut written = Vec::new();
        let of_classes = |&classes: &usize| {
            let formats = [MemoryFormat::ContiguousFormat, MemoryFormat::ChannelsLast];
            formats.map(|format| [of_classes(classes, format, 0.0), of_classes(classes, format, 0.1)].concat()).concat()
        };
        let shaders =
            if self.classes.is_empty() { representative() } else { self.classes.iter().flat_map(of_classes).collect() };
        for shader in shaders {
            let path = folder.join(format!("{}.wgsl", shader.name));
            std::fs::write(&path, &shader.source).with_context(|| format!("cannot write {}", path.display()))?;
            if self.spirv {
                let path = path.with_extension("spv");
                std::fs::write(&path, spirv(&shader)?).with_context(|| format!("cannot write {}", path.display()))?;
            }
            writeln!(written, "{} (entry point {})", path.display(), shader.entry_point)?;
        }
        // printed last, so that all files are written even if the pipe is closed
        std::io::stdout().write_all(&written)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The SPIR-V that wgpu gives to a Vulkan driver which checks buffer bounds itself.
fn spirv(shader: &ComposedShader) -> Result<Vec<u8>> {
    let module = naga::front::wgsl::parse_str(&shader.source)?;
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    let info = validator.validate(&module)?;
    let options = naga::back::spv::Options {
        zero_initialize_workgroup_memory: naga::back::spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        ..Default::default()
    };
    let words = naga::back::spv::write_vec(&module, &info, &options, None)?;
    Ok(words.into_iter().flat_map(u32::to_le_bytes).collect())
}
