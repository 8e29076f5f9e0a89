//! The tensors of a head as burn has them, checked, and then bound.

use ::burn::backend::tensor::FloatTensor;
use ::burn::backend::wgpu::CubeTensor;
use ::burn::backend::{
    Autodiff, BackendTensor, Cube, CubeDevice, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
    TensorMetadata as _,
};
use ::burn::tensor::{Bool, BoolStore, DType, Int, Shape, Tensor};

use super::backend::{self, Primitive};
use super::bound::{Bound, flat, memory_format, output, unflattened};
use crate::error::Error;
use crate::error::Tensor as Name;
use crate::layout::tensors::{HeadTensors as Bindings, Mask};
use crate::spec::{FloatType, Head, LabelType, LossSpec, MemoryFormat, Target};

/// A float tensor of the autodiff back end, in a graph or not.
pub(super) type Tracked = FloatTensor<Autodiff<Cube>>;

/// The tensors of one head, of any rank: logits `[N, C, *spatial]`, a target, and a weight map and masks where there are
/// some.
#[derive(Clone, Debug)]
pub struct HeadTensors {
    logits: DispatchTensor,
    target: Given,
    weight_map: Option<DispatchTensor>,
    mask: Option<DispatchTensor>,
    sample_mask: Option<DispatchTensor>,
}

#[derive(Clone, Debug)]
enum Given {
    Labels(DispatchTensor),
    Probabilities(DispatchTensor),
}

impl HeadTensors {
    fn new(logits: DispatchTensor, target: Given) -> Self {
        Self { logits, target, weight_map: None, mask: None, sample_mask: None }
    }

    /// Logits `[N, C, *spatial]` in f32, f16 or bf16, and labels `[N, *spatial]` or `[N, 1, *spatial]` in i64, i32,
    /// i16, i8, u32, u16 or u8. With [`resample`](Head::resample) the labels may have other spatial lengths than the
    /// logits.
    #[must_use]
    pub fn labels<const D: usize, const L: usize>(logits: Tensor<D>, labels: Tensor<L, Int>) -> Self {
        Self::new(logits.into_dispatch(), Given::Labels(labels.into_dispatch()))
    }

    /// Logits `[N, C, *spatial]`, and probabilities of the same shape, each in f32, f16 or bf16.
    #[must_use]
    pub fn probabilities<const D: usize>(logits: Tensor<D>, probabilities: Tensor<D>) -> Self {
        Self::new(logits.into_dispatch(), Given::Probabilities(probabilities.into_dispatch()))
    }

    /// One weight per voxel, in f32: `[N, *spatial]`, or `[N, 1, *spatial]`.
    #[must_use]
    pub fn weight_map<const D: usize>(mut self, weight_map: Tensor<D>) -> Self {
        self.weight_map = Some(weight_map.into_dispatch());
        self
    }

    /// Voxels that count: `[N, *spatial]`, or `[N, 1, *spatial]`.
    #[must_use]
    pub fn mask<const D: usize>(mut self, mask: Tensor<D, Bool>) -> Self {
        self.mask = Some(mask.into_dispatch());
        self
    }

    /// Items that count: `[N]`.
    #[must_use]
    pub fn sample_mask(mut self, sample_mask: Tensor<1, Bool>) -> Self {
        self.sample_mask = Some(sample_mask.into_dispatch());
        self
    }
}

/// The tensors of a head, checked. The specification's head has their shapes and types.
pub(super) struct Checked {
    /// The shape of the logits.
    pub shape: Shape,
    /// Logits, target, and what else the head has.
    tensors: Vec<(Name, Primitive)>,
    /// The logits' node, where they are in a graph.
    pub node: Option<Tracked>,
    pub context: DispatchAutodiffContext,
    wants_gradient: bool,
}

/// Checks one tensor; its errors name head and tensor.
#[derive(Clone, Copy)]
struct Check<'a> {
    head: usize,
    tensor: Name,
    device: &'a CubeDevice,
}

impl Checked {
    /// Checks the tensors, and writes their shapes and types into the specification's head.
    pub fn new(index: usize, head: &mut Head, given: HeadTensors, device: &CubeDevice) -> Result<Self, Error> {
        let check = |tensor| Check { head: index, tensor, device };
        let context = given.logits.autodiff;
        let (logits, node) = check(Name::Logits).float(given.logits)?;
        let shape = logits.shape();
        head.shape = shape.to_vec();
        if shape.len() < 2 {
            return check(Name::Logits).refuse("[N, C, *spatial]", format!("{:?}", head.shape));
        }
        let spatial = shape[2..].to_vec();
        head.logits = check(Name::Logits).float_type(logits.dtype())?;
        let target = match given.target {
            Given::Labels(labels) => {
                let check = check(Name::Target);
                let labels = check.int(labels)?;
                head.target = Target::Labels(check.label_type(labels.dtype())?);
                let given = labels.shape().to_vec();
                let resampled = head.resample.as_ref().and_then(|_| spatial_of(&given, spatial.len()));
                if let Some(resampled) = resampled {
                    head.resample = Some(resampled.to_vec());
                }
                check.voxels(&given, shape[0], resampled.unwrap_or(&spatial))?;
                labels
            }
            Given::Probabilities(probabilities) => {
                let check = check(Name::Target);
                let (probabilities, _) = check.float(probabilities)?;
                head.target = Target::Probabilities(check.float_type(probabilities.dtype())?);
                if probabilities.shape() != shape {
                    return check.refuse(&format!("{:?}", head.shape), format!("{:?}", &*probabilities.shape()));
                }
                probabilities
            }
        };
        let mut tensors = vec![(Name::Logits, logits), (Name::Target, target)];
        head.weight_map = given.weight_map.is_some();
        if let Some(map) = given.weight_map {
            let check = check(Name::WeightMap);
            let (map, _) = check.float(map)?;
            if map.dtype() != DType::F32 {
                return check.refuse("f32", format!("{:?}", map.dtype()));
            }
            check.voxels(&map.shape(), shape[0], &spatial)?;
            tensors.push((Name::WeightMap, map));
        }
        (head.mask, head.sample_mask) = (given.mask.is_some(), given.sample_mask.is_some());
        for (name, mask, spatial) in
            [(Name::Mask, given.mask, &spatial[..]), (Name::SampleMask, given.sample_mask, &[][..])]
        {
            if let Some(mask) = mask {
                let mask = check(name).bool(mask)?;
                check(name).voxels(&mask.shape(), shape[0], spatial)?;
                tensors.push((name, mask));
            }
        }
        let wants_gradient = node.as_ref().is_some_and(Tracked::is_tracked);
        Ok(Self { shape, tensors, node, context, wants_gradient })
    }
}

/// The tensors of a head, flat, in the buffers in which they are or will be.
pub(super) struct ResolvedHead {
    /// The shape of the logits.
    shape: Shape,
    memory_format: MemoryFormat,
    /// Logits, target, and what else the head has.
    tensors: Vec<(Name, CubeTensor)>,
    pub wants_gradient: bool,
}

/// Finds the buffers of all heads' tensors, and writes the memory format of the logits into the specification's heads: burn
/// knows strides only there.
pub(super) fn resolve(heads: Vec<Checked>, spec: &mut LossSpec) -> Result<Vec<ResolvedHead>, Error> {
    let all = heads.iter().flat_map(|head| head.tensors.iter().map(|(_, tensor)| tensor.clone())).collect();
    let mut resolved = backend::resolve(all)?.into_iter();
    let head = |(Checked { shape, tensors, wants_gradient, .. }, head): (Checked, &mut Head)| {
        let names = tensors.into_iter().map(|(name, _)| name);
        // `zip` would take one of the next head's
        let tensors = names.map(|name| (name, resolved.next().expect("as many as were given")));
        let tensors: Vec<_> = tensors.collect();
        let memory_format = memory_format(&tensors[0].1);
        head.memory_format = memory_format;
        let has_classes = |name| match name {
            Name::Logits => true,
            Name::Target => matches!(head.target, Target::Probabilities(_)),
            _ => false,
        };
        let flattened = |(name, tensor)| {
            let format = if has_classes(name) { memory_format } else { MemoryFormat::ContiguousFormat };
            (name, flat(tensor, format))
        };
        let tensors = tensors.into_iter().map(flattened).collect();
        ResolvedHead { shape, memory_format, tensors, wants_gradient }
    };
    Ok(heads.into_iter().zip(&mut spec.heads).map(head).collect())
}

impl ResolvedHead {
    /// A tensor for the gradient, flat, where the logits want one.
    pub fn gradient(&self, device: &CubeDevice) -> Option<CubeTensor> {
        let (_, logits) = &self.tensors[0];
        self.wants_gradient.then(|| output(logits.shape().num_elements(), logits.dtype().into(), device))
    }

    /// Gives the gradient the shape and the strides of the logits.
    pub fn unflattened(&self, gradient: CubeTensor) -> CubeTensor {
        unflattened(gradient, &self.shape, self.memory_format)
    }

    /// The tensors in their buffers, which burn keeps in place while the result lives.
    pub fn bound(&self) -> Result<BoundHead, Error> {
        let bound = |(name, tensor): &(Name, CubeTensor)| Ok((*name, Bound::new(tensor.clone())?));
        Ok(BoundHead { tensors: self.tensors.iter().map(bound).collect::<Result<_, Error>>()? })
    }
}

/// The spatial part of `[N, *spatial]` or `[N, 1, *spatial]`.
fn spatial_of(shape: &[usize], rank: usize) -> Option<&[usize]> {
    match shape.len().checked_sub(rank)? {
        1 => Some(&shape[1..]),
        2 if shape[1] == 1 => Some(&shape[2..]),
        _ => None,
    }
}

impl Check<'_> {
    fn refuse<T>(&self, expected: &str, given: String) -> Result<T, Error> {
        Err(Error::Binding { head: self.head, tensor: self.tensor, expected: expected.to_owned(), given })
    }

    /// The values of a float tensor, and its node where it has one.
    fn float(&self, tensor: DispatchTensor) -> Result<(Primitive, Option<Tracked>), Error> {
        let mut kind = tensor.kind;
        if let DispatchTensorKind::Autodiff(inner) = kind {
            kind = *inner;
        }
        let (values, node) = match kind {
            DispatchTensorKind::Cube(BackendTensor::Float(values)) => (values, None),
            DispatchTensorKind::Cube(BackendTensor::Autodiff(node)) => (node.primitive().clone(), Some(node)),
            other => return self.refuse("a float tensor of burn's wgpu back end", kind_name(&other)),
        };
        Ok((self.placed(values)?, node))
    }

    fn int(&self, tensor: DispatchTensor) -> Result<Primitive, Error> {
        match tensor.kind {
            DispatchTensorKind::Cube(BackendTensor::Int(values)) => self.placed(values),
            other => self.refuse("an integer tensor of burn's wgpu back end", kind_name(&other)),
        }
    }

    fn bool(&self, tensor: DispatchTensor) -> Result<Primitive, Error> {
        let values = match tensor.kind {
            DispatchTensorKind::Cube(BackendTensor::Bool(values)) => self.placed(values)?,
            other => return self.refuse("a boolean tensor of burn's wgpu back end", kind_name(&other)),
        };
        match values.dtype() {
            DType::Bool(BoolStore::U8 | BoolStore::U32) => Ok(values),
            other => self.refuse("booleans stored as u8 or u32", format!("{other:?}")),
        }
    }

    /// Checks that a tensor is on the bridge's device and is not empty.
    fn placed(&self, tensor: Primitive) -> Result<Primitive, Error> {
        let (device, shape) = (tensor.device(), tensor.shape());
        if device != *self.device {
            return self.refuse(&format!("a tensor on {:?}", self.device), format!("one on {device:?}"));
        }
        if shape.num_elements() == 0 {
            return self.refuse("at least one element", format!("shape {:?}", shape.to_vec()));
        }
        Ok(tensor)
    }

    fn float_type(&self, dtype: DType) -> Result<FloatType, Error> {
        match dtype {
            DType::F32 | DType::Flex32 => Ok(FloatType::F32),
            DType::F16 => Ok(FloatType::F16),
            DType::BF16 => Ok(FloatType::Bf16),
            other => self.refuse("f32, f16 or bf16", format!("{other:?}")),
        }
    }

    fn label_type(&self, dtype: DType) -> Result<LabelType, Error> {
        match dtype {
            DType::I64 => Ok(LabelType::I64),
            DType::I32 => Ok(LabelType::I32),
            DType::I16 => Ok(LabelType::I16),
            DType::I8 => Ok(LabelType::I8),
            DType::U32 => Ok(LabelType::U32),
            DType::U16 => Ok(LabelType::U16),
            DType::U8 => Ok(LabelType::U8),
            other => self.refuse("integers of up to 64 bits, u64 aside: cast the labels first", format!("{other:?}")),
        }
    }

    /// Checks the shape of a tensor with one value per voxel.
    fn voxels(&self, given: &[usize], items: usize, spatial: &[usize]) -> Result<(), Error> {
        if given[0] == items && spatial_of(given, spatial.len()) == Some(spatial) {
            return Ok(());
        }
        let expected: Vec<usize> = std::iter::once(items).chain(spatial.iter().copied()).collect();
        self.refuse(&format!("{expected:?}"), format!("{given:?}"))
    }
}

fn kind_name(kind: &DispatchTensorKind) -> String {
    if let DispatchTensorKind::Cube(tensor) = kind {
        return tensor.name().to_owned();
    }
    format!("one on {:?}", kind.device())
}

/// The tensors of a head in their buffers.
pub(super) struct BoundHead {
    tensors: Vec<(Name, Bound)>,
}

impl BoundHead {
    pub fn bindings(&self) -> Bindings<'_> {
        let [(_, logits), (_, target), others @ ..] = &self.tensors[..] else {
            unreachable!("a head has logits and a target");
        };
        let bindings = Bindings::new(logits.binding(), target.binding());
        others.iter().fold(bindings, |bindings, (name, tensor)| {
            let mask = || match tensor.dtype() {
                DType::Bool(BoolStore::U32) => Mask::Words(tensor.binding()),
                _ => Mask::Bytes(tensor.binding()),
            };
            match name {
                Name::WeightMap => bindings.weight_map(tensor.binding()),
                Name::Mask => bindings.mask(mask()),
                Name::SampleMask => bindings.sample_mask(mask()),
                other => unreachable!("{other} is not read besides logits and target"),
            }
        })
    }

    pub fn all(&self) -> impl Iterator<Item = &Bound> {
        self.tensors.iter().map(|(_, tensor)| tensor)
    }
}
