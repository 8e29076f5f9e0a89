//! The file of remembered variants: JSON, by adapter, driver, version and specification.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::layout::variant::Variant;
use crate::spec::LossSpec;

const SCHEMA: &str = "segloss-tuning/1";

/// A file of choices.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: String,
    choices: Vec<Choice>,
}

/// What a choice is valid for: with another adapter, driver, version or specification it is measured again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    adapter: String,
    backend: String,
    driver: String,
    /// The version of this crate.
    segloss: String,
    device: Opened,
    spec: LossSpec,
}

/// The features and limits that the device was opened with, as far as the kernels depend on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opened {
    subgroups: bool,
    max_compute_invocations_per_workgroup: u32,
    max_compute_workgroup_storage_size: u32,
    max_storage_buffers_per_shader_stage: u32,
    max_storage_buffer_binding_size: u64,
}

/// One choice, and what it was based on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Choice {
    pub key: Key,
    pub variant: Variant,
    /// How many variants were tried.
    pub tried: usize,
    /// The default's time over the chosen variant's; 1 where the default was chosen.
    pub default_over_chosen: f64,
}

impl Key {
    pub(super) fn new(device: &wgpu::Device, spec: &LossSpec) -> Self {
        let (info, limits) = (device.adapter_info(), device.limits());
        Self {
            adapter: info.name,
            backend: format!("{:?}", info.backend),
            driver: format!("{} {}", info.driver, info.driver_info),
            segloss: env!("CARGO_PKG_VERSION").to_owned(),
            device: Opened {
                subgroups: device.features().contains(wgpu::Features::SUBGROUP),
                max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
                max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
                max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            },
            spec: spec.clone(),
        }
    }
}

/// The choice for a key, if the file has one. A missing file counts as empty; a missing folder is an error.
pub(super) fn find(path: &Path, key: &Key) -> Result<Option<Choice>, Error> {
    Ok(read(path)?.choices.into_iter().find(|choice| choice.key == *key))
}

/// Adds a choice, or replaces the one with the same key. The change is atomic: a new file is written beside the old one
/// and renamed. Where two processes do so at once, the later one's file remains.
pub(super) fn remember(path: &Path, choice: Choice) -> Result<(), Error> {
    let mut file = read(path)?;
    file.choices.retain(|other| other.key != choice.key);
    file.choices.push(choice);
    let mut text = serde_json::to_string_pretty(&file).map_err(|error| refuse(path, &error))?;
    text.push('\n');
    let beside = beside(path);
    let write = || {
        let mut file = fs::File::create_new(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // an incomplete file is useless; the first error is the one to report
        let _ = fs::remove_file(&beside);
        refuse(path, &error)
    })
}

fn read(path: &Path) -> Result<File, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                return Err(refuse(
                    path,
                    &format!("expected a file in a folder that exists, got {}", folder.display()),
                ));
            }
            return Ok(File { schema: SCHEMA.to_owned(), choices: Vec::new() });
        }
        Err(error) => return Err(refuse(path, &error)),
    };
    let file: File = serde_json::from_str(&text).map_err(|error| refuse(path, &error))?;
    if file.schema != SCHEMA {
        return Err(refuse(path, &format!("expected schema {SCHEMA}, got {}", file.schema)));
    }
    Ok(file)
}

/// A name in the same folder that no other process or thread uses.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.{number}.tmp", std::process::id()))
}

fn refuse(path: &Path, problem: &impl std::fmt::Display) -> Error {
    Error::TuningFile { path: path.display().to_string(), problem: problem.to_string() }
}
