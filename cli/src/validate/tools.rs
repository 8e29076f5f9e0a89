//! Checks the covering set in other tools: spirv-val, Microsoft's DXC, Tint. A missing tool is reported as absent.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use hassle_rs::{Dxc, DxcBlob, DxcCompiler, DxcLibrary};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::Tool;
use super::translate::{Translated, uses_subgroups};

/// The shader models of DXIL that are checked: the first, and the latest that devices support.
const SHADER_MODELS: [&str; 2] = ["cs_6_0", "cs_6_6"];

/// Checks the SPIR-V with `spirv-val`.
pub fn spirv_val(shaders: &[Translated], tick: impl Fn()) -> Tool {
    let mut tool = Tool::new("spirv-val", "the SPIR-V is valid for Vulkan 1.1");
    if let Err(error) = Command::new("spirv-val").arg("--version").output() {
        tool.absent = Some(format!("spirv-val does not run: {error}"));
        return tool;
    }
    for Translated { shader, spirv, .. } in shaders {
        let bytes: Vec<u8> = spirv.iter().flat_map(|word| word.to_le_bytes()).collect();
        let answer = piped(Command::new("spirv-val").args(["--target-env", "vulkan1.1", "-"]), &bytes);
        tool.check(&shader.name, answer.map(|_| ()).map_err(|error| format!("{error:#}")));
        tick();
    }
    tool
}

/// Compiles the HLSL with DXC to DXIL.
pub fn dxc(shaders: &[Translated], library: Option<&Path>, tick: impl Fn()) -> Tool {
    let question = "the HLSL compiles to DXIL at shader models 6.0 and 6.6; kernels that hold classes in registers have no array \
                    in memory that is indexed";
    let mut tool = Tool::new("DXC", question);
    let dxc = match Dxc::new(library.map(Path::to_path_buf)) {
        Ok(dxc) => dxc,
        Err(error) => {
            tool.absent = Some(error.to_string());
            return tool;
        }
    };
    let (compiler, library) = match (dxc.create_compiler(), dxc.create_library()) {
        (Ok(compiler), Ok(library)) => (compiler, library),
        (compiler, library) => {
            tool.absent = Some(format!("{:?}", compiler.err().or(library.err())));
            return tool;
        }
    };
    for translated in shaders {
        for model in SHADER_MODELS {
            let answer = to_dxil(&compiler, &library, translated, model);
            tool.check(&format!("{}, {model}", translated.shader.name), answer);
        }
        tick();
    }
    tool
}

fn to_dxil(compiler: &DxcCompiler, library: &DxcLibrary, translated: &Translated, model: &str) -> Result<(), String> {
    let words = |error: hassle_rs::HassleError| error.to_string();
    let Translated { shader, hlsl, .. } = translated;
    let source = library.create_blob_with_encoding_from_str(hlsl).map_err(words)?;
    let args = ["-HV", "2018", "-no-warnings"];
    let object = match compiler.compile(&source, "shader.hlsl", shader.entry_point, model, &args, None, &[]) {
        Ok(result) => result.get_result().map_err(words)?,
        Err((result, _)) => {
            let message = result.get_error_buffer().map_err(words)?;
            return Err(library.get_blob_as_string(&message.into()).map_err(words)?);
        }
    };
    if holds_registers(translated) {
        let text: DxcBlob = compiler.disassemble(&object).map_err(words)?.into();
        let text = library.get_blob_as_string(&text).map_err(words)?;
        if let Some(line) = text.lines().find(|line| line.contains("= alloca [")) {
            return Err(format!("an array in memory: {}", line.trim()));
        }
    }
    Ok(())
}

/// Whether the kernel holds classes in registers. Kernels that stream classes, and the small stages, may index arrays.
fn holds_registers(translated: &Translated) -> bool {
    let stage = ["statistics", "gradient"].contains(&translated.shader.entry_point);
    stage && !translated.shader.name.contains("streamed")
}

/// A shader, in the form that the Node programs read.
#[derive(Serialize)]
struct Source<'a> {
    name: &'a str,
    source: String,
}

#[derive(Deserialize)]
struct TintAnswer {
    name: String,
    error: Option<String>,
}

/// Checks the WGSL with Tint, from the npm package `webgpu`.
pub fn tint(shaders: &[Translated], dawn: &Path) -> Tool {
    let mut tool = Tool::new("Tint", "the WGSL is valid; data never steer a barrier");
    let sources: Vec<_> =
        shaders.iter().map(|t| Source { name: &t.shader.name, source: for_tint(&t.shader.source) }).collect();
    match node::<_, Vec<TintAnswer>>(dawn, "tint.mjs", &sources) {
        Ok(answers) => {
            for answer in answers {
                tool.check(&answer.name, answer.error.map_or(Ok(()), Err));
            }
            if tool.checked != shaders.len() {
                let message = format!("expected {} answers, got {}", shaders.len(), tool.checked);
                tool.check::<()>("tint.mjs", Err(message));
            }
        }
        Err(error) => tool.absent = Some(format!("{error:#}")),
    }
    tool
}

/// The text for Tint, which requires `enable subgroups;`. naga refuses that line.
pub fn for_tint(source: &str) -> String {
    if uses_subgroups(source) { format!("enable subgroups;\n{source}") } else { source.to_owned() }
}

/// Runs a Node program of the folder, with JSON as input and output.
pub fn node<I: Serialize, O: DeserializeOwned>(folder: &Path, program: &str, input: &I) -> Result<O> {
    if !folder.join("node_modules/webgpu").is_dir() {
        bail!("the npm package `webgpu` is not installed in {}", folder.display());
    }
    let path: PathBuf = folder.join(program);
    let output = piped(Command::new("node").arg(&path), &serde_json::to_vec(input)?)?;
    serde_json::from_slice(&output).with_context(|| format!("{} wrote no JSON", path.display()))
}

/// The output of a command for this input. If it fails, its output is the error.
fn piped(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not run", command.get_program().display()))?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    let output = std::thread::scope(|scope| {
        // a failed write is ignored: a command that ends early closes the pipe, and its status is checked
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        let words = [&output.stdout[..], &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        bail!("{}", words.join(" "));
    }
    Ok(output.stdout)
}
