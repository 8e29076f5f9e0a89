//! The caller's tensors: buffer, offset, size, checked against the specification.

use std::ops::Range;

use super::variant::{Split, Variant};
use crate::error::{Error, Tensor};
use crate::spec::{FloatType, Head, LabelType, Target};

/// The tensors of one head, in the caller's buffers: none is copied.
///
/// A binding has the size of its tensor, which may be rounded up to whole words of 4 bytes; a binding without a size reaches
/// to the end of its buffer. A larger binding is refused, since it is most often a tensor of another type or shape: 64-bit
/// labels bound as 32-bit ones, a one-hot bound as labels. Every buffer needs the usage `STORAGE`. Offsets may be any
/// multiple of the element; the device's offset alignment does not matter.
#[derive(Clone, Debug)]
pub struct HeadTensors<'a> {
    /// Of the head's [`FloatType`], `[N, C, *spatial]`, in the head's [`MemoryFormat`](crate::MemoryFormat).
    pub logits: wgpu::BufferBinding<'a>,
    /// Labels of the head's [`LabelType`](crate::LabelType), `[N, *spatial]`; or probabilities, `[N, C, *spatial]`. The
    /// buffer of a packed tensor has a whole number of words: ceil(bytes / 4) · 4 bytes.
    pub target: wgpu::BufferBinding<'a>,
    /// Of the logits' type, `[N, C, *spatial]`. `None`: this head's gradient is not wanted.
    pub gradient: Option<Gradient<'a>>,
    /// `[N, *spatial]`, where the head has a mask.
    pub mask: Option<Mask<'a>>,
    /// f32, `[N, *spatial]`, where the head has a weight map.
    pub weight_map: Option<wgpu::BufferBinding<'a>>,
    /// `[N]`, where the head has a sample mask.
    pub sample_mask: Option<Mask<'a>>,
    /// f32, `[N, *spatial]`, where the head is [`unreduced`](crate::Head::unreduced) and has a pixel term: the loss of each
    /// voxel times its weight, 0 where it does not count. Written by the statistics stage.
    pub voxel_losses: Option<wgpu::BufferBinding<'a>>,
}

/// A mask: 0 is false, and all else is true.
#[derive(Clone, Debug)]
pub enum Mask<'a> {
    /// One u8 per value.
    Bytes(wgpu::BufferBinding<'a>),
    /// One u32 per value, as burn keeps its booleans on devices without bytes.
    Words(wgpu::BufferBinding<'a>),
}

impl<'a> Mask<'a> {
    fn binding(&self) -> &wgpu::BufferBinding<'a> {
        let (Self::Bytes(binding) | Self::Words(binding)) = self;
        binding
    }

    fn format(&self) -> Format {
        Format::Integer(match self {
            Self::Bytes(_) => LabelType::U8,
            Self::Words(_) => LabelType::U32,
        })
    }
}

impl<'a> From<wgpu::BufferBinding<'a>> for Mask<'a> {
    fn from(bytes: wgpu::BufferBinding<'a>) -> Self {
        Self::Bytes(bytes)
    }
}

/// Where a head's gradient goes.
#[derive(Clone, Debug)]
pub enum Gradient<'a> {
    /// Into a tensor, whatever it held.
    Overwrite(wgpu::BufferBinding<'a>),
    /// Added to what a tensor holds: in f32, and rounded once to the tensor's type.
    Accumulate(wgpu::BufferBinding<'a>),
    /// Over the logits: a step then needs no tensor besides its inputs. After the backward the logits are overwritten.
    InPlace,
}

impl<'a> HeadTensors<'a> {
    /// Logits and target alone: for a head that is evaluated, not trained.
    #[must_use]
    pub fn new(logits: wgpu::BufferBinding<'a>, target: wgpu::BufferBinding<'a>) -> Self {
        Self { logits, target, gradient: None, mask: None, weight_map: None, sample_mask: None, voxel_losses: None }
    }

    /// The gradient overwrites this tensor.
    #[must_use]
    pub fn gradient(mut self, gradient: wgpu::BufferBinding<'a>) -> Self {
        self.gradient = Some(Gradient::Overwrite(gradient));
        self
    }

    /// The gradient is added to this tensor.
    #[must_use]
    pub fn accumulate(mut self, gradient: wgpu::BufferBinding<'a>) -> Self {
        self.gradient = Some(Gradient::Accumulate(gradient));
        self
    }

    /// The gradient overwrites the logits.
    #[must_use]
    pub fn in_place(mut self) -> Self {
        self.gradient = Some(Gradient::InPlace);
        self
    }

    /// Sets [`voxel_losses`](Self::voxel_losses).
    #[must_use]
    pub fn voxel_losses(mut self, losses: wgpu::BufferBinding<'a>) -> Self {
        self.voxel_losses = Some(losses);
        self
    }

    /// Sets [`mask`](Self::mask).
    #[must_use]
    pub fn mask(mut self, mask: impl Into<Mask<'a>>) -> Self {
        self.mask = Some(mask.into());
        self
    }

    /// Sets [`weight_map`](Self::weight_map).
    #[must_use]
    pub fn weight_map(mut self, weight_map: wgpu::BufferBinding<'a>) -> Self {
        self.weight_map = Some(weight_map);
        self
    }

    /// Sets [`sample_mask`](Self::sample_mask).
    #[must_use]
    pub fn sample_mask(mut self, sample_mask: impl Into<Mask<'a>>) -> Self {
        self.sample_mask = Some(sample_mask.into());
        self
    }
}

/// The type of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// An integer, which the shaders read as 32 bits.
    Integer(LabelType),
    Float(FloatType),
}

impl Format {
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Integer(label_type) => label_type.bits(),
            Self::Float(FloatType::F32) => 32,
            Self::Float(FloatType::F16 | FloatType::Bf16) => 16,
        }
    }

    pub(crate) const fn bytes(self) -> u64 {
        self.bits() as u64 / 8
    }
}

/// The bytes of a tensor in its buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extent {
    pub buffer: wgpu::Buffer,
    pub bytes: Range<u64>,
    pub format: Format,
    /// Four elements in one load: rows begin at a multiple of four elements, and have a multiple of four.
    pub wide: bool,
}

/// The tensors of a head, checked.
#[derive(Clone, Debug)]
pub(crate) struct HeadExtents {
    /// Logits, target, and the masks that the head has.
    pub reads: Vec<(Tensor, Extent)>,
    /// What the statistics stage writes.
    pub voxel_losses: Option<Extent>,
    pub gradient: Option<(GradientMode, Extent)>,
}

/// How a gradient is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GradientMode {
    Overwrite,
    Accumulate,
    InPlace,
}

impl HeadExtents {
    /// What is written: the losses of voxels, and the gradient.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (Tensor, &Extent)> {
        let gradient = self.gradient.iter().map(|(_, extent)| (Tensor::Gradient, extent));
        self.voxel_losses.iter().map(|extent| (Tensor::VoxelLosses, extent)).chain(gradient)
    }
}

/// Checks the tensors of all heads. `statistics`: whether the stage that writes the losses of voxels is bound.
pub(crate) fn check_heads(
    heads: &[Head],
    tensors: &[HeadTensors<'_>],
    variant: Variant,
    statistics: bool,
) -> Result<Vec<HeadExtents>, Error> {
    if heads.len() != tensors.len() {
        return Err(Error::WrongHeadCount { expected: heads.len(), given: tensors.len() });
    }
    let extents = heads
        .iter()
        .zip(tensors)
        .enumerate()
        .map(|(index, (head, tensors))| check_head(index, head, tensors, variant, statistics))
        .collect::<Result<Vec<_>, _>>()?;
    refuse_overlap(&extents)?;
    Ok(extents)
}

/// Bytes of what the statistics stage reads and writes of one item: logits, target, masks and the losses of voxels.
pub(crate) fn item_bytes(head: &Head) -> Vec<u64> {
    let voxels = head.voxels() as u64;
    let logits = head.classes() as u64 * voxels * Format::Float(head.logits).bytes();
    let target = (head.target_elements() / head.items().max(1)) as u64 * target_format(head).bytes();
    let optional = [(head.mask, 1), (head.weight_map, 4), (head.voxel_losses(), 4)];
    let optional = optional.iter().filter(|(wanted, _)| *wanted).map(|(_, bytes)| voxels * bytes);
    [logits, target].into_iter().chain(optional).collect()
}

fn target_format(head: &Head) -> Format {
    match head.target {
        Target::Labels(labels) => Format::Integer(labels),
        Target::Probabilities(float) => Format::Float(float),
    }
}

/// The elements of logits, probabilities and gradient that lie in a row: where they are a multiple of four, as is the first
/// element, all loads of four elements begin at one.
pub(crate) fn row(head: &Head, variant: Variant) -> u64 {
    let classes = u32::try_from(head.classes()).unwrap_or(u32::MAX);
    let voxels = head.voxels() as u64;
    if !head.channels_last() {
        return voxels;
    }
    match variant.split(classes, true) {
        // element by element
        None => 1,
        // a quad of voxels with all classes is loaded as it lies
        Some(Split { lanes: 1, .. }) if !classes.is_multiple_of(4) => voxels,
        Some(_) => classes.into(),
    }
}

fn check_head(
    index: usize,
    head: &Head,
    tensors: &HeadTensors<'_>,
    variant: Variant,
    statistics: bool,
) -> Result<HeadExtents, Error> {
    let voxels = head.voxels() as u64;
    let all = head.items() as u64 * voxels;
    let logits = all * head.classes() as u64;
    let check = |tensor| Check { head: index, tensor };
    let f32 = Format::Float(FloatType::F32);
    let mask = |mask: &'_ Option<Mask<'_>>| mask.as_ref().map_or(Format::Integer(LabelType::U8), Mask::format);
    let logits_format = Format::Float(head.logits);
    let elements = head.target_elements() as u64;
    let row = row(head, variant);
    let target_row = if matches!(head.target, Target::Probabilities(_)) { row } else { voxels };
    let mut target = check(Tensor::Target).extent(&tensors.target, elements, target_format(head), target_row)?;
    // resampled labels are picked one by one
    target.wide &= head.resample.is_none();
    let mut reads = vec![
        (Tensor::Logits, check(Tensor::Logits).extent(&tensors.logits, logits, logits_format, row)?),
        (Tensor::Target, target),
    ];
    for (tensor, wanted, given, elements, format) in [
        (Tensor::Mask, head.mask, tensors.mask.as_ref().map(Mask::binding), all, mask(&tensors.mask)),
        (Tensor::WeightMap, head.weight_map, tensors.weight_map.as_ref(), all, f32),
        (
            Tensor::SampleMask,
            head.sample_mask,
            tensors.sample_mask.as_ref().map(Mask::binding),
            head.items() as u64,
            mask(&tensors.sample_mask),
        ),
    ] {
        if let Some(mut extent) = check(tensor).wanted(wanted, given, elements, format, voxels)? {
            extent.wide &= tensor != Tensor::SampleMask;
            reads.push((tensor, extent));
        }
    }
    let losses = tensors.voxel_losses.as_ref();
    let has_losses = statistics && head.voxel_losses();
    let voxel_losses = check(Tensor::VoxelLosses).wanted(has_losses, losses, all, f32, voxels)?;
    let (mode, binding) = match &tensors.gradient {
        None => return Ok(HeadExtents { reads, voxel_losses, gradient: None }),
        Some(Gradient::Overwrite(binding)) => (GradientMode::Overwrite, binding),
        Some(Gradient::Accumulate(binding)) => (GradientMode::Accumulate, binding),
        Some(Gradient::InPlace) => (GradientMode::InPlace, &tensors.logits),
    };
    let extent = check(Tensor::Gradient).extent(binding, logits, logits_format, row)?;
    Ok(HeadExtents { reads, voxel_losses, gradient: Some((mode, extent)) })
}

struct Check {
    head: usize,
    tensor: Tensor,
}

/// Checks that a binding has `needed` bytes, and no more than fill up its last word. The error is what was expected, and what
/// was given.
fn check_size(binding: &wgpu::BufferBinding<'_>, needed: u64) -> Result<(), (String, String)> {
    let (behind, offset) = (binding.buffer.size().saturating_sub(binding.offset), binding.offset);
    let given = binding.size.map_or(behind, std::num::NonZeroU64::get);
    let most = needed.next_multiple_of(4).max((offset + needed).next_multiple_of(4) - offset);
    if given < needed {
        return Err((format!("{needed} bytes at offset {offset}"), format!("{given}")));
    }
    if given <= most {
        return Ok(());
    }
    let advice = if binding.size.is_some() { "" } else { " to the end of its buffer: state the size" };
    Err((format!("{needed} bytes at offset {offset}, filled up to a whole word at most"), format!("{given}{advice}")))
}

impl Check {
    fn refuse<T>(&self, expected: String, given: String) -> Result<T, Error> {
        Err(Error::Binding { head: self.head, tensor: self.tensor, expected, given })
    }

    /// A tensor that a head has or lacks, refused where what is given differs.
    fn wanted(
        &self,
        wanted: bool,
        given: Option<&wgpu::BufferBinding<'_>>,
        elements: u64,
        format: Format,
        row: u64,
    ) -> Result<Option<Extent>, Error> {
        match (wanted, given) {
            (true, Some(binding)) => self.extent(binding, elements, format, row).map(Some),
            (false, None) => Ok(None),
            (true, None) => self.refuse("a tensor, as the head says".into(), "none".into()),
            (false, Some(_)) => self.refuse("none, as the head says".into(), "a tensor".into()),
        }
    }

    fn extent(
        &self,
        binding: &wgpu::BufferBinding<'_>,
        elements: u64,
        format: Format,
        row: u64,
    ) -> Result<Extent, Error> {
        let (buffer, offset) = (binding.buffer, binding.offset);
        if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
            return self.refuse("a buffer with usage STORAGE".into(), format!("{:?}", buffer.usage()));
        }
        let bytes = format.bytes();
        if !offset.is_multiple_of(bytes) {
            return self.refuse(format!("an offset that is a multiple of {bytes} bytes"), format!("{offset}"));
        }
        let needed = elements * bytes;
        check_size(binding, needed).or_else(|(expected, given)| self.refuse(expected, given))?;
        let end = (offset + needed).next_multiple_of(4);
        if end > buffer.size() {
            return self.refuse(
                format!("a buffer of at least {end} bytes, whole words for {needed} bytes at offset {offset}"),
                format!("{}", buffer.size()),
            );
        }
        let wide = (offset / bytes).is_multiple_of(4) && row.is_multiple_of(4);
        Ok(Extent { buffer: buffer.clone(), bytes: offset..offset + needed, format, wide })
    }
}

/// Refuses a written tensor that shares bytes with another; only a gradient in place may, with its own logits.
fn refuse_overlap(heads: &[HeadExtents]) -> Result<(), Error> {
    for (head, extents) in heads.iter().enumerate() {
        let in_place = matches!(extents.gradient, Some((GradientMode::InPlace, _)));
        for (tensor, written) in extents.writes() {
            for (other_head, others) in heads.iter().enumerate() {
                let reads = others.reads.iter().map(|(tensor, extent)| (*tensor, extent));
                for (other, extent) in reads.chain(others.writes()) {
                    let itself = other_head == head && other == tensor;
                    let own_logits = in_place && other_head == head && other == Tensor::Logits;
                    let allowed = itself || own_logits && tensor == Tensor::Gradient;
                    if !allowed && extent.overlaps(written) {
                        let Range { start: first, end } = written.bytes;
                        return Err(Error::Overlapping { head, tensor, first, end, other_head, other });
                    }
                }
            }
        }
    }
    Ok(())
}

impl Extent {
    /// The bytes of a run of items, where the tensor has `items`.
    pub(crate) fn of_items(&self, run: &Range<u32>, items: u32) -> Self {
        let item = (self.bytes.end - self.bytes.start) / u64::from(items);
        let bytes = self.bytes.start + u64::from(run.start) * item..self.bytes.start + u64::from(run.end) * item;
        Self { bytes, ..self.clone() }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }
}

/// Numbers that a step reads from the caller's buffers, instead of constants of the plan: a trainer changes them each step
/// without a new plan.
#[derive(Clone, Debug, Default)]
pub struct Scalars<'a> {
    /// One f32 that the gradient is multiplied by: autodiff's incoming gradient of the total, or a loss scale. Read when the
    /// gradient stage runs. `None`: 1.
    pub upstream: Option<wgpu::BufferBinding<'a>>,
    /// Three f32 per head, `[heads, 3]`: the head's weight, its overlap term's, its pixel term's. Read when the finish stage
    /// runs; the report has the derivative of the total by each. A weight of 0 switches off, as in the specification. `None`:
    /// those of the specification.
    pub weights: Option<wgpu::BufferBinding<'a>>,
}

/// Checks a caller's `count` f32 numbers, and returns where they lie.
pub(crate) fn check_scalars(
    numbers: &'static str,
    binding: &wgpu::BufferBinding<'_>,
    count: u64,
    heads: &[HeadExtents],
) -> Result<Extent, Error> {
    let error = |expected: String, given: String| Error::Scalars { numbers, expected, given };
    let (buffer, offset) = (binding.buffer, binding.offset);
    let needed = count * 4;
    if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
        return Err(error("a buffer with usage STORAGE".into(), format!("{:?}", buffer.usage())));
    }
    if !offset.is_multiple_of(4) {
        return Err(error("an offset that is a multiple of 4 bytes".into(), format!("{offset}")));
    }
    check_size(binding, needed).map_err(|(expected, given)| error(expected, given))?;
    let end = offset + needed;
    if end > buffer.size() {
        return Err(error(format!("a buffer of at least {end} bytes"), format!("{}", buffer.size())));
    }
    let format = Format::Float(FloatType::F32);
    let extent = Extent { buffer: buffer.clone(), bytes: offset..offset + needed, format, wide: false };
    for (head, extents) in heads.iter().enumerate() {
        if let Some((tensor, _)) = extents.writes().find(|(_, written)| written.overlaps(&extent)) {
            return Err(error(
                "numbers that no stage writes".into(),
                format!("some inside the {tensor} of head {head}"),
            ));
        }
    }
    Ok(extent)
}

/// A binding that begins at a multiple of the device's offset alignment, and the index in it of the first f32.
pub(crate) fn aligned(extent: &Extent, alignment: u64) -> (wgpu::BufferBinding<'_>, u32) {
    let first = extent.bytes.start - extent.bytes.start % alignment;
    let size = std::num::NonZeroU64::new(extent.bytes.end - first);
    let element = u32::try_from((extent.bytes.start - first) / 4).expect("less than the offset alignment");
    (wgpu::BufferBinding { buffer: &extent.buffer, offset: first, size }, element)
}
