//! Bindings of burn's tensors: checked, made contiguous, and kept in their buffers while they are bound.

use std::any::Any;
use std::num::NonZeroU64;

use ::burn::backend::ops::{FloatTensorOps as _, IntTensorOps as _};
use ::burn::backend::tensor::{FloatTensor, IntTensor};
use ::burn::backend::wgpu::{AutoCompiler, CubeTensor, WgpuResource};
use ::burn::backend::{
    Autodiff, BackendTensor, Cube, CubeDevice, DispatchAutodiffContext, DispatchDevice, DispatchTensor,
    DispatchTensorKind, TensorMetadata as _,
};
use ::burn::tensor::{DType, Device, FloatDType, Int, Shape, Tensor};
use cubecl::client::Client;
use cubecl::wgpu::WgpuServer;

use crate::error::Error;
use crate::error::Tensor as Name;
use crate::spec::{FloatType, Head, LabelType, Target};

/// `during` of this module's errors.
pub(super) const DURING: &str = "the loss of burn's tensors";

/// A float tensor of the autodiff back end, in a graph or not.
pub(super) type Tracked = FloatTensor<Autodiff<Cube>>;

/// The tensors of one head, of any rank: logits `[N, C, *spatial]`, a target, and a weight map where there is one.
#[derive(Clone, Debug)]
pub struct HeadTensors {
    logits: DispatchTensor,
    target: Given,
    weight_map: Option<DispatchTensor>,
}

#[derive(Clone, Debug)]
enum Given {
    Labels(DispatchTensor),
    Probabilities(DispatchTensor),
}

impl HeadTensors {
    /// Logits `[N, C, *spatial]` in f32, f16 or bf16, and labels `[N, *spatial]` or `[N, 1, *spatial]` in i64, i32,
    /// i16, i8, u32, u16 or u8. With [`resample`](Head::resample) the labels may have other spatial lengths than the
    /// logits.
    #[must_use]
    pub fn labels<const D: usize, const L: usize>(logits: Tensor<D>, labels: Tensor<L, Int>) -> Self {
        Self { logits: logits.into_dispatch(), target: Given::Labels(labels.into_dispatch()), weight_map: None }
    }

    /// Logits `[N, C, *spatial]`, and probabilities of the same shape, each in f32, f16 or bf16.
    #[must_use]
    pub fn probabilities<const D: usize>(logits: Tensor<D>, probabilities: Tensor<D>) -> Self {
        let target = Given::Probabilities(probabilities.into_dispatch());
        Self { logits: logits.into_dispatch(), target, weight_map: None }
    }

    /// One weight per voxel, in f32: `[N, *spatial]`, or `[N, 1, *spatial]`. For a mask, bind a weight map of zeros and
    /// ones.
    #[must_use]
    pub fn weight_map<const D: usize>(mut self, weight_map: Tensor<D>) -> Self {
        self.weight_map = Some(weight_map.into_dispatch());
        self
    }
}

/// The tensors of a head, checked and flattened. The specification's head has their shapes and types.
pub(super) struct Checked {
    /// The shape of the logits.
    shape: Shape,
    pub logits: FloatTensor<Cube>,
    target: Flat,
    weight_map: Option<FloatTensor<Cube>>,
    /// The logits' node, where they are in a graph.
    pub node: Option<Tracked>,
    pub wants_gradient: bool,
    pub context: DispatchAutodiffContext,
}

enum Flat {
    Labels(IntTensor<Cube>),
    Probabilities(FloatTensor<Cube>),
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
                Flat::Labels(flat_int(labels))
            }
            Given::Probabilities(probabilities) => {
                let check = check(Name::Target);
                let (probabilities, _) = check.float(probabilities)?;
                head.target = Target::Probabilities(check.float_type(probabilities.dtype())?);
                if probabilities.shape() != shape {
                    return check.refuse(&format!("{:?}", head.shape), format!("{:?}", &*probabilities.shape()));
                }
                Flat::Probabilities(flat(probabilities))
            }
        };
        head.weight_map = given.weight_map.is_some();
        let weight_map = given
            .weight_map
            .map(|map| {
                let check = check(Name::WeightMap);
                let (map, _) = check.float(map)?;
                if map.dtype() != DType::F32 {
                    return check.refuse("f32", format!("{:?}", map.dtype()));
                }
                check.voxels(&map.shape().to_vec(), shape[0], &spatial)?;
                Ok(flat(map))
            })
            .transpose()?;
        for (tensor, wanted) in [(Name::Mask, head.mask), (Name::SampleMask, head.sample_mask)] {
            if wanted {
                return check(tensor).refuse("none with burn: bind a weight map of zeros and ones", "one".to_owned());
            }
        }
        if head.voxel_losses() {
            return check(Name::VoxelLosses).refuse("none with burn", "an unreduced head".to_owned());
        }
        Ok(Self { shape, logits: flat(logits), target, weight_map, node, wants_gradient: false, context })
    }

    /// The tensors in their buffers, which burn keeps in place while the result lives.
    pub fn bound(&self) -> Result<BoundHead, Error> {
        let target = match &self.target {
            Flat::Labels(labels) => Bound::new(labels.clone()),
            Flat::Probabilities(probabilities) => Bound::new(probabilities.clone()),
        };
        let weight_map = self.weight_map.clone().map(Bound::new).transpose()?;
        Ok(BoundHead { logits: Bound::new(self.logits.clone())?, target: target?, weight_map })
    }

    /// Reshapes a flat tensor to the logits' shape.
    pub fn unflattened(&self, tensor: FloatTensor<Cube>) -> FloatTensor<Cube> {
        Cube::float_reshape(tensor, self.shape.clone())
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
    fn float(&self, tensor: DispatchTensor) -> Result<(FloatTensor<Cube>, Option<Tracked>), Error> {
        let mut kind = tensor.kind;
        if let DispatchTensorKind::Autodiff(inner) = kind {
            kind = *inner;
        }
        let (values, node) = match kind {
            DispatchTensorKind::Cube(BackendTensor::Float(values)) => (values, None),
            DispatchTensorKind::Cube(BackendTensor::Autodiff(node)) => (node.primitive().clone(), Some(node)),
            other => return self.refuse("a float tensor of burn's wgpu back end", kind_name(&other)),
        };
        self.placed(&values.device(), &values.shape())?;
        Ok((values, node))
    }

    fn int(&self, tensor: DispatchTensor) -> Result<IntTensor<Cube>, Error> {
        let values = match tensor.kind {
            DispatchTensorKind::Cube(BackendTensor::Int(values)) => values,
            other => return self.refuse("an integer tensor of burn's wgpu back end", kind_name(&other)),
        };
        self.placed(&values.device(), &values.shape())?;
        Ok(values)
    }

    /// Checks that a tensor is on the bridge's device and is not empty.
    fn placed(&self, device: &CubeDevice, shape: &Shape) -> Result<(), Error> {
        if device != self.device {
            return self.refuse(&format!("a tensor on {:?}", self.device), format!("one on {device:?}"));
        }
        if shape.num_elements() == 0 {
            return self.refuse("at least one element", format!("shape {:?}", shape.to_vec()));
        }
        Ok(())
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

/// Flattens a tensor in row-major order: burn copies it where it is stored otherwise.
fn flat(tensor: FloatTensor<Cube>) -> FloatTensor<Cube> {
    let elements = tensor.shape().num_elements();
    Cube::float_reshape(tensor, Shape::new([elements]))
}

fn flat_int(tensor: IntTensor<Cube>) -> IntTensor<Cube> {
    let elements = tensor.shape().num_elements();
    Cube::int_reshape(tensor, Shape::new([elements]))
}

/// A tensor that burn allocates and a step writes.
pub(super) struct Output {
    pub tensor: FloatTensor<Cube>,
}

impl Output {
    pub fn scalar(device: &CubeDevice) -> Self {
        Self { tensor: Cube::float_empty(Shape::new([1]), device, FloatDType::F32) }
    }

    /// With the shape and type of another tensor.
    pub fn like(tensor: &FloatTensor<Cube>) -> Self {
        Self { tensor: Cube::float_empty(tensor.shape(), &tensor.device(), tensor.dtype().into()) }
    }

    pub fn bound(&self) -> Result<Bound, Error> {
        Bound::new(self.tensor.clone())
    }
}

/// The incoming gradient as f32.
pub(super) fn scalar_f32(tensor: FloatTensor<Cube>) -> Result<Bound, Error> {
    let is_f32 = tensor.dtype() == DType::F32;
    Bound::new(if is_f32 { tensor } else { Cube::float_cast(tensor, FloatDType::F32) })
}

/// A flat tensor in its buffer, which burn neither moves nor reuses while this lives.
pub(super) struct Bound {
    tensor: CubeTensor,
    resource: WgpuResource,
    _pin: Box<dyn Any + Send>,
}

impl Bound {
    fn new(tensor: impl Any) -> Result<Self, Error> {
        let device = |message: String| Error::Device { during: DURING, message };
        let tensor: Box<dyn Any> = Box::new(tensor);
        let tensor = *tensor.downcast::<CubeTensor>().map_err(|_| {
            device("burn's feature `fusion` is on: build burn with default-features = false".to_owned())
        })?;
        let client: &Client = &tensor.client;
        let resource = client.get_resource::<WgpuServer<AutoCompiler>>(tensor.handle.clone());
        let pin = resource.map_err(|error| device(error.to_string()))?;
        Ok(Self { tensor, resource: pin.resource().clone(), _pin: Box::new(pin) })
    }

    pub fn binding(&self) -> wgpu::BufferBinding<'_> {
        let resource = &self.resource;
        // burn's handle may be longer than the tensor; a type below 32 bits is padded to whole words
        let bytes = self.tensor.meta.num_elements() * self.tensor.dtype.size();
        let size = NonZeroU64::new((bytes as u64).next_multiple_of(4));
        wgpu::BufferBinding { buffer: &resource.buffer, offset: resource.offset, size }
    }

    /// Submits burn's pending work, on this thread's stream and on the streams of the tensors.
    pub fn flush<'a>(tensors: impl Iterator<Item = &'a Self>) -> Result<(), Error> {
        let mut streams = Vec::new();
        let flushed = |result: Result<(), _>| {
            result.map_err(|error: cubecl::server::ServerError| Error::Device {
                during: DURING,
                message: error.to_string(),
            })
        };
        for Self { tensor, .. } in tensors {
            if streams.is_empty() {
                flushed(tensor.client.flush())?;
            }
            let stream = tensor.handle.stream;
            if !streams.contains(&stream) {
                flushed(stream.executes(|| tensor.client.flush()))?;
                streams.push(stream);
            }
        }
        Ok(())
    }
}

/// The tensors of a head in their buffers.
pub(super) struct BoundHead {
    logits: Bound,
    target: Bound,
    weight_map: Option<Bound>,
}

impl BoundHead {
    pub fn bindings(&self) -> crate::layout::tensors::HeadTensors<'_> {
        let bindings = crate::layout::tensors::HeadTensors::new(self.logits.binding(), self.target.binding());
        crate::layout::tensors::HeadTensors { weight_map: self.weight_map.as_ref().map(Bound::binding), ..bindings }
    }

    pub fn all(&self) -> impl Iterator<Item = &Bound> {
        [&self.logits, &self.target].into_iter().chain(&self.weight_map)
    }
}

/// The wgpu device behind a burn device, with autodiff or without.
pub(super) fn cube_device(device: &Device) -> Result<CubeDevice, Error> {
    match device.as_dispatch().clone().inner() {
        DispatchDevice::Cube(device @ CubeDevice::Wgpu(_)) => Ok(device),
        other => {
            Err(Error::Device { during: DURING, message: format!("expected a wgpu device of burn's, got {other:?}") })
        }
    }
}
