//! A small U-Net with deep supervision: three heads, at full, half and quarter resolution.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};

/// Channels at full, half, quarter and eighth resolution.
const CHANNELS: [usize; 4] = [8, 16, 16, 16];
/// How many resolutions have a head.
pub const HEADS: usize = 3;

/// The initialisation for a network without normalisation.
const HE: Initializer = Initializer::KaimingNormal { gain: std::f64::consts::SQRT_2, fan_out_only: false };

#[derive(Module, Debug)]
pub struct UNet {
    encoder: Vec<Block>,
    /// The decoder's blocks, from the lowest resolution up.
    decoder: Vec<Up>,
    heads: Vec<Conv2d>,
}

impl UNet {
    pub fn new(classes: usize, device: &Device) -> Self {
        let block = |level: usize| {
            let input = if level == 0 { 1 } else { CHANNELS[level - 1] };
            Block::new(input, CHANNELS[level], if level == 0 { 1 } else { 2 }, device)
        };
        let head = |level: usize| Conv2dConfig::new([CHANNELS[level], classes], [1, 1]).init(device);
        Self {
            encoder: (0..CHANNELS.len()).map(block).collect(),
            decoder: (0..HEADS).rev().map(|level| Up::new(level, device)).collect(),
            heads: (0..HEADS).map(head).collect(),
        }
    }

    /// The logits of each head, full resolution first.
    pub fn forward(&self, images: Tensor<4>) -> Vec<Tensor<4>> {
        let mut skips = Vec::with_capacity(CHANNELS.len());
        let mut features = images;
        for block in &self.encoder {
            features = block.forward(features);
            skips.push(features.clone());
        }
        skips.pop();
        let mut logits = Vec::with_capacity(HEADS);
        for (up, head) in self.decoder.iter().zip(self.heads.iter().rev()) {
            let Some(skip) = skips.pop() else { break };
            features = up.forward(features, skip);
            logits.push(head.forward(features.clone()));
        }
        logits.reverse();
        logits
    }
}

/// A convolution, which may halve the resolution.
#[derive(Module, Debug)]
struct Block {
    convolution: Conv2d,
}

impl Block {
    fn new(input: usize, output: usize, stride: usize, device: &Device) -> Self {
        let config = Conv2dConfig::new([input, output], [3, 3]).with_stride([stride, stride]);
        let config = config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).with_initializer(HE);
        Self { convolution: config.init(device) }
    }

    fn forward(&self, features: Tensor<4>) -> Tensor<4> {
        leaky_relu(self.convolution.forward(features), 0.01)
    }
}

/// Doubles the resolution, and appends the encoder's features of that resolution.
#[derive(Module, Debug)]
struct Up {
    up: ConvTranspose2d,
    block: Block,
}

impl Up {
    fn new(level: usize, device: &Device) -> Self {
        let (below, here) = (CHANNELS[level + 1], CHANNELS[level]);
        let up = ConvTranspose2dConfig::new([below, here], [2, 2]).with_stride([2, 2]).init(device);
        Self { up, block: Block::new(2 * here, here, 1, device) }
    }

    fn forward(&self, below: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        self.block.forward(Tensor::cat(vec![self.up.forward(below), skip], 1))
    }
}
