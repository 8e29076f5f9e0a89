//! `segloss shaders`

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use segloss::shaders::representative;

#[derive(clap::Args)]
pub struct Shaders {
    /// The folder to write to; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Shaders {
    pub fn run(self) -> Result<ExitCode> {
        let folder = &self.out;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut written = Vec::new();
        for shader in representative() {
            let path = folder.join(format!("{}.wgsl", shader.name));
            std::fs::write(&path, &shader.source).with_context(|| format!("cannot write {}", path.display()))?;
            writeln!(written, "{} (entry point {})", path.display(), shader.entry_point)?;
        }
        // last, so that a closed pipe costs no file
        std::io::stdout().write_all(&written)?;
        Ok(ExitCode::SUCCESS)
    }
}
