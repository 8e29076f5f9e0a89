//! Checks the permutations in naga: validates them, and translates them to the languages of Vulkan, Metal, DX12 and GL.

use naga::back::{glsl, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use segloss::testing::shaders::ComposedShader;

use super::record::{Failure, SwitchesInLoops, Tool};
use super::switches;

/// A shader and its translations.
pub struct Translated {
    pub shader: ComposedShader,
    pub spirv: Vec<u32>,
    pub hlsl: String,
}

/// naga's validation, and its translation to each language.
struct Questions {
    valid: Tool,
    spirv: Tool,
    msl: Tool,
    hlsl: Tool,
    hlsl_5_1: Tool,
    glsl: Tool,
}

/// naga's results for all shaders.
pub struct Answers {
    pub tools: Vec<Tool>,
    pub switches_in_loops: SwitchesInLoops,
    /// The translations that are kept for other tools.
    pub kept: Vec<Translated>,
}

/// Validates and translates the shaders; keeps the translations of those whose name is `wanted`.
pub fn translate(shaders: Vec<ComposedShader>, wanted: impl Fn(&str) -> bool, tick: impl Fn()) -> Answers {
    let mut questions = Questions {
        valid: Tool::new("naga", "the WGSL is valid"),
        spirv: Tool::new("naga → SPIR-V", "translates"),
        msl: Tool::new("naga → MSL", "translates; no workgroup memory is filled with zeros; barriers as in the WGSL"),
        hlsl: Tool::new("naga → HLSL", "translates"),
        hlsl_5_1: Tool::new("naga → HLSL 5.1", "translates, where no subgroup operation is in it"),
        glsl: Tool::new("naga → GLSL ES 3.1", "translates, where no subgroup operation is in it"),
    };
    let (mut switches_in_loops, mut kept) = (SwitchesInLoops::default(), Vec::new());
    for shader in shaders {
        tick();
        let name = shader.name.clone();
        let Some((module, info)) = questions.valid.check(&name, parse(&shader.source)) else { continue };
        let spirv = questions.spirv.check(&name, to_spirv(&module, &info));
        questions.msl.check(&name, to_msl(&shader, &module, &info));
        let hlsl = questions.hlsl.check(&name, to_hlsl(&shader, &module, &info, hlsl::ShaderModel::V6_0));
        if !uses_subgroups(&shader.source) {
            questions.hlsl_5_1.check(&name, to_hlsl(&shader, &module, &info, hlsl::ShaderModel::V5_1));
            switches_in_loops.count(shader.entry_point, switches::in_loops(&module, shader.entry_point));
            questions.glsl.check(&name, to_glsl(&shader, &module, &info));
        }
        if let (Some(spirv), Some(hlsl)) = (spirv, hlsl)
            && wanted(&name)
        {
            kept.push(Translated { shader, spirv, hlsl });
        }
    }
    let Questions { valid, spirv, msl, hlsl, hlsl_5_1, glsl } = questions;
    Answers { tools: vec![valid, spirv, msl, hlsl, hlsl_5_1, glsl], switches_in_loops, kept }
}

impl Tool {
    pub fn new(name: &str, question: &str) -> Self {
        Self { name: name.to_owned(), question: question.to_owned(), absent: None, checked: 0, failures: Vec::new() }
    }

    /// Counts an answer, and keeps its error as a failure.
    pub fn check<T>(&mut self, what: &str, answer: Result<T, String>) -> Option<T> {
        self.checked += 1;
        answer.map_err(|message| self.failures.push(Failure { what: what.to_owned(), message })).ok()
    }
}

/// Whether the text outside comments has a subgroup operation or builtin.
pub fn uses_subgroups(source: &str) -> bool {
    source.lines().filter_map(|line| line.split("//").next()).any(|code| code.contains("subgroup"))
}

fn parse(source: &str) -> Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(source))?;
    Ok((module, info))
}

fn to_spirv(module: &naga::Module, info: &ModuleInfo) -> Result<Vec<u32>, String> {
    let options = spv::Options {
        lang_version: (1, 3),
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        ..Default::default()
    };
    spv::write_vec(module, info, &options, None).map_err(|error| error.to_string())
}

fn to_msl(shader: &ComposedShader, module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let options = msl::Options { lang_version: (2, 4), zero_initialize_workgroup_memory: false, ..Default::default() };
    let (text, _) = msl::write_string(module, info, &options, &msl::PipelineOptions::default())
        .map_err(|error| error.to_string())?;
    // to fill workgroup memory with zeros, the back end adds barriers of its own
    let barriers = |text: &str, word: &str| text.matches(word).count();
    let expected = barriers(&shader.source, "workgroupBarrier()") + barriers(&shader.source, "storageBarrier()");
    let given = barriers(&text, "threadgroup_barrier(");
    if given != expected {
        return Err(format!("expected {expected} threadgroup barriers, as the WGSL has, got {given}"));
    }
    if text.contains("__local_invocation_id") {
        return Err("workgroup memory is filled with zeros".to_owned());
    }
    Ok(())
}

fn to_hlsl(
    shader: &ComposedShader,
    module: &naga::Module,
    info: &ModuleInfo,
    shader_model: hlsl::ShaderModel,
) -> Result<String, String> {
    let options = hlsl::Options {
        shader_model,
        // the binding that wgpu uses for the grid's size
        special_constants_binding: Some(hlsl::BindTarget { space: 1, ..Default::default() }),
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let pipeline =
        hlsl::PipelineOptions { entry_point: Some((naga::ShaderStage::Compute, shader.entry_point.to_owned())) };
    let mut text = String::new();
    hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None).map_err(|error| error.to_string())?;
    Ok(text)
}

fn to_glsl(shader: &ComposedShader, module: &naga::Module, info: &ModuleInfo) -> Result<(), String> {
    let options = glsl::Options { zero_initialize_workgroup_memory: false, ..Default::default() };
    let pipeline = glsl::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: shader.entry_point.to_owned(),
        multiview: None,
    };
    let policies = naga::proc::BoundsCheckPolicies::default();
    let mut text = String::new();
    glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies)
        .and_then(|mut writer| writer.write())
        .map_err(|error| error.to_string())?;
    Ok(())
}
