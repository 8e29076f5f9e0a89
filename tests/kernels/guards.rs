//! No stage changes the bytes around a bound range, whatever the tensors hold, with runtime checks and without.

use std::num::NonZeroU64;
use std::ops::Range;

use segloss::host::{float_bytes, label_bytes};
use segloss::{
    Activation, FloatType, Gradient, HardCounts, Head, HeadTensors, LabelType, Loss, LossSpec, Overlap, Pixel, Step,
    Target, Variant, wgpu,
};

use crate::common::{Gpu, all_gpus, download, random_tensors, storage};

const GUARD: u8 = 0xa5;

/// What a head's tensors hold.
#[derive(Clone, Copy, PartialEq)]
enum Contents {
    Ordinary,
    /// Random bits: NaN of every kind, labels outside the classes, masks that are neither 0 nor 1.
    Garbage,
}

/// A tensor inside a buffer, with guard bytes before and behind it.
struct Guarded {
    buffer: wgpu::Buffer,
    /// The expected bytes of the whole buffer.
    contents: Vec<u8>,
    span: Range<usize>,
}

impl Guarded {
    /// With `before` elements and `behind` bytes of guard; with 0 behind, the tensor ends in the buffer's last word.
    fn new(gpu: &Gpu, bytes: &[u8], element: usize, before: usize, behind: usize) -> Self {
        let span = before * element..before * element + bytes.len();
        let mut contents = vec![GUARD; span.start];
        contents.extend_from_slice(bytes);
        contents.resize((span.end + behind).next_multiple_of(4), GUARD);
        Self { buffer: storage(gpu, &contents), contents, span }
    }

    fn binding(&self) -> wgpu::BufferBinding<'_> {
        wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: self.span.start as u64,
            size: NonZeroU64::new(self.span.len() as u64),
        }
    }

    /// Fails if a byte changed that the stage must not write.
    fn check(&mut self, gpu: &Gpu, written: bool, what: &str) {
        let now = download(gpu, &self.buffer);
        if written {
            self.contents[self.span.clone()].copy_from_slice(&now[self.span.clone()]);
        }
        let changed = now.iter().zip(&self.contents).position(|(now, before)| now != before);
        assert_eq!(changed, None, "{}: {what}: {:?} of {} bytes", gpu.name, self.span, now.len());
    }
}

/// A head's tensors, in this order: logits, target, gradient, mask, weight map, sample mask, voxel losses.
struct GuardedHead {
    tensors: [Option<Guarded>; 7],
}

const NAMES: [&str; 7] = ["logits", "target", "gradient", "mask", "weight_map", "sample_mask", "voxel_losses"];
const GRADIENT: usize = 2;
const VOXEL_LOSSES: usize = 6;

impl GuardedHead {
    fn new(gpu: &Gpu, head: &Head, contents: Contents, before: usize, behind: usize, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let tensors = random_tensors(head, 3.0, &mut random);
        let voxels = head.items() * head.voxels();
        let float = |float: FloatType| if float == FloatType::F32 { 4 } else { 2 };
        let (target, target_element) = match head.target {
            Target::Labels(labels) => (label_bytes(&tensors.labels, labels), labels.bits() as usize / 8),
            Target::Probabilities(kind) => (float_bytes(&tensors.probabilities, kind), float(kind)),
            _ => unreachable!("there are no other targets"),
        };
        let mut place = |wanted: bool, bytes: &[u8], elements: usize, element: usize, read: bool| {
            let mut bytes = bytes.to_vec();
            bytes.resize(elements * element, GUARD);
            if contents == Contents::Garbage && read {
                random.fill(&mut bytes);
            }
            wanted.then(|| Guarded::new(gpu, &bytes, element, before, behind))
        };
        let (logits, element) = (float_bytes(&tensors.logits, head.logits), float(head.logits));
        let weights: Vec<u8> = bytemuck::pod_collect_to_vec(&tensors.weight_map);
        let all = voxels * head.classes();
        Self {
            tensors: [
                place(true, &logits, all, element, true),
                place(true, &target, head.target_elements(), target_element, true),
                place(true, &[], all, element, false),
                place(head.mask, &tensors.mask, voxels, 1, true),
                place(head.weight_map, &weights, voxels, 4, true),
                place(head.sample_mask, &tensors.sample_mask, head.items(), 1, true),
                place(head.unreduced && head.loss.pixel.is_some(), &[], voxels, 4, false),
            ],
        }
    }

    fn bindings(&self) -> HeadTensors<'_> {
        let [logits, target, gradient, mask, weight_map, sample_mask, voxel_losses] =
            self.tensors.each_ref().map(|tensor| tensor.as_ref().map(Guarded::binding));
        HeadTensors {
            logits: logits.expect("every head has logits"),
            target: target.expect("every head has a target"),
            gradient: gradient.map(Gradient::Overwrite),
            mask: mask.map(Into::into),
            weight_map,
            sample_mask: sample_mask.map(Into::into),
            voxel_losses,
        }
    }

    fn check(&mut self, gpu: &Gpu, written: Option<usize>, what: &str) {
        for (index, (tensor, name)) in self.tensors.iter_mut().zip(NAMES).enumerate() {
            if let Some(tensor) = tensor {
                tensor.check(gpu, written == Some(index), &format!("{what}: {name}"));
            }
        }
    }
}

/// Every type of every tensor; rows of odd length and of multiples of 4; few classes, many, and more than a workgroup
/// holds.
fn spec() -> LossSpec {
    let both = || Loss::new().overlap(Overlap::dice()).pixel(Pixel::cross_entropy().label_smoothing(0.1));
    let sigmoid = Loss { activation: Activation::Sigmoid, ..Loss::monai_dice().pixel(Pixel::binary_cross_entropy()) };
    LossSpec::new()
        .head(Head::new([2, 3, 3, 5], both()).logits(FloatType::F16).mask(true).sample_mask(true).unreduced(true))
        .head(Head::new([3, 2, 1], both()).labels(LabelType::U16).logits(FloatType::Bf16).weight_map(true))
        .head(Head::new([2, 5, 7], Loss::nnunet_dc_topk()).labels(LabelType::I32).unreduced(true).ignore_index(-1))
        .head(Head::new([1, 9, 9], both()).labels(LabelType::U32).logits(FloatType::F16).check_finite(true))
        .head(Head::new([2, 4, 8, 8], Loss::monai_focal()).mask(true).weight_map(true).hard_counts(HardCounts::Item))
        .head(Head::new([2, 3, 5], sigmoid.clone()).probabilities(FloatType::F16).logits(FloatType::F16))
        .head(Head::new([1, 5, 11], both()).probabilities(FloatType::Bf16).unreduced(true).mask(true))
        .head(Head::new([1, 3, 12], sigmoid).probabilities(FloatType::F32).logits(FloatType::Bf16).weight_map(true))
        .head(Head::new([2, 3, 7, 5], both()).labels(LabelType::U8).resample([3, 11]))
}

/// Variants, and the specification of each. A driver's compiler takes most of the time, so the heads are distributed
/// over the first two variants: each head is compiled for both ways of holding its classes, but not for all three
/// workgroup sizes.
fn variants(gpu: &Gpu) -> [(Variant, LossSpec); 3] {
    // heads of more than two classes are split over the invocations of a workgroup
    let default =
        Variant { register_classes: 2, register_classes_last: 3, split_classes: 3, ..Variant::for_device(&gpu.device) };
    // with two heads per dispatch, each selects its own slots
    let wide = Variant { invocations: 64, fold_invocations: 64, heads_per_dispatch: 2, ..default };
    // classes are streamed
    let streamed = Variant { invocations: 16, split_classes: 0, chunk: 3, tile: 64, ..default };
    let every_other = |first: usize| LossSpec { heads: spec().heads.into_iter().skip(first).step_by(2).collect() };
    [(default, every_other(0)), (wide, every_other(1)), (streamed, spec())]
}

fn submit(gpu: &Gpu, encode: impl FnOnce(&mut wgpu::CommandEncoder)) {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encode(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
}

fn every_stage(gpu: &Gpu, step: &Step, heads: &mut [GuardedHead], what: &str) {
    let mut check = |stage: &str, written: Option<usize>| {
        heads
            .iter_mut()
            .enumerate()
            .for_each(|(h, head)| head.check(gpu, written, &format!("{what}: {stage}: head {h}")));
    };
    step.warm_up().expect("it warms up");
    check("warm-up", None);
    submit(gpu, |encoder| step.statistics(encoder));
    check("statistics", Some(VOXEL_LOSSES));
    submit(gpu, |encoder| step.combine(encoder));
    check("combine", None);
    submit(gpu, |encoder| step.finish(encoder));
    check("finish", None);
    submit(gpu, |encoder| step.gradient(encoder));
    check("gradient", Some(GRADIENT));
}

fn guards_hold(unchecked: bool) {
    for gpu in all_gpus() {
        // streamed classes without bounds checks alone: those would hide what goes astray
        let most = if unchecked { 3 } else { 2 };
        for ((variant, spec), number) in variants(&gpu).into_iter().zip(0..).take(most) {
            let variant = Variant { unchecked, ..variant };
            let plan = gpu.plans.with_variant(&spec, variant).expect("the plan is made");
            // at the start of a buffer, at odd elements, past the offset alignment, and up to the buffer's end
            let places = [(0, 256), (1, 0), (3, 64), (131, 0)];
            let both = [Contents::Ordinary, Contents::Garbage];
            for ((before, behind), contents) in places.iter().flat_map(|&at| both.map(|contents| (at, contents))) {
                let mut heads: Vec<_> = (spec.heads.iter().zip(73..))
                    .map(|(head, seed)| GuardedHead::new(&gpu, head, contents, before, behind, seed))
                    .collect();
                let bindings: Vec<_> = heads.iter().map(GuardedHead::bindings).collect();
                let step = plan.bind(&bindings).expect("the tensors are bound");
                every_stage(&gpu, &step, &mut heads, &format!("variant {number}, {before} elements before"));
                let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                let pending = step.report(&mut encoder).expect("a staging buffer is free");
                gpu.queue.submit([encoder.finish()]);
                let report = pending.read_blocking().expect("the report arrives");
                for (head, report) in spec.heads.iter().zip(&report.heads) {
                    let all = u64::from(report.counted) + u64::from(report.ignored) + u64::from(report.out_of_range);
                    if let Target::Labels(_) = head.target {
                        assert_eq!(all, (head.items() * head.voxels()) as u64, "{}: {report:?}", gpu.name);
                    }
                }
            }
        }
    }
}

#[test]
fn guards_hold_around_ordinary_tensors_and_random_bits() {
    guards_hold(false);
}

#[test]
fn guards_hold_around_ordinary_tensors_and_random_bits_without_bounds_checks() {
    guards_hold(true);
}
