//! Writes steps into a document: each line of a shader once, each buffer with what is in it.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use segloss::testing::{self, Expected, Pool, Tolerance, fill};
use segloss::{Access, BoundRange, Head, LossSpec, Recipe, Stage, Step, Tensor, Variant, wgpu};

use super::document::{self, Buffer, Dispatch, Document, Needs, Place, Report, SCHEMA, Shader, TensorData};
use super::expected;
use super::native::Native;
use crate::bench::commit;
use crate::read_back::read_back;
use crate::validate::{terms, uses_subgroups};

/// Storage buffers of a dispatch at WebGPU's default limits.
const DEFAULT_STORAGE_BUFFERS: usize = 8;

/// A document in the making.
pub struct Export {
    pub document: Document,
    lines: HashMap<String, i32>,
    /// The names of the words that are expected of each loss.
    words: Vec<Vec<String>>,
    /// This machine's adapters, for the bits of steps.
    pub native: Vec<Native>,
    /// Samples of each output, besides those at the edges of rows and tiles.
    pub samples: usize,
}

/// Where the tensors of a loss come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Their bytes are in the document.
    Data,
    /// `Tensors::hashed`, where head h has seed h + 1: the reader fills them.
    Hashed,
}

/// What a step is, besides its loss and its dispatches.
pub struct About<'a> {
    pub set: &'static str,
    pub name: &'a str,
    pub variant: &'static str,
    pub own_kind_only: bool,
    pub needs: Needs,
    pub restore: bool,
}

impl Export {
    pub fn new() -> Self {
        let document = Document {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            native: Vec::new(),
            lines: Vec::new(),
            shaders: Vec::new(),
            fill: testing::FILL.to_owned(),
            losses: Vec::new(),
            steps: Vec::new(),
            benches: Vec::new(),
            floors: Vec::new(),
        };
        Self { document, lines: HashMap::new(), words: Vec::new(), native: Vec::new(), samples: 1000 }
    }

    /// Adds a loss on the tensors of a pool. `tile`: voxels of the smallest tile of its steps' variants.
    pub fn loss(
        &mut self,
        name: &str,
        spec: &LossSpec,
        (pool, source): (&Pool, Source),
        (expected, tolerance): (Expected, Tolerance),
        tile: u32,
    ) -> usize {
        let inputs = pool.tensors().filter(|(_, tensor, ..)| !is_written(*tensor));
        let inputs = inputs.map(|(head, tensor, buffer, bytes)| {
            let seed = u32::try_from(head + 1).expect("few heads");
            let fill = fill(&spec.heads[head], tensor, seed).filter(|_| source == Source::Hashed);
            TensorData {
                head,
                tensor: tensor.to_string(),
                bytes: bytes.len(),
                data: fill.is_none().then(|| BASE64_STANDARD.encode(&pool.contents()[buffer][bytes.clone()])),
                fill,
            }
        });
        let loss = document::Loss {
            name: name.to_owned(),
            heads: spec.heads.iter().map(head).collect(),
            tolerance: expected::tolerance(tolerance),
            tensors: inputs.collect(),
            report: expected::words(&expected),
            outputs: expected::outputs(spec, &expected, tile as usize, self.samples),
        };
        self.document.losses.push(loss);
        self.words.push(expected.words().into_iter().map(|(name, _)| name).collect());
        self.document.losses.len() - 1
    }

    /// Adds a step of a loss. `buffers`: those of the pool, in its order; what is in them does not matter.
    pub fn step(
        &mut self,
        about: About<'_>,
        loss: usize,
        (pool, buffers): (&Pool, &[wgpu::Buffer]),
        (device, queue): (&wgpu::Device, &wgpu::Queue),
        step: &Step,
    ) -> Result<usize> {
        let About { set, name, variant, own_kind_only, needs, restore } = about;
        let mut all = Buffers { known: buffers.to_vec(), holds: vec![String::new(); buffers.len()] };
        let recipes = step.recipes();
        let dispatches: Vec<Dispatch> = recipes.iter().map(|recipe| self.dispatch(recipe, &mut all)).collect();
        let report = step.report_words();
        let words: HashMap<&str, u32> = report.words.iter().map(|word| (word.name.as_str(), word.index)).collect();
        let index_of = |word: &String| {
            words.get(word.as_str()).copied().with_context(|| format!("{name}: no word {word} in its report"))
        };
        let report = Report {
            buffer: all.index(&report.buffer),
            words: self.words[loss].iter().map(index_of).collect::<Result<_>>()?,
        };
        let tensors: Vec<_> = pool.tensors().collect();
        let of_loss = &self.document.losses[loss];
        let find = |head: usize, tensor: &str| {
            let found = tensors.iter().find(|(of, this, ..)| *of == head && this.to_string() == tensor);
            found.map(|(_, _, buffer, bytes)| (*buffer, bytes.start))
        };
        let outputs = of_loss.outputs.iter().map(|output| {
            // a gradient in place has no tensor of its own
            let place = find(output.head, &output.tensor).or_else(|| find(output.head, "logits"));
            let (buffer, offset) = place.with_context(|| format!("{}: no {}", name, output.tensor))?;
            Ok(Place { buffer, offset })
        });
        let outputs = outputs.collect::<Result<_>>()?;
        let parts = |buffer: usize| {
            let here = |(index, data): (usize, &TensorData)| {
                let (of, offset) = find(data.head, &data.tensor)?;
                (of == buffer).then_some([index, offset])
            };
            of_loss.tensors.iter().enumerate().filter_map(here).collect::<Vec<_>>()
        };
        let is_zero = |(_, tensor, buffer, bytes): &&(usize, Tensor, usize, Range<usize>)| {
            *tensor == Tensor::Gradient && pool.contents()[*buffer][bytes.clone()].iter().all(|byte| *byte == 0)
        };
        let zeros = tensors.iter().filter(is_zero).map(|(_, _, buffer, bytes)| [*buffer, bytes.start, bytes.len()]);
        let zeros = zeros.collect();
        let mut exported = Vec::new();
        for (index, buffer) in all.known.iter().enumerate() {
            let is_tensor = index < buffers.len();
            let data = if is_tensor { String::new() } else { encoded(&read_back(device, queue, buffer)?) };
            exported.push(Buffer {
                size: buffer.size(),
                holds: all.holds[index].clone(),
                parts: if is_tensor { parts(index) } else { Vec::new() },
                data,
                is_tensor,
            });
        }
        let guards = pool.guards().into_iter().map(|(buffer, bytes)| [buffer, bytes.start, bytes.len()]).collect();
        let storage_buffers = dispatches.iter().map(|d| d.bindings.iter().filter(|b| b.0 != 'u').count()).max();
        let storage_buffers = storage_buffers.filter(|most| *most > DEFAULT_STORAGE_BUFFERS).unwrap_or(0) as u64;
        let subgroups = dispatches.iter().any(|dispatch| self.document.shaders[dispatch.shader].subgroups);
        let bytes = exported.iter().map(|buffer| buffer.size).sum();
        self.document.steps.push(document::Step {
            set,
            name: name.to_owned(),
            loss,
            variant,
            own_kind_only,
            needs: Needs { storage_buffers, subgroups, bytes, ..needs },
            buffers: exported,
            dispatches,
            report,
            outputs,
            guards,
            zeros,
            restore,
            bits: Vec::new(),
        });
        Ok(self.document.steps.len() - 1)
    }

    /// Adds the bits that this machine's adapters have for a step of the document.
    pub fn bits(&mut self, step: usize, spec: &LossSpec, pool: &Pool, variant: Variant, upstream: f32) {
        let step = &mut self.document.steps[step];
        let sizes = self.document.losses[step.loss].outputs.iter();
        let sizes = sizes.map(|output| output.elements * if output.dtype == "f32" { 4 } else { 2 });
        let outputs: Vec<_> = step.outputs.iter().copied().zip(sizes).collect();
        let bits = |native: &Native| native.bits(spec, (pool, variant, upstream), &step.report.words, &outputs).ok();
        step.bits = self.native.iter().map(bits).collect();
    }

    fn dispatch(&mut self, recipe: &Recipe, buffers: &mut Buffers) -> Dispatch {
        let Recipe { stage, source, entry_point, bindings, grid } = recipe;
        let bind = |(binding, range): (usize, &BoundRange)| {
            let access = match range.access {
                Access::Uniform => 'u',
                Access::Read => 'r',
                Access::ReadWrite => 'w',
            };
            let buffer = buffers.index(&range.buffer);
            if buffers.holds[buffer].is_empty() {
                let tensors: Vec<String> =
                    range.tensors.iter().map(|(head, tensor)| format!("{tensor} of head {head}")).collect();
                buffers.holds[buffer] = if tensors.is_empty() { name_of(source, binding) } else { tensors.join(", ") };
            }
            (access, buffer, range.offset, range.size)
        };
        let bindings = bindings.iter().enumerate().map(bind).collect();
        let stage = if *stage == Stage::Forward { "forward" } else { "backward" };
        Dispatch { shader: self.shader(source, entry_point), stage, bindings, grid: *grid }
    }

    /// The index of a text.
    pub fn shader(&mut self, source: &str, entry_point: &'static str) -> usize {
        let Self { document, lines: known, .. } = self;
        let index_of = |line: &str| {
            *known.entry(line.to_owned()).or_insert_with(|| {
                document.lines.push(line.to_owned());
                i32::try_from(document.lines.len() - 1).expect("few lines")
            })
        };
        let lines: Vec<i32> = source.lines().map(index_of).collect();
        let before = std::iter::once(&0).chain(&lines);
        let lines: Vec<i32> = before.zip(&lines).map(|(before, line)| line - before).collect();
        let shader = Shader { lines, entry_point, subgroups: uses_subgroups(source) };
        document.shaders.iter().position(|other| *other == shader).unwrap_or_else(|| {
            document.shaders.push(shader);
            document.shaders.len() - 1
        })
    }
}

fn is_written(tensor: Tensor) -> bool {
    matches!(tensor, Tensor::Gradient | Tensor::VoxelLosses)
}

fn head(head: &Head) -> document::Head {
    document::Head { shape: head.shape.clone(), terms: terms(head).collect(), dtype: head.logits.name() }
}

/// The buffers of a step, the pool's first.
struct Buffers {
    known: Vec<wgpu::Buffer>,
    holds: Vec<String>,
}

impl Buffers {
    fn index(&mut self, buffer: &wgpu::Buffer) -> usize {
        self.known.iter().position(|known| known == buffer).unwrap_or_else(|| {
            self.known.push(buffer.clone());
            self.holds.push(String::new());
            self.known.len() - 1
        })
    }
}

/// The variable that a shader binds there.
fn name_of(source: &str, binding: usize) -> String {
    let declared = source.split(&format!("@binding({binding})")).nth(1).and_then(|rest| rest.split_once('>'));
    let name = declared.and_then(|(_, rest)| rest.split_once(':')).map(|(name, _)| name.trim().to_owned());
    name.unwrap_or_default()
}

/// The bytes up to the last that is not zero.
fn encoded(bytes: &[u8]) -> String {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    BASE64_STANDARD.encode(&bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_back_from_its_lines_and_each_line_is_there_once() {
        let mut export = Export::new();
        let texts = ["fn one() {\n    let x = 1u;\n}\n", "fn two() {\n    let x = 1u;\n    let x = 1u;\n}\n"];
        for text in texts {
            let shader = export.shader(text, "main");
            let lines = &export.document.shaders[shader].lines;
            let at = lines.iter().scan(0, |at, step| {
                *at += step;
                Some(*at)
            });
            let read: String =
                at.map(|line| export.document.lines[usize::try_from(line).expect("a line")].clone() + "\n").collect();
            assert_eq!(read, text);
        }
        assert_eq!(export.document.lines.len(), 4, "{:?}", export.document.lines);
        assert_eq!(export.shader(texts[0], "main"), 0);
        assert_eq!(export.document.shaders.len(), 2);
    }
}
