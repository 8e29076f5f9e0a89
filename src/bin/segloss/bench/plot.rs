//! The sweep as a picture.

use std::path::Path;

use anyhow::Result;

use super::figures::Figures;

pub fn sweep(all: &Figures, path: &Path) -> Result<()> {
    let _ = (all, path);
    anyhow::bail!("not drawn yet")
}
