//! The vision transformer (Dosovitskiy et al. 2020) as BLIP has it: salesforce/BLIP models/vit.py,
//! after timm.

use tch::{Kind, Tensor};

use crate::config::VitConfig;
use crate::layers::{LayerNorm, Linear, Looks, Pass, attention, join_heads, linear, split_heads};
use crate::weights::Weights;

/// Patches to tokens, pre-norm blocks, one layer norm over all tokens at the end.
#[derive(Debug)]
pub(crate) struct Vit {
    class: Tensor,
    positions: Tensor,
    patch_weight: Tensor,
    patch_bias: Tensor,
    patch: i64,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    pub(crate) fn new(weights: &Weights, name: &str, config: &VitConfig) -> Self {
        let block = |layer: i64| {
            // Stochastic depth grows linearly over the blocks, from nothing in the first.
            let share = config.drop_path * layer as f64 / (config.depth - 1).max(1) as f64;
            Block::new(
                weights,
                &format!("{name}.encoder.layers.{layer}"),
                config,
                share,
            )
        };
        Self {
            class: weights.get(&format!("{name}.embeddings.class_embedding")),
            positions: weights.get(&format!("{name}.embeddings.position_embedding")),
            patch_weight: weights.get(&format!("{name}.embeddings.patch_embedding.weight")),
            patch_bias: weights.get(&format!("{name}.embeddings.patch_embedding.bias")),
            patch: config.patch,
            blocks: (0..config.depth).map(block).collect(),
            norm: LayerNorm::new(weights, &format!("{name}.post_layernorm"), config.eps),
        }
    }

    /// (B, 3, S, S) -> (B, tokens, width); token 0 stands for the whole image
    pub(crate) fn forward(&self, images: &Tensor, pass: Pass) -> Tensor {
        let batch = images.size()[0];
        let patches = self.patches(images, pass); // (B, tokens - 1, width)
        let class = self.class.expand([batch, -1, -1], false);
        let mut x = Tensor::cat(&[class, patches.to_kind(Kind::Float)], 1) + &self.positions; // (B, tokens, width)
        for block in &self.blocks {
            x = block.forward(&x, pass);
        }
        self.norm.forward(&x)
    }

    /// The convolution whose stride is its side, as the matrix product that it is: (B, 3, S, S) ->
    /// (B, patches, width)
    fn patches(&self, images: &Tensor, pass: Pass) -> Tensor {
        let (batch, channels, height, width) = images.size4().expect("a batch of images");
        let (rows, columns, side) = (height / self.patch, width / self.patch, self.patch);
        let cut = images
            .view([batch, channels, rows, side, columns, side])
            .permute([0, 2, 4, 1, 3, 5]);
        let flat = cut.reshape([batch, rows * columns, channels * side * side]);
        let weight = self.patch_weight.view([-1, channels * side * side]);
        linear(&flat, &weight, Some(&self.patch_bias), pass)
    }
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    projection: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
    drop_path: f64,
}

impl Block {
    fn new(weights: &Weights, name: &str, config: &VitConfig, drop_path: f64) -> Self {
        Self {
            norm1: LayerNorm::new(weights, &format!("{name}.layer_norm1"), config.eps),
            qkv: Linear::new(weights, &format!("{name}.self_attn.qkv")),
            projection: Linear::new(weights, &format!("{name}.self_attn.projection")),
            norm2: LayerNorm::new(weights, &format!("{name}.layer_norm2"), config.eps),
            fc1: Linear::new(weights, &format!("{name}.mlp.fc1")),
            fc2: Linear::new(weights, &format!("{name}.mlp.fc2")),
            heads: config.heads,
            drop_path,
        }
    }

    /// (B, T, C) -> (B, T, C)
    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let qkv = self.qkv.forward(&self.norm1.forward(x), pass).chunk(3, -1); // 3 of (B, T, C)
        let heads = |part: &Tensor| split_heads(part, self.heads); // (B, heads, T, C / heads)
        let seen = attention(
            &heads(&qkv[0]),
            &heads(&qkv[1]),
            &heads(&qkv[2]),
            Looks::Everywhere,
            0.0,
        );
        let x = x + self.keep(&self.projection.forward(&join_heads(&seen), pass), pass);
        let inner = self.fc1.forward(&self.norm2.forward(&x), pass).gelu("none"); // (B, T, mlp)
        &x + self.keep(&self.fc2.forward(&inner, pass), pass)
    }

    /// Stochastic depth (Huang et al. 2016): while training, a share of the samples skips the
    /// branch.
    fn keep(&self, branch: &Tensor, pass: Pass) -> Tensor {
        let branch = branch.to_kind(Kind::Float);
        if !pass.train || self.drop_path == 0.0 {
            return branch;
        }
        let kept = 1.0 - self.drop_path;
        let mask = Tensor::empty([branch.size()[0], 1, 1], (Kind::Float, branch.device()))
            .bernoulli_float_(kept);
        branch * (mask / kept)
    }
}
