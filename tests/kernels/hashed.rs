//! Tensors that a device fills by itself: the same bytes as the host's.

use segloss::testing::{FILL, Tensors, fill};
use segloss::wgpu::util::DeviceExt as _;
use segloss::{Activation, FloatType, Head, LabelType, Loss, Target, Tensor, host, wgpu};

use crate::common::{Gpu, all_gpus, download};

/// What `FILL` writes to a tensor of this many bytes.
fn filled(gpu: &Gpu, settings: [u32; 10], bytes: usize) -> Vec<u8> {
    let words = u32::try_from(bytes.div_ceil(4)).expect("few");
    let contents: Vec<u32> = [0, words].into_iter().chain(settings).collect();
    let buffer = |contents: &[u8], usage| {
        gpu.device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
    };
    let uniform = buffer(bytemuck::cast_slice(&contents), wgpu::BufferUsages::UNIFORM);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let tensor = buffer(&vec![0; words as usize * 4], usage);
    let source = wgpu::ShaderSource::Wgsl(FILL.into());
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    });
    let entries = [&uniform, &tensor].map(wgpu::Buffer::as_entire_binding);
    let [uniform, storage] = entries;
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: uniform },
            wgpu::BindGroupEntry { binding: 1, resource: storage },
        ],
    });
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        // two rows of workgroups, as a large tensor has
        pass.dispatch_workgroups(words.div_ceil(128), 2, 1);
    }
    gpu.queue.submit([encoder.finish()]);
    download(gpu, &tensor)
}

/// The bytes, with what fills the last word behind them.
fn to_whole_words(mut bytes: Vec<u8>, elements: usize, bits: usize) -> Vec<u8> {
    bytes.truncate(elements * bits / 8);
    bytes.resize(bytes.len().next_multiple_of(4), 0xa5);
    bytes
}

#[test]
fn a_device_fills_tensors_of_every_type_with_the_bytes_of_the_host() {
    let floats = [FloatType::F32, FloatType::F16, FloatType::Bf16];
    let shape = [3, 5, 7, 11];
    for gpu in all_gpus() {
        for (index, label_type) in LabelType::ALL.into_iter().enumerate() {
            let head = Head::new(shape, Loss::torch_cross_entropy()).logits(floats[index % 3]).labels(label_type);
            let head = if label_type.range().contains(&-100) { head.ignore_index(-100) } else { head.ignore_index(4) };
            let head = head.mask(true).weight_map(true);
            // every other head has probabilities for logits
            let activation = if index % 2 == 0 { Activation::Softmax } else { Activation::None };
            let head = Head { loss: Loss { activation, ..head.loss.clone() }, ..head };
            let given = Tensors::hashed(&head, 7);
            let voxels = 3 * 7 * 11;
            let float = head.logits;
            let bits = if float == FloatType::F32 { 32 } else { 16 };
            let label_bits = label_type.bits() as usize;
            for (tensor, bytes, elements, bits) in [
                (Tensor::Logits, host::float_bytes(&given.logits, float), voxels * 5, bits),
                (Tensor::Target, host::label_bytes(&given.labels, label_type), voxels, label_bits),
                (Tensor::Mask, given.mask.clone(), voxels, 8),
                (Tensor::WeightMap, host::float_bytes(&given.weight_map, FloatType::F32), voxels, 32),
            ] {
                let settings = fill(&head, tensor, 7).expect("it is filled");
                let expected = to_whole_words(bytes, elements, bits);
                assert_eq!(filled(&gpu, settings, expected.len()), expected, "{}: {tensor}, {label_type:?}", gpu.name);
            }
            assert!(given.labels.iter().any(|label| *label == head.ignore_index.expect("it has one")), "ignored");
        }
        for float in floats {
            let head = Head::new(shape, Loss::torch_cross_entropy()).probabilities(float);
            assert!(matches!(head.target, Target::Probabilities(_)));
            let given = Tensors::hashed(&head, 2);
            let bits = if float == FloatType::F32 { 32 } else { 16 };
            let expected = to_whole_words(host::float_bytes(&given.probabilities, float), 3 * 5 * 7 * 11, bits);
            let settings = fill(&head, Tensor::Target, 2).expect("it is filled");
            assert_eq!(filled(&gpu, settings, expected.len()), expected, "{}: probabilities, {float:?}", gpu.name);
        }
    }
}

#[test]
fn hashed_logits_lie_evenly_in_plus_minus_4_and_tensors_differ() {
    let head = Head::new([1, 4, 1000], Loss::monai_dice_ce());
    let [one, other] = [1, 2].map(|seed| Tensors::hashed(&head, seed));
    assert_ne!(one.logits, other.logits);
    for part in 0..8_u8 {
        let low = f32::from(part) - 4.0;
        let here = one.logits.iter().filter(|&&x| x >= low && x < low + 1.0).count();
        assert!((400..600).contains(&here), "{here} of 4000 in [{low}, {})", low + 1.0);
    }
    for class in 0..4 {
        let here = one.labels.iter().filter(|&&label| label == class).count();
        assert!((200..300).contains(&here), "{here} of 1000 are {class}");
    }
}
