//! The text transformer of MED (paper section 3.1; salesforce/BLIP models/med.py): BERT with
//! cross-attention to the image in every layer.
//!
//! One set of layers, three modes: a text-only encoder (no cross-attention), an image-grounded
//! encoder and a causal image-grounded decoder. The image enters as [`CrossKv`]: its keys and
//! values for every layer, projected once for any number of texts, beams and decoding steps.

use tch::{Device, Kind, Tensor};

use crate::config::TextConfig;
use crate::layers::{
    AttentionMask, ForwardMode, LayerNorm, Linear, attention, dropout, join_heads, linear,
    split_heads,
};
use crate::tensors::shared_with_encoder;
use crate::weights::Weights;

/// BERT's embeddings and layers, used as encoder or as decoder.
#[derive(Debug)]
pub struct TextEncoder {
    word_embeddings: Tensor,
    position_embeddings: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    config: TextConfig,
}

/// Cross-attention keys and values of images, one pair per layer, each (images, heads, image
/// tokens, size).
#[derive(Debug)]
pub struct CrossKv(Vec<(Tensor, Tensor)>);

/// Self-attention keys and values of the tokens decoded so far, one pair per layer, each (rows,
/// heads, capacity, size), of which the first `length` tokens are filled in.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    length: i64,
}

impl CrossKv {
    /// The keys and values of these images, in this order; an image may occur several times.
    ///
    /// Computed as a product with one-hot rows. That is exact, and its gradient is a product too;
    /// the gradient of `index_select` adds row by row, in one thread on a CPU and in an
    /// unspecified order on a GPU.
    #[must_use]
    pub fn select(&self, images: &Tensor) -> Self {
        let pairs = self.0.iter();
        let selected =
            pairs.map(|(k, v)| (select_by_product(k, images), select_by_product(v, images)));
        Self(selected.collect())
    }
}

/// (images, heads, T, size), N indices -> (N, heads, T, size)
fn select_by_product(tensor: &Tensor, images: &Tensor) -> Tensor {
    let (count, heads, tokens, size) = tensor.size4().expect("keys or values of images");
    let one_hot = images.one_hot(count).to_kind(tensor.kind()); // (N, images)
    let rows = tensor
        .transpose(1, 2) // (images, T, heads, size)
        .reshape([count, tokens * heads * size]);
    one_hot
        .matmul(&rows) // (N, T * heads * size)
        .view([-1, tokens, heads, size])
        .transpose(1, 2)
}

impl KvCache {
    /// The cache of these rows, in this order: what a step of beam search keeps.
    #[must_use]
    pub fn select(&self, rows: &Tensor) -> Self {
        let mut layers = Vec::with_capacity(self.layers.len());
        for (keys, values) in &self.layers {
            layers.push((keys.index_select(0, rows), values.index_select(0, rows)));
        }
        Self { layers, ..*self }
    }
}

impl TextEncoder {
    /// The transformer whose tensors begin with `name`. Tensors that the pretrained decoder shares
    /// with the encoder are looked up under the encoder's name.
    pub fn new(weights: &Weights, name: &str, config: &TextConfig) -> Self {
        let embedding = |rest: &str| weights.get(&resolve(weights, &format!("{name}.{rest}")));
        let mut layers = Vec::new();
        for number in 0..config.depth {
            let name = format!("{name}.encoder.layer.{number}");
            layers.push(Layer::new(weights, &name, config));
        }
        Self {
            word_embeddings: embedding("embeddings.word_embeddings.weight"),
            position_embeddings: embedding("embeddings.position_embeddings.weight"),
            norm: layer_norm(weights, &format!("{name}.embeddings.LayerNorm"), config),
            layers,
            config: config.clone(),
        }
    }

    /// (vocab, C); also the output matrix of the language-modelling head.
    pub fn word_embeddings(&self) -> &Tensor {
        &self.word_embeddings
    }

    /// Projects images to keys and values of every layer: (B, image tokens, vision width)
    pub fn cross_kv(&self, images: &Tensor, mode: ForwardMode) -> CrossKv {
        let layers = self.layers.iter();
        let projected = layers.map(|layer| layer.cross_attention.keys_and_values(images, mode));
        CrossKv(projected.collect())
    }

    /// Encodes texts: ids (N, T) -> (N, T, C). `mask` (N, T) is true at tokens and false at
    /// padding. With keys and values of B images, N is a multiple of B and the texts of an image
    /// are adjacent.
    pub fn encode(
        &self,
        ids: &Tensor,
        mask: &Tensor,
        cross_kv: Option<&CrossKv>,
        mode: ForwardMode,
    ) -> Tensor {
        let padding = mask.unsqueeze(1).unsqueeze(1); // (N, 1, 1, T)
        let mask = AttentionMask::Padding(&padding);
        let mut x = self.embed(ids, 0, mode);
        for (number, layer) in self.layers.iter().enumerate() {
            let image = cross_kv.map(|cross_kv| &cross_kv.0[number]);
            let (k, v) = layer.self_attention.keys_and_values(&x, mode);
            x = layer.forward(&x, (&k, &v), mask, image, self.config.dropout, mode);
        }
        x
    }

    /// Decodes whole texts, each token attending to itself and those before it: ids (N, T) ->
    /// (N, T, C). Padding must be at the end: then no token that counts attends to it.
    pub fn decode(&self, ids: &Tensor, cross_kv: &CrossKv, mode: ForwardMode) -> Tensor {
        let mask = AttentionMask::Causal;
        let mut x = self.embed(ids, 0, mode);
        for (layer, image) in self.layers.iter().zip(&cross_kv.0) {
            let (k, v) = layer.self_attention.keys_and_values(&x, mode);
            x = layer.forward(&x, (&k, &v), mask, Some(image), self.config.dropout, mode);
        }
        x
    }

    /// An empty cache for so many rows and at most `capacity` tokens.
    pub fn kv_cache(&self, rows: i64, capacity: i64, kind: Kind, device: Device) -> KvCache {
        let size = self.config.width / self.config.heads;
        let shape = [rows, self.config.heads, capacity, size];
        let zeros = || Tensor::zeros(shape, (kind, device));
        KvCache {
            layers: self.layers.iter().map(|_| (zeros(), zeros())).collect(),
            length: 0,
        }
    }

    /// Decodes the tokens that follow those in the cache: ids (N, t) -> (N, t, C). Several tokens
    /// at once (t > 1) are allowed only with an empty cache, since the causal mask covers the new
    /// tokens alone.
    pub fn step(
        &self,
        ids: &Tensor,
        cache: &mut KvCache,
        cross_kv: &CrossKv,
        mode: ForwardMode,
    ) -> Tensor {
        let count = ids.size()[1];
        let (start, end) = (cache.length, cache.length + count);
        let mask = if count > 1 {
            AttentionMask::Causal
        } else {
            AttentionMask::None
        };
        let mut x = self.embed(ids, start, mode);
        let layers = self.layers.iter().zip(&cross_kv.0).zip(&mut cache.layers);
        for ((layer, image), (keys, values)) in layers {
            let (k, v) = layer.self_attention.keys_and_values(&x, mode);
            keys.narrow(2, start, count).copy_(&k);
            values.narrow(2, start, count).copy_(&v);
            let filled = (&keys.narrow(2, 0, end), &values.narrow(2, 0, end));
            x = layer.forward(&x, filled, mask, Some(image), 0.0, mode);
        }
        cache.length = end;
        x
    }

    /// ids (N, T), the first at position `start` -> (N, T, C)
    fn embed(&self, ids: &Tensor, start: i64, mode: ForwardMode) -> Tensor {
        let words = Tensor::embedding(&self.word_embeddings, ids, -1, false, false); // (N, T, C)
        let positions = self.position_embeddings.narrow(0, start, ids.size()[1]); // (T, C)
        let x = self.norm.forward(&(words + positions));
        dropout(&x, self.config.dropout, mode)
    }
}

/// The name itself, or the encoder's name where the decoder shares the tensor.
fn resolve(weights: &Weights, name: &str) -> String {
    if weights.has(name) {
        name.to_owned()
    } else {
        shared_with_encoder(name).unwrap_or_else(|| name.to_owned())
    }
}

fn dense(weights: &Weights, name: &str) -> Linear {
    let weight = resolve(weights, &format!("{name}.weight"));
    Linear::new(weights, weight.trim_end_matches(".weight"))
}

fn layer_norm(weights: &Weights, name: &str, config: &TextConfig) -> LayerNorm {
    let weight = resolve(weights, &format!("{name}.weight"));
    LayerNorm::new(weights, weight.trim_end_matches(".weight"), config.eps)
}

/// Self-attention, cross-attention, feed-forward; each followed by a residual and a layer norm.
#[derive(Debug)]
struct Layer {
    self_attention: Attention,
    cross_attention: Attention,
    intermediate: Linear,
    output: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn new(weights: &Weights, name: &str, config: &TextConfig) -> Self {
        let attention = |kind: &str| Attention::new(weights, &format!("{name}.{kind}"), config);
        Self {
            self_attention: attention("attention"),
            cross_attention: attention("crossattention"),
            intermediate: dense(weights, &format!("{name}.intermediate.dense")),
            output: dense(weights, &format!("{name}.output.dense")),
            norm: layer_norm(weights, &format!("{name}.output.LayerNorm"), config),
        }
    }

    /// (N, T, C) -> (N, T, C)
    fn forward(
        &self,
        x: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        mask: AttentionMask<'_>,
        image: Option<&(Tensor, Tensor)>,
        p: f64,
        mode: ForwardMode,
    ) -> Tensor {
        let attention = &self.self_attention;
        let mut x = attention.forward(x, (keys, values), mask, p, mode);
        if let Some((keys, values)) = image {
            let attention = &self.cross_attention;
            x = attention.forward(&x, (keys, values), AttentionMask::None, p, mode);
        }
        let hidden = self.intermediate.forward(&x, mode).gelu("none"); // (N, T, mlp)
        let output = dropout(&self.output.forward(&hidden, mode), p, mode); // (N, T, C)
        self.norm.forward(&(output + &x))
    }
}

#[derive(Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: LayerNorm,
    heads: i64,
}

impl Attention {
    fn new(weights: &Weights, name: &str, config: &TextConfig) -> Self {
        Self {
            query: dense(weights, &format!("{name}.self.query")),
            key: dense(weights, &format!("{name}.self.key")),
            value: dense(weights, &format!("{name}.self.value")),
            output: dense(weights, &format!("{name}.output.dense")),
            norm: layer_norm(weights, &format!("{name}.output.LayerNorm"), config),
            heads: config.heads,
        }
    }

    /// (B, T, from) -> 2 of (B, heads, T, size)
    fn keys_and_values(&self, x: &Tensor, mode: ForwardMode) -> (Tensor, Tensor) {
        let keys = split_heads(&self.key.forward(x, mode), self.heads);
        let values = split_heads(&self.value.forward(x, mode), self.heads);
        (keys, values)
    }

    /// (N, T, C) -> (N, T, C). Keys of B rows serve N / B adjacent rows each: the queries of those
    /// rows are joined to one longer row, so that keys and values need not be repeated.
    fn forward(
        &self,
        x: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        mask: AttentionMask<'_>,
        p: f64,
        mode: ForwardMode,
    ) -> Tensor {
        let (rows, length, width) = x.size3().expect("a batch of texts");
        let batch = keys.size()[0];
        let joined = x.view([batch, rows / batch * length, width]); // (B, N / B * T, C)
        let query = self.query.forward(&joined, mode);
        let query = split_heads(&query, self.heads); // (B, heads, N / B * T, size)
        let attention_dropout = if mode.train { p } else { 0.0 };
        let attended = attention(&query, keys, values, mask, attention_dropout);
        let attended = join_heads(&attended).view([rows, length, width]); // (N, T, C)
        let output = dropout(&self.output.forward(&attended, mode), p, mode);
        self.norm.forward(&(output + x))
    }
}

/// BERT's language-modelling head, whose output matrix is the word embeddings.
#[derive(Debug)]
pub struct LmHead {
    dense: Linear,
    norm: LayerNorm,
    bias: Tensor,
}

impl LmHead {
    pub fn new(weights: &Weights, name: &str, config: &TextConfig) -> Self {
        Self {
            dense: Linear::new(weights, &format!("{name}.transform.dense")),
            norm: LayerNorm::new(weights, &format!("{name}.transform.LayerNorm"), config.eps),
            bias: weights.get(&format!("{name}.bias")),
        }
    }

    /// (.., C) -> (.., vocab), in float32
    pub fn forward(&self, x: &Tensor, word_embeddings: &Tensor, mode: ForwardMode) -> Tensor {
        let x = self.dense.forward(x, mode).gelu("none");
        let x = self.norm.forward(&x);
        linear(&x, word_embeddings, Some(&self.bias), mode).to_kind(Kind::Float)
    }
}
