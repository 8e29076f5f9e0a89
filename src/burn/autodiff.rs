//! The total as a node of burn's graph.
//!
//! The number of a node's parents is a compile-time constant in burn, but a loss has any number of heads. So the total
//! is a chain of nodes, one per head in the graph. The parents of each are the previous node and the logits of its head, and
//! all nodes have the value of the total. The incoming gradient reaches the last node first, which runs the gradient kernel
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

use super::backend;
use super::bound::{Bound, scalar_f32};
use super::device::BurnDevice;
use super::heads::{BoundHead, ResolvedHead, Tracked};
use super::lane::{Clock, Lane};
use crate::error::Error;
use crate::gpu::dispatch::Stage;
use crate::layout::tensors::HeadTensors;
use crate::layout::words::UPSTREAM;
use crate::plan::Plan;

/// The nodes of the heads' logits in burn's graph.
pub(super) struct Graph {
    context: DispatchAutodiffContext,
    /// With the index of the head.
    nodes: Vec<(usize, Tracked)>,
}

impl Graph {
    /// `heads`: of each, its context and its node, where it has one.
    pub fn new(heads: impl Iterator<Item = (DispatchAutodiffContext, Option<Tracked>)>) -> Self {
        let mut graph = Self { context: DispatchAutodiffContext::Disabled, nodes: Vec::new() };
        for (index, (context, node)) in heads.enumerate() {
            if graph.context == DispatchAutodiffContext::Disabled {
                graph.context = context;
            }
            graph.nodes.extend(node.filter(Tracked::is_tracked).map(|node| (index, node)));
        }
        graph
    }

    /// The total as a burn tensor, and as a node of the graph where some logits are in it.
    pub fn total(self, value: FloatTensor<Cube>, forward: Forward) -> Tensor<1> {
        let Self { context, nodes } = self;
        let kind = if context == DispatchAutodiffContext::Disabled {
            DispatchTensorKind::Cube(BackendTensor::Float(value))
        } else {
            let total = BackendTensor::Autodiff(chain(nodes, &value, forward));
            DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Cube(total)))
        };
        Tensor::from_dispatch(DispatchTensor { kind, autodiff: context })
    }
}

fn chain(nodes: Vec<(usize, Tracked)>, value: &FloatTensor<Cube>, forward: Forward) -> Tracked {
    let loss = Arc::new(Loss(Mutex::new(State::Forward(Box::new(forward)))));
    let mut total = Autodiff::<Cube>::from_inner(value.clone());
    for (head, logits) in nodes {
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
    Forward(Box<Forward>),
    /// The gradients that the nodes have not passed on yet.
    Backward(Vec<Option<FloatTensor<Cube>>>),
}

/// What a forward leaves for the backward: its lane, with the coefficients, and the tensors.
pub(super) struct Forward {
    pub on: BurnDevice,
    pub plan: Plan,
    pub lane: Arc<Lane>,
    pub clock: Arc<Clock>,
    pub heads: Vec<ResolvedHead>,
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
        if let State::Forward(forward) = &*state {
            // a backward of burn's cannot return an error
            let gradients = forward.backward(incoming).unwrap_or_else(|error| panic!("segloss: {error}"));
            *state = State::Backward(gradients);
        }
        match &mut *state {
            State::Backward(gradients) => gradients[head].take(),
            State::Forward(_) => None,
        }
    }
}

impl Forward {
    fn backward(&self, incoming: &FloatTensor<Cube>) -> Result<Vec<Option<FloatTensor<Cube>>>, Error> {
        let outputs: Vec<_> = self.heads.iter().map(|head| head.gradient(&self.on.cube)).collect();
        let upstream = backend::resolve(vec![incoming.clone()])?.pop().expect("one tensor");
        let upstream = scalar_f32(upstream)?;
        let inputs = self.heads.iter().map(ResolvedHead::bound).collect::<Result<Vec<_>, _>>()?;
        let bound = outputs.iter().map(|output| output.clone().map(Bound::new).transpose());
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        let bindings: Vec<HeadTensors<'_>> = inputs
            .iter()
            .zip(&bound)
            .map(|(head, gradient)| match gradient {
                Some(gradient) => head.bindings().gradient(gradient.binding()),
                None => head.bindings(),
            })
            .collect();
        let step = self.lane.step(&self.plan, Stage::Backward, &bindings, &self.clock)?;
        let all = inputs.iter().flat_map(BoundHead::all).chain(bound.iter().flatten()).chain([&upstream]);
        self.on.submit(all, |encoder| {
            // so that the gradient stage needs no binding for it
            let (from, to) = (upstream.binding(), &step.stages.scratch.coefficients);
            encoder.copy_buffer_to_buffer(from.buffer, from.offset, to, u64::from(UPSTREAM) * 4, 4);
            step.backward(encoder);
            Ok(())
        })?;
        let unflattened =
            |(head, output): (&ResolvedHead, Option<_>)| Some(backend::register(head.unflattened(output?)));
        Ok(self.heads.iter().zip(outputs).map(unflattened).collect())
    }
}
