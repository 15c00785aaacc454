//! The vision transformer (Dosovitskiy et al. 2020) as BLIP has it (paper section 3.1):
//! salesforce/BLIP models/vit.py, after timm.

use tch::{Kind, Tensor};

use crate::config::VitConfig;
use crate::layers::{
    AttentionMask, ForwardMode, LayerNorm, Linear, attention, join_heads, linear, split_heads,
};
use crate::weights::Weights;

/// Patch embedding, pre-norm blocks, one layer norm over all tokens at the end.
#[derive(Debug)]
pub(crate) struct Vit {
    class_embedding: Tensor,
    position_embedding: Tensor,
    patch_weight: Tensor,
    patch_bias: Tensor,
    patch: i64,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    pub(crate) fn new(weights: &Weights, name: &str, config: &VitConfig) -> Self {
        let embedding = |rest: &str| weights.get(&format!("{name}.embeddings.{rest}"));
        let mut blocks = Vec::new();
        for layer in 0..config.depth {
            // Stochastic depth grows linearly over the blocks, from 0 in the first.
            let drop_path = config.drop_path * layer as f64 / (config.depth - 1).max(1) as f64;
            let name = format!("{name}.encoder.layers.{layer}");
            blocks.push(Block::new(weights, &name, config, drop_path));
        }
        Self {
            class_embedding: embedding("class_embedding"),
            position_embedding: embedding("position_embedding"),
            patch_weight: embedding("patch_embedding.weight"),
            patch_bias: embedding("patch_embedding.bias"),
            patch: config.patch,
            blocks,
            norm: LayerNorm::new(weights, &format!("{name}.post_layernorm"), config.eps),
        }
    }

    /// (B, 3, S, S) -> (B, T, C); token 0 is the class token, which stands for the whole image
    pub(crate) fn forward(&self, images: &Tensor, mode: ForwardMode) -> Tensor {
        let batch = images.size()[0];
        let patches = self.embed_patches(images, mode).to_kind(Kind::Float); // (B, T - 1, C)
        let class = self.class_embedding.expand([batch, -1, -1], false); // (B, 1, C)
        let tokens = Tensor::cat(&[class, patches], 1); // (B, T, C)
        let mut x = tokens + &self.position_embedding;
        for block in &self.blocks {
            x = block.forward(&x, mode);
        }
        self.norm.forward(&x)
    }

    /// The convolution whose stride is its kernel size, computed as the matrix product that it is:
    /// (B, 3, S, S) -> (B, patches, C)
    fn embed_patches(&self, images: &Tensor, mode: ForwardMode) -> Tensor {
        let (batch, channels, height, width) = images.size4().expect("a batch of images");
        let (rows, columns, side) = (height / self.patch, width / self.patch, self.patch);
        let patches = images
            .view([batch, channels, rows, side, columns, side])
            .permute([0, 2, 4, 1, 3, 5]) // (B, rows, columns, 3, side, side)
            .reshape([batch, rows * columns, channels * side * side]);
        let weight = self.patch_weight.view([-1, channels * side * side]); // (C, 3 * side * side)
        linear(&patches, &weight, Some(&self.patch_bias), mode)
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
    fn forward(&self, x: &Tensor, mode: ForwardMode) -> Tensor {
        let x = x + self.drop_path(&self.self_attention(&self.norm1.forward(x), mode), mode);
        &x + self.drop_path(&self.mlp(&self.norm2.forward(&x), mode), mode)
    }

    /// (B, T, C) -> (B, T, C)
    fn self_attention(&self, x: &Tensor, mode: ForwardMode) -> Tensor {
        let qkv = self.qkv.forward(x, mode).chunk(3, -1); // 3 of (B, T, C)
        let q = split_heads(&qkv[0], self.heads); // (B, heads, T, C / heads)
        let k = split_heads(&qkv[1], self.heads);
        let v = split_heads(&qkv[2], self.heads);
        let attended = attention(&q, &k, &v, AttentionMask::None, 0.0);
        self.projection.forward(&join_heads(&attended), mode)
    }

    /// (B, T, C) -> (B, T, C)
    fn mlp(&self, x: &Tensor, mode: ForwardMode) -> Tensor {
        let hidden = self.fc1.forward(x, mode).gelu("none"); // (B, T, mlp)
        self.fc2.forward(&hidden, mode)
    }

    /// Stochastic depth (Huang et al. 2016): while training, a share of the samples skips the
    /// branch.
    fn drop_path(&self, branch: &Tensor, mode: ForwardMode) -> Tensor {
        let branch = branch.to_kind(Kind::Float);
        if !mode.train || self.drop_path == 0.0 {
            return branch;
        }
        let keep = 1.0 - self.drop_path;
        let options = (Kind::Float, branch.device());
        let mask = Tensor::empty([branch.size()[0], 1, 1], options).bernoulli_float_(keep);
        branch * (mask / keep)
    }
}
