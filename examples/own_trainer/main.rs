//! A trainer without a framework: the forward, the backward and the optimiser are WGSL of its own (network.wgsl), and the loss
//! stands between them, in one compute pass on the same buffers.
//!
//! The network learns to tell discs and stripes from noise in pictures that are drawn anew in each step.
//!
//!     cargo run --example own_trainer

use anyhow::{Context as _, Result, ensure};
use segloss::{AdapterChoice, ClassCounts, HardCounts, Head, HeadTensors, Loss, LossSpec, Plan, wgpu};

const STEPS: usize = 300;
/// Pictures per step, their sides, and the channels between the network's two layers.
const ITEMS: usize = 4;
const HEIGHT: usize = 64;
const WIDTH: usize = 64;
const HIDDEN: usize = 12;
const CLASSES: [&str; 3] = ["noise", "disc", "stripes"];
const PIXELS: usize = HEIGHT * WIDTH;
const PARAMETERS: usize = HIDDEN * 10 + CLASSES.len() * (HIDDEN + 1);
/// Adam's learning rate.
const RATE: f64 = 0.01;
/// The Dice that every class of the last pictures must reach.
const GOAL: f64 = 0.9;

fn main() -> Result<()> {
    let (device, queue) = AdapterChoice::default().open()?;
    let buffer = |label, floats: usize| {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let size = 4 * floats as u64;
        device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
    };
    let image = buffer("image", ITEMS * PIXELS);
    let hidden = buffer("hidden", ITEMS * HIDDEN * PIXELS);
    let logits = buffer("logits", ITEMS * CLASSES.len() * PIXELS);
    let d_logits = buffer("gradient of the logits", ITEMS * CLASSES.len() * PIXELS);
    let d_hidden = buffer("gradient of the hidden layer", ITEMS * HIDDEN * PIXELS);
    let parameters = buffer("parameters", PARAMETERS);
    let moments = buffer("moments of Adam", 2 * PARAMETERS);
    let steps = buffer("steps", 1);
    // one byte per label
    let labels = buffer("labels", ITEMS * PIXELS / 4);

    // the loss, on the network's own buffers
    let head = Head::new([ITEMS, CLASSES.len(), HEIGHT, WIDTH], Loss::monai_dice_ce()).hard_counts(HardCounts::Batch);
    let plan = Plan::new(&device, &queue, &LossSpec::new().head(head))?;
    let tensors = HeadTensors::new(logits.as_entire_buffer_binding(), labels.as_entire_buffer_binding());
    let step = plan.bind(&[tensors.gradient(d_logits.as_entire_buffer_binding())])?;

    let own = [&image, &hidden, &logits, &d_logits, &d_hidden, &parameters, &moments, &steps];
    let network = Network::new(&device, &own);
    let mut random = fastrand::Rng::with_seed(3);
    let start: Vec<f32> = (0..PARAMETERS).map(|_| random.f32() * 0.6 - 0.3).collect();
    queue.write_buffer(&parameters, 0, bytemuck::cast_slice(&start));

    let mut last = Vec::new();
    for number in 1..=STEPS {
        let (picture, truth) = pictures(&mut random);
        queue.write_buffer(&image, 0, bytemuck::cast_slice(&picture));
        queue.write_buffer(&labels, 0, &truth);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            network.dispatch(&mut pass, "forward", ITEMS * PIXELS / 64);
            step.forward(&mut pass);
            step.backward(&mut pass);
            network.dispatch(&mut pass, "backward", ITEMS * PIXELS / 64);
            network.dispatch(&mut pass, "update", PARAMETERS);
            network.dispatch(&mut pass, "count", 1);
        }
        let report = step.report(&mut encoder)?;
        queue.submit([encoder.finish()]);
        // a real trainer reads it later, when it has arrived: `try_read`
        if number % 50 == 0 {
            let report = report.read_blocking()?;
            let counts = report.heads[0].hard_counts.as_ref().context("hard counts were asked for")?;
            last = counts.iter().copied().map(ClassCounts::dice).collect();
            let dice = CLASSES.iter().zip(&last).map(|(class, dice)| format!("{class} {dice:.3}"));
            println!("step {number}: loss {:.4}; Dice: {}", report.total, dice.collect::<Vec<_>>().join(", "));
        }
    }
    ensure!(last.iter().all(|dice| *dice >= GOAL), "expected a Dice of at least {GOAL} for every class, got {last:?}");
    Ok(())
}

/// The kernels of network.wgsl, which share one bind group.
struct Network {
    pipelines: Vec<(&'static str, wgpu::ComputePipeline)>,
    bindings: wgpu::BindGroup,
}

impl Network {
    fn new(device: &wgpu::Device, buffers: &[&wgpu::Buffer]) -> Self {
        let entry = |binding: usize| wgpu::BindGroupLayoutEntry {
            binding: u32::try_from(binding).expect("a few"),
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                // image and gradient of the logits
                ty: wgpu::BufferBindingType::Storage { read_only: [0, 3].contains(&binding) },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = (0..buffers.len()).map(entry).collect();
        let layout =
            device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bindings =
            device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        let module = device.create_shader_module(wgpu::include_wgsl!("network.wgsl"));
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let sizes =
            [("ITEMS", ITEMS), ("HEIGHT", HEIGHT), ("WIDTH", WIDTH), ("HIDDEN", HIDDEN), ("CLASSES", CLASSES.len())];
        #[expect(clippy::cast_precision_loss, reason = "small sizes")]
        let constants: Vec<_> =
            sizes.map(|(name, size)| (name, size as f64)).into_iter().chain([("RATE", RATE)]).collect();
        let pipeline = |entry_point| {
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(entry_point),
                layout: Some(&layout),
                module: &module,
                entry_point: Some(entry_point),
                compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
                cache: None,
            });
            (entry_point, pipeline)
        };
        Self { pipelines: ["forward", "backward", "update", "count"].map(pipeline).into(), bindings }
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, kernel: &str, workgroups: usize) {
        let (_, pipeline) = self.pipelines.iter().find(|(name, _)| *name == kernel).expect("a kernel of this name");
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(u32::try_from(workgroups).expect("a few"), 1, 1);
    }
}

/// Pictures of noise with a bright disc and a striped one, and the class of each pixel.
fn pictures(random: &mut fastrand::Rng) -> (Vec<f32>, Vec<u8>) {
    let (mut image, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..ITEMS {
        #[expect(clippy::cast_precision_loss, reason = "small sizes")]
        let mut at = |side: usize| (0.2 + 0.6 * random.f32()) * side as f32;
        let discs = [[at(WIDTH), at(HEIGHT), 12.0], [at(WIDTH), at(HEIGHT), 15.0]];
        for pixel in 0..PIXELS {
            #[expect(clippy::cast_precision_loss, reason = "small sizes")]
            let [x, y] = [pixel % WIDTH, pixel / WIDTH].map(|x| x as f32);
            let inside = discs.map(|[left, top, radius]| (x - left).powi(2) + (y - top).powi(2) < radius * radius);
            let (class, value) = match inside {
                [true, _] => (1, 1.0),
                [_, true] => (2, if pixel % 2 == 0 { 0.8 } else { -0.8 }),
                _ => (0, 0.0),
            };
            labels.push(class);
            image.push(value + (random.f32() - 0.5) * 0.6);
        }
    }
    (image, labels)
}
