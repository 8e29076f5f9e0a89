//! The total as a node of burn's graph.
//!
//! The number of a node's parents is a compile-time constant in burn, but a loss has any number of heads. So the total
//! is a chain of nodes, one per head. The parents of each are the previous node and the logits of its head, and all
//! nodes have the value of the total. The incoming gradient reaches the last node first, which runs the gradient kernel
//! for all heads at once. Each node then passes its head's gradient to the logits, and the incoming gradient to the
//! previous node.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ::burn::backend::autodiff::checkpoint::base::Checkpointer;
use ::burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use ::burn::backend::autodiff::grads::Gradients;
use ::burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use ::burn::backend::tensor::FloatTensor;
use ::burn::backend::{
    Autodiff, AutodiffBackend as _, BackendTensor, Cube, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
};
use ::burn::tensor::Tensor;

use super::device::{BurnDevice, Forward};
use super::tensors::{BoundHead, Checked, Output, Tracked, scalar_f32};
use crate::error::Error;
use crate::layout::tensors::Scalars;

/// The total as a burn tensor: a node of burn's graph where some logits are in the graph.
pub(super) fn total(on: &BurnDevice, forward: Forward, heads: Vec<Checked>, total: Output) -> Tensor<1> {
    let context = heads.iter().map(|head| head.context).find(|context| *context != DispatchAutodiffContext::Disabled);
    let value = total.tensor;
    let (kind, autodiff) = match context {
        None => (BackendTensor::Float(value), DispatchAutodiffContext::Disabled),
        Some(context) => (BackendTensor::Autodiff(chain(on, forward, heads, &value)), context),
    };
    let kind = match kind {
        BackendTensor::Autodiff(_) => DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Cube(kind))),
        _ => DispatchTensorKind::Cube(kind),
    };
    Tensor::from_dispatch(DispatchTensor { kind, autodiff })
}

fn chain(on: &BurnDevice, forward: Forward, mut heads: Vec<Checked>, value: &FloatTensor<Cube>) -> Tracked {
    let nodes: Vec<_> = heads
        .iter_mut()
        .map(|head| head.node.take().unwrap_or_else(|| Autodiff::<Cube>::from_inner(head.logits.clone())))
        .collect();
    for (head, node) in heads.iter_mut().zip(&nodes) {
        head.wants_gradient = node.is_tracked();
    }
    let saved = Saved { on: on.clone(), forward, heads };
    let loss = Arc::new(Loss(Mutex::new(State::Forward(Box::new(saved)))));
    let mut total = Autodiff::<Cube>::from_inner(value.clone());
    for (head, logits) in nodes.into_iter().enumerate() {
        let prepared = Link.prepare::<NoCheckpointing>([total.node(), logits.node()]).compute_bound().stateful();
        total = match prepared {
            OpsKind::Tracked(link) => link.finish((Arc::clone(&loss), head), value.clone()),
            OpsKind::UnTracked(link) => link.finish(value.clone()),
        };
    }
    total
}

/// The node of a head.
#[derive(Debug)]
struct Link;

impl Backward<Cube, 2> for Link {
    type State = (Arc<Loss>, usize);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let incoming = gradients.consume::<Cube>(&ops.node);
        let (loss, head) = ops.state;
        let [before, logits] = ops.parents;
        let gradient = loss.gradient(head, &incoming);
        if let Some(before) = before {
            gradients.register::<Cube>(before.id, incoming);
        }
        if let (Some(logits), Some(gradient)) = (logits, gradient) {
            gradients.register::<Cube>(logits.id, gradient);
        }
    }
}

/// What the nodes of one loss share.
struct Loss(Mutex<State>);

enum State {
    Forward(Box<Saved>),
    /// The gradients that the nodes have not passed on yet.
    Backward(Vec<Option<FloatTensor<Cube>>>),
}

/// What the backward needs of the forward: its coefficients, and the tensors.
struct Saved {
    on: BurnDevice,
    forward: Forward,
    heads: Vec<Checked>,
}

impl fmt::Debug for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("segloss")
    }
}

impl Loss {
    /// A head's gradient; the first call computes those of all heads.
    fn gradient(&self, head: usize, incoming: &FloatTensor<Cube>) -> Option<FloatTensor<Cube>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Forward(saved) = &*state {
            // a backward of burn's cannot return an error
            let gradients = saved.backward(incoming).unwrap_or_else(|error| panic!("segloss: {error}"));
            *state = State::Backward(gradients);
        }
        match &mut *state {
            State::Backward(gradients) => gradients[head].take(),
            State::Forward(_) => None,
        }
    }
}

impl Saved {
    fn backward(&self, incoming: &FloatTensor<Cube>) -> Result<Vec<Option<FloatTensor<Cube>>>, Error> {
        let gradient = |head: &Checked| head.wants_gradient.then(|| Output::like(&head.logits));
        let outputs = self.heads.iter().map(gradient).collect::<Vec<_>>();
        let upstream = scalar_f32(incoming.clone())?;
        let inputs = self.heads.iter().map(Checked::bound).collect::<Result<Vec<_>, _>>()?;
        let bound = outputs.iter().map(|output| output.as_ref().map(Output::bound).transpose());
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let bindings: Vec<crate::layout::tensors::HeadTensors<'_>> = inputs
            .iter()
            .zip(&bound)
            .map(|(head, gradient)| match gradient {
                Some(gradient) => head.bindings().gradient(gradient.binding()),
                None => head.bindings(),
            })
            .collect();
        let scalars = Scalars { upstream: Some(upstream.binding()), weights: None };
        let Forward { plan, stages } = &self.forward;
        let step = plan.bind_after(stages, &bindings, &scalars)?;
        let all = inputs.iter().flat_map(BoundHead::all).chain(bound.iter().flatten()).chain([&upstream]);
        self.on.submit(all, |encoder| {
            step.backward(encoder);
            Ok(())
        })?;
        Ok(self.heads.iter().zip(outputs).map(|(head, output)| Some(head.unflattened(output?.tensor))).collect())
    }
}
