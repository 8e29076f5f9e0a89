//! A step on random tensors on a device, checked before it is timed.

use std::fmt;
use std::rc::Rc;

use anyhow::{Result, anyhow};
use segloss::tuning::Clock;
use segloss::wgpu::util::DeviceExt as _;
use segloss::{
    FloatType, Head, HeadTensors, LabelType, Loss, LossSpec, MemoryFormat, Overlap, Pixel, Plan, Step, Variant, host,
    testing, wgpu,
};

/// The most logits that are compared with the f64 reference; for a larger workload a small copy is.
const MOST_CHECKED: usize = 1 << 22;
/// Random logits lie in ± this.
pub const SPREAD: f32 = 4.0;

/// ε of the label smoothing.
pub const SMOOTHING: f32 = 0.1;

/// Shapes that people train, with the data set's name.
pub const NAMED: [(&str, &str); 7] = [
    ("2x4x128x128x128", "BraTS"),
    ("1x14x96x96x96", "BTCV"),
    ("4x19x512x1024", "Cityscapes"),
    ("1x118x64x64x64", "TotalSegmentator, patches of 64"),
    ("1x118x96x96x96", "TotalSegmentator, patches of 96"),
    ("2x150x128x128", "ADE20K, two at a time"),
    ("16x150x128x128", "ADE20K, sixteen at a time"),
];

/// Which heads: soft Dice and cross-entropy, of these shapes.
#[derive(clap::Args)]
pub struct Heads {
    /// Shape of the logits, `NxCxD[xHxW]`; may be given several times. Default: seven shapes that people train, of five data
    /// sets.
    #[arg(long, value_name = "SHAPE", value_parser = to_shape, default_values = NAMED.map(|(shape, _)| shape),
        hide_default_value = true, default_value_if("pooled", "true", "1x4x64x64x64"))]
    shape: Vec<Shape>,
    /// Heads of a deep-supervision pyramid, each with half the voxels per side of the one before. One plan of all heads
    /// is compared with one plan per head.
    #[arg(long = "heads", value_name = "HEADS", default_value_t = 1)]
    pub levels: usize,
    /// Types of logits and gradient. `bench` compares the others with the first.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "f32")]
    dtype: Vec<Dtype>,
    /// Memory formats of logits and gradient. `bench` compares the others with the first.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "contiguous_format")]
    memory_format: Vec<Format>,
}

/// How logits and gradient are stored.
#[derive(Clone, Copy)]
pub struct Stored {
    dtype: Dtype,
    format: Format,
}

#[derive(Clone, Debug)]
pub struct Shape(pub Vec<usize>);

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Format {
    ContiguousFormat,
    ChannelsLast,
}

impl Stored {
    pub fn float(self) -> FloatType {
        match self.dtype {
            Dtype::F32 => FloatType::F32,
            Dtype::F16 => FloatType::F16,
            Dtype::Bf16 => FloatType::Bf16,
        }
    }

    pub fn head(self, shape: &[usize], loss: Loss) -> Head {
        let format = match self.format {
            Format::ContiguousFormat => MemoryFormat::ContiguousFormat,
            Format::ChannelsLast => MemoryFormat::ChannelsLast,
        };
        head(shape, loss, self.float()).memory_format(format)
    }
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.dtype {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        })?;
        f.write_str(if self.format == Format::ChannelsLast { " channels last" } else { "" })
    }
}

pub fn to_shape(text: &str) -> Result<Shape, String> {
    parse_shape(text).map(Shape)
}

impl Heads {
    pub fn shapes(&self) -> impl Iterator<Item = &[usize]> {
        self.shape.iter().map(|shape| &shape.0[..])
    }

    /// Every type in every memory format.
    pub fn stored(&self) -> impl Iterator<Item = Stored> {
        let formats = |&dtype| self.memory_format.iter().map(move |&format| Stored { dtype, format });
        self.dtype.iter().flat_map(formats)
    }

    /// The heads of one shape, each with half the voxels per side of the one before, as first asked for.
    pub fn of(&self, shape: &[usize], smoothing: f32) -> Vec<Head> {
        self.stored().next().map_or_else(Vec::new, |stored| self.of_stored(shape, smoothing, stored))
    }

    pub fn of_stored(&self, shape: &[usize], smoothing: f32, stored: Stored) -> Vec<Head> {
        let weights = segloss::nnunet_deep_supervision(self.levels);
        let head = |(level, weight): (usize, f32)| {
            let mut shape = shape.to_vec();
            shape.iter_mut().skip(2).for_each(|axis| *axis = (*axis >> level).max(1));
            stored.head(&shape, dice_ce(smoothing)).weight(weight)
        };
        weights.into_iter().enumerate().map(head).collect()
    }

    pub fn name(&self, shape: &[usize]) -> String {
        let several = if self.levels > 1 { format!(", {} heads", self.levels) } else { String::new() };
        shape_name(shape) + &several
    }
}

pub fn dice_ce(smoothing: f32) -> Loss {
    Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(smoothing))
}

/// The tensors of a head on the device.
pub struct Tensors {
    pub logits: wgpu::Buffer,
    pub labels: wgpu::Buffer,
    pub gradient: wgpu::Buffer,
}

/// A bound step and its tensors.
pub struct Workload {
    pub spec: LossSpec,
    pub tensors: Rc<Vec<Tensors>>,
    pub step: Step,
}

/// `NxCxD[xHxW]`.
pub fn shape_name(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// The data set that is trained in this shape, where it is one of the named.
pub fn data_set(shape: &str) -> Option<&'static str> {
    NAMED.iter().find(|(named, _)| *named == shape).map(|(_, name)| *name)
}

/// The axes of `NxCxD[xHxW]`.
pub fn parse_shape(text: &str) -> Result<Vec<usize>, String> {
    let axes: Result<Vec<usize>, _> = text.split('x').map(str::parse).collect();
    match axes {
        Ok(axes) if axes.len() >= 2 && !axes.contains(&0) => Ok(axes),
        _ => Err(format!("expected NxCxD[xHxW], got {text}")),
    }
}

pub fn head(shape: &[usize], loss: Loss, float: FloatType) -> Head {
    Head::new(shape, loss).logits(float)
}

impl Tensors {
    pub fn new(clock: &Clock, head: &Head, seed: u64) -> Self {
        let testing::Tensors { logits, labels, .. } = testing::Tensors::random(head, SPREAD, seed);
        let buffer = |contents: &[u8]| {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            clock.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
        };
        let logits = host::float_bytes(&logits, head.logits);
        Self {
            gradient: buffer(&vec![0; logits.len()]),
            logits: buffer(&logits),
            labels: buffer(&host::label_bytes(&labels, LabelType::U8)),
        }
    }

    pub fn bindings(&self) -> HeadTensors<'_> {
        let [logits, labels, gradient] =
            [&self.logits, &self.labels, &self.gradient].map(wgpu::Buffer::as_entire_buffer_binding);
        HeadTensors::new(logits, labels).gradient(gradient)
    }
}

impl Workload {
    /// Checks the kernels on these heads, and binds them to tensors.
    pub fn new(clock: &Clock, heads: Vec<Head>, variant: Variant) -> Result<Self> {
        let tensors = heads.iter().zip(1..).map(|(head, seed)| Tensors::new(clock, head, seed)).collect();
        Self::on(clock, heads, variant, Rc::new(tensors))
    }

    /// The same on existing tensors: the time also depends on where in memory they are.
    pub fn on(clock: &Clock, heads: Vec<Head>, variant: Variant, tensors: Rc<Vec<Tensors>>) -> Result<Self> {
        let spec = LossSpec { heads };
        check(clock, &spec, variant)?;
        let plan = Plan::with_variant(&clock.device, &clock.queue, &spec, variant)?;
        let step = plan.bind(&tensors.iter().map(Tensors::bindings).collect::<Vec<_>>())?;
        step.warm_up()?;
        Ok(Self { spec, tensors, step })
    }

    /// Bytes that the statistics must read: logits and labels.
    pub fn statistics_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensors| tensors.logits.size() + tensors.labels.size()).sum()
    }

    /// Bytes that the gradient stage must read and write: logits, labels and gradient.
    pub fn gradient_bytes(&self) -> u64 {
        self.statistics_bytes() + self.tensors.iter().map(|tensors| tensors.gradient.size()).sum::<u64>()
    }

    pub fn logits(&self) -> usize {
        self.spec.heads.iter().map(|head| head.items() * head.classes() * head.voxels()).sum()
    }
}

/// Checks the step against the f64 reference, on a small copy where it is large.
fn check(clock: &Clock, spec: &LossSpec, variant: Variant) -> Result<()> {
    let spec = testing::small_copy(spec, MOST_CHECKED);
    let heads = spec.heads.iter().zip(1..);
    let tensors: Vec<_> = heads.map(|(head, seed)| testing::Tensors::random(head, SPREAD, seed)).collect();
    let plan = Plan::with_variant(&clock.device, &clock.queue, &spec, variant)?;
    let given = host::run(&plan, &tensors.iter().map(testing::Tensors::data).collect::<Vec<_>>(), 1.0)?;
    let expected = testing::evaluate(&spec, &tensors, 1.0)?;
    testing::check(&given, &expected).map_err(|phrase| anyhow!("{phrase}: nothing is timed"))?;
    Ok(())
}
