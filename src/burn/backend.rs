//! burn's tensors in their buffers, and back.
//!
//! burn's back end for wgpu is `CubeBackend`, or `Fusion<CubeBackend>` where its feature `fusion` is on, as it is by
//! default. Cargo turns a feature on for everyone: this crate cannot know what the user's burn has. So one trait is there
//! for both.

use std::sync::{Arc, Mutex, PoisonError};

use ::burn::backend::ir::{CustomOpIr, HandleContainer, InitOperationIr, OperationIr, OperationOutput as _};
use ::burn::backend::tensor::FloatTensor;
use ::burn::backend::wgpu::{CubeBackend, CubeTensor};
use ::burn::backend::{BackendTypes, Cube, CubeDevice, TensorMetadata as _};
use burn_fusion::custom::OperationFn;
use burn_fusion::stream::StreamId;
use burn_fusion::{Fusion, FusionBackend, FusionRuntime, FusionTensor, get_client};

use crate::error::Error;

/// `during` of the bridge's errors.
pub(super) const DURING: &str = "the loss of burn's tensors";

/// A tensor of any kind: a back end has one type for all.
pub(super) type Primitive = FloatTensor<Cube>;

/// What a back end does for the bridge.
trait Primitives: BackendTypes {
    fn resolve(tensors: Vec<Self::FloatTensorPrimitive>) -> Result<Vec<CubeTensor>, Error>;
    fn register(tensor: CubeTensor) -> Self::FloatTensorPrimitive;
}

/// The tensors, in their order, in the buffers in which they are or will be: burn may not have submitted what computes
/// them yet.
pub(super) fn resolve(tensors: Vec<Primitive>) -> Result<Vec<CubeTensor>, Error> {
    <Cube as Primitives>::resolve(tensors)
}

/// A float tensor for burn to go on with.
pub(super) fn register(tensor: CubeTensor) -> FloatTensor<Cube> {
    <Cube as Primitives>::register(tensor)
}

impl Primitives for CubeBackend {
    fn resolve(tensors: Vec<CubeTensor>) -> Result<Vec<CubeTensor>, Error> {
        Ok(tensors)
    }

    fn register(tensor: CubeTensor) -> CubeTensor {
        tensor
    }
}

/// With fusion a tensor is a promise: its operations are in a queue of the fusion server's, which is a thread.
impl<B> Primitives for Fusion<B>
where
    B: FusionBackend + BackendTypes<FloatTensorPrimitive = CubeTensor, Device = CubeDevice>,
    B::FusionRuntime: FusionRuntime<FusionDevice = CubeDevice>,
{
    /// An operation that reads all of them ends up behind those that compute them, and takes their handles. This waits for
    /// the server's thread once, however many they are, and not for the device. burn does not run an operation of which an
    /// input failed, so a failure is an error here, where `resolve_tensor_float` panics.
    fn resolve(tensors: Vec<FusionTensor<B::FusionRuntime>>) -> Result<Vec<CubeTensor>, Error> {
        let Some(client) = tensors.first().map(|tensor| tensor.client.clone()) else { return Ok(Vec::new()) };
        let inputs: Vec<_> = tensors.into_iter().map(FusionTensor::into_ir).collect();
        let found = Arc::new(Mutex::new(None));
        let take = {
            let (inputs, found) = (inputs.clone(), Arc::clone(&found));
            OperationFn(move |handles: &mut HandleContainer<_>| {
                let tensors = inputs.iter().map(|input| handles.get_float_tensor::<B>(input)).collect();
                *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(tensors);
                Ok(())
            })
        };
        let operation = OperationIr::Custom(CustomOpIr::new("segloss", &inputs, &[]));
        client.register(StreamId::current(), operation, take);
        let error = |message: String| Error::Device { during: DURING, message };
        client.try_sync(|| ()).map_err(|failure| error(format!("burn's fusion server: {failure:?}")))?;
        let found = found.lock().unwrap_or_else(PoisonError::into_inner).take();
        found.ok_or_else(|| error("burn failed to compute one of the tensors".to_owned()))
    }

    fn register(tensor: CubeTensor) -> FusionTensor<B::FusionRuntime> {
        let (shape, dtype) = (tensor.shape(), tensor.dtype());
        let client = get_client::<B>(&tensor.device());
        let handle = B::float_tensor_handle(tensor);
        // as burn registers the tensors that it makes of data
        let made = InitOperationIr::create(shape, dtype, || client.register_tensor_handle(handle));
        client.register(StreamId::current(), OperationIr::Init(made), OperationFn(|_: &mut _| Ok(()))).output()
    }
}
