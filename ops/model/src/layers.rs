//! Building blocks of both transformers: linear layers, layer norm, multi-head attention
//! (Vaswani et al. 2017).

use tch::{Kind, Tensor};

use crate::weights::Weights;

/// How a forward pass is computed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ForwardMode {
    /// With dropout and stochastic depth, and batch norm from the batch's statistics.
    pub train: bool,
    /// Mixed precision as autocast does it: matrix products in bfloat16, norms, sums and losses in
    /// float32.
    pub bf16: bool,
}

impl ForwardMode {
    /// Evaluation in float32.
    pub const EVAL: ForwardMode = ForwardMode {
        train: false,
        bf16: false,
    };

    /// The dtype of matrix products.
    pub(crate) fn dtype(self) -> Kind {
        if self.bf16 {
            Kind::BFloat16
        } else {
            Kind::Float
        }
    }
}

/// `torch.nn.Linear`: `y = x W^T + b`.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub fn new(weights: &Weights, name: &str) -> Self {
        Self {
            weight: weights.get(&format!("{name}.weight")),
            bias: weights.get(&format!("{name}.bias")),
        }
    }

    /// (.., in) -> (.., out), in the mode's dtype
    pub fn forward(&self, x: &Tensor, mode: ForwardMode) -> Tensor {
        linear(x, &self.weight, Some(&self.bias), mode)
    }
}

/// `x W^T + b` in the mode's dtype.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, mode: ForwardMode) -> Tensor {
    let dtype = mode.dtype();
    let weight = weight.to_kind(dtype);
    let bias = bias.map(|bias| bias.to_kind(dtype));
    x.to_kind(dtype).linear(&weight, bias)
}

/// `torch.nn.LayerNorm` over the last dimension, always in float32.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub fn new(weights: &Weights, name: &str, eps: f64) -> Self {
        Self {
            weight: weights.get(&format!("{name}.weight")),
            bias: weights.get(&format!("{name}.bias")),
            eps,
        }
    }

    /// (.., C) -> (.., C)
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

/// (B, T, C) -> (B, heads, T, C / heads)
pub fn split_heads(x: &Tensor, heads: i64) -> Tensor {
    let (batch, length, width) = x.size3().expect("a batch of sequences of vectors");
    x.view([batch, length, heads, width / heads]) // (B, T, heads, C / heads)
        .transpose(1, 2)
}

/// (B, heads, T, size) -> (B, T, heads * size)
pub fn join_heads(x: &Tensor) -> Tensor {
    let (batch, heads, length, size) = x.size4().expect("a batch of heads of sequences of vectors");
    x.transpose(1, 2) // (B, T, heads, size)
        .reshape([batch, length, heads * size])
}

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug)]
pub enum AttentionMask<'m> {
    /// All of them.
    None,
    /// Those where this is true: (B, 1, 1, keys), broadcast over heads and queries.
    Padding(&'m Tensor),
    /// Itself and the ones before it.
    Causal,
}

/// softmax(q k^T / sqrt(size)) v, over (B, heads, T, size).
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: AttentionMask<'_>,
    dropout: f64,
) -> Tensor {
    let (mask, causal) = match mask {
        AttentionMask::None => (None, false),
        AttentionMask::Padding(mask) => (Some(mask), false),
        AttentionMask::Causal => (None, true),
    };
    Tensor::scaled_dot_product_attention(q, k, v, mask, dropout, causal, None::<f64>, false)
}

/// `torch.nn.Dropout`: active only while training.
pub fn dropout(x: &Tensor, p: f64, mode: ForwardMode) -> Tensor {
    if mode.train && p > 0.0 {
        x.dropout(p, true)
    } else {
        x.shallow_clone()
    }
}
