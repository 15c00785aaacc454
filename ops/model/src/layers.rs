//! What both transformers are made of: linear layers, layer norms, attention over heads.

use tch::{Kind, Tensor};

use crate::weights::Weights;

/// How a forward pass is done.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pass {
    /// With dropout and stochastic depth.
    pub train: bool,
    /// Multiply matrices in bfloat16: weights and inputs are rounded, sums, norms and losses stay
    /// in 32 bits (autocast).
    pub bf16: bool,
}

impl Pass {
    /// Neither dropout nor rounding.
    pub const EVAL: Pass = Pass {
        train: false,
        bf16: false,
    };

    /// The kind in which matrices are multiplied.
    fn kind(self) -> Kind {
        if self.bf16 {
            Kind::BFloat16
        } else {
            Kind::Float
        }
    }
}

/// `y = x W^T + b`
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// The layer of this name.
    pub fn new(weights: &Weights, name: &str) -> Self {
        Self {
            weight: weights.get(&format!("{name}.weight")),
            bias: weights.get(&format!("{name}.bias")),
        }
    }

    /// (.., from) -> (.., to), in the kind of the pass
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        linear(x, &self.weight, Some(&self.bias), pass)
    }
}

/// `x W^T + b` in the kind of the pass.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, pass: Pass) -> Tensor {
    let kind = pass.kind();
    x.to_kind(kind)
        .linear(&weight.to_kind(kind), bias.map(|bias| bias.to_kind(kind)))
}

/// Normalisation over the last dimension, always in 32 bits.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// The layer of this name.
    pub fn new(weights: &Weights, name: &str, eps: f64) -> Self {
        Self {
            weight: weights.get(&format!("{name}.weight")),
            bias: weights.get(&format!("{name}.bias")),
            eps,
        }
    }

    /// (.., width) -> (.., width)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(Kind::Float).layer_norm(
            self.weight.size(),
            Some(&self.weight),
            Some(&self.bias),
            self.eps,
            false,
        )
    }
}

/// (B, L, width) -> (B, heads, L, width / heads)
pub fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let (batch, length, width) = x.size3().expect("a batch of sequences of vectors");
    x.view([batch, length, heads, width / heads])
        .transpose(1, 2)
}

/// (B, heads, L, size) -> (B, L, heads * size)
pub fn join_heads(x: &Tensor) -> Tensor {
    let (batch, heads, length, size) = x.size4().expect("a batch of heads of sequences of vectors");
    x.transpose(1, 2).reshape([batch, length, heads * size])
}

/// Where a query may look.
#[derive(Clone, Copy, Debug)]
pub enum Looks<'m> {
    /// At every key.
    Everywhere,
    /// Where this is true; spread over the heads: (B or 1, 1, queries or 1, keys).
    Where(&'m Tensor),
    /// At itself and what comes before.
    Back,
}

/// softmax(q k^T / sqrt(size)) v over (B, heads, L, size).
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, looks: Looks<'_>, dropout: f64) -> Tensor {
    let (mask, causal) = match looks {
        Looks::Everywhere => (None, false),
        Looks::Where(mask) => (Some(mask), false),
        Looks::Back => (None, true),
    };
    Tensor::scaled_dot_product_attention(q, k, v, mask, dropout, causal, None::<f64>, false)
}

/// Drops a share of the values while training.
pub fn dropout(x: &Tensor, share: f64, pass: Pass) -> Tensor {
    if pass.train && share > 0.0 {
        x.dropout(share, true)
    } else {
        x.shallow_clone()
    }
}
