//! The text transformer of MED (paper section 3.1, salesforce/BLIP models/med.py): BERT with
//! cross-attention in every layer.
//!
//! One graph, three modes: an encoder of texts alone (no cross-attention), an encoder of texts with
//! an image, and a causal decoder with an image. The image comes in as [`Memory`]: its keys and
//! values for every layer, projected once however many texts, beams or steps look at them.

use tch::{Device, Kind, Tensor};

use crate::config::TextConfig;
use crate::layers::{
    LayerNorm, Linear, Looks, Pass, attention, dropout, join_heads, linear, split_heads,
};
use crate::tensors::shared_with_encoder;
use crate::weights::Weights;

/// Embeddings and layers.
#[derive(Debug)]
pub struct TextEncoder {
    words: Tensor,
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    config: TextConfig,
}

/// Keys and values of images, one pair per layer, each (images, heads, image tokens, size).
#[derive(Debug)]
pub struct Memory(Vec<(Tensor, Tensor)>);

/// Keys and values of the tokens decoded so far, one pair per layer, each (rows, heads, room,
/// size).
#[derive(Debug)]
pub struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    length: i64,
}

impl Memory {
    /// The memory of these images, in this order; one may come several times.
    ///
    /// A product with rows of one 1 each: exact, and its gradient is a product too, where that of
    /// `index_select` adds row by row, on a CPU in one thread and on a GPU in any order.
    #[must_use]
    pub fn select(&self, images: &Tensor) -> Self {
        let pick = |tensor: &Tensor| {
            let (count, heads, tokens, size) = tensor.size4().expect("keys or values of images");
            let chosen = images.one_hot(count).to_kind(tensor.kind()); // (N, images)
            let rows = tensor
                .transpose(1, 2)
                .reshape([count, tokens * heads * size]);
            chosen
                .matmul(&rows)
                .view([-1, tokens, heads, size])
                .transpose(1, 2) // (N, heads, image tokens, size)
        };
        Self(
            self.0
                .iter()
                .map(|(keys, values)| (pick(keys), pick(values)))
                .collect(),
        )
    }
}

impl Cache {
    /// The cache of these rows, in this order: what a beam search keeps.
    #[must_use]
    pub fn select(&self, rows: &Tensor) -> Self {
        let pick = |tensor: &Tensor| tensor.index_select(0, rows);
        Self {
            layers: self
                .layers
                .iter()
                .map(|(keys, values)| (pick(keys), pick(values)))
                .collect(),
            ..*self
        }
    }
}

impl TextEncoder {
    /// The transformer whose tensors begin with `name`; what the pretrained decoder shares with the
    /// encoder is looked up there.
    pub fn new(weights: &Weights, name: &str, config: &TextConfig) -> Self {
        let name = |rest: &str| format!("{name}.{rest}");
        let layer = |number| Layer::new(weights, &name(&format!("encoder.layer.{number}")), config);
        Self {
            words: weights.get(&find(weights, &name("embeddings.word_embeddings.weight"))),
            positions: weights.get(&find(
                weights,
                &name("embeddings.position_embeddings.weight"),
            )),
            norm: layer_norm(weights, &name("embeddings.LayerNorm"), config),
            layers: (0..config.depth).map(layer).collect(),
            config: config.clone(),
        }
    }

    /// The word embeddings, (vocab, width): the language-modelling head multiplies by them.
    pub fn words(&self) -> &Tensor {
        &self.words
    }

    /// Keys and values of images for every layer: (B, image tokens, vision width) -> [`Memory`]
    pub fn memory(&self, images: &Tensor, pass: Pass) -> Memory {
        let project = |layer: &Layer| layer.cross.keys_and_values(images, pass);
        Memory(self.layers.iter().map(project).collect())
    }

    /// Encodes texts: ids (N, L) -> (N, L, width). `mask` (N, L) is true at tokens and false at
    /// padding. With a memory of B images, N is a multiple of B and the texts of an image stand
    /// together.
    pub fn encode(
        &self,
        ids: &Tensor,
        mask: &Tensor,
        memory: Option<&Memory>,
        pass: Pass,
    ) -> Tensor {
        let keys = mask.unsqueeze(1).unsqueeze(1); // (N, 1, 1, L)
        let mut x = self.embed(ids, 0, pass);
        for (at, layer) in self.layers.iter().enumerate() {
            let image = memory.map(|memory| &memory.0[at]);
            let (k, v) = layer.own.keys_and_values(&x, pass);
            x = layer.forward(
                &x,
                (&k, &v),
                Looks::Where(&keys),
                image,
                self.config.dropout,
                pass,
            );
        }
        x
    }

    /// Decodes whole texts, each token seeing those before it: ids (N, L) -> (N, L, width). Padding
    /// has to stand at the end: no token that counts then sees it.
    pub fn decode(&self, ids: &Tensor, memory: &Memory, pass: Pass) -> Tensor {
        let mut x = self.embed(ids, 0, pass);
        for (layer, image) in self.layers.iter().zip(&memory.0) {
            let (k, v) = layer.own.keys_and_values(&x, pass);
            x = layer.forward(
                &x,
                (&k, &v),
                Looks::Back,
                Some(image),
                self.config.dropout,
                pass,
            );
        }
        x
    }

    /// An empty cache for this many rows and tokens.
    pub fn cache(&self, rows: i64, room: i64, kind: Kind, device: Device) -> Cache {
        let size = self.config.width / self.config.heads;
        let empty = || Tensor::zeros([rows, self.config.heads, room, size], (kind, device));
        Cache {
            layers: self.layers.iter().map(|_| (empty(), empty())).collect(),
            length: 0,
        }
    }

    /// Decodes further tokens: ids (N, t) behind those in the cache -> (N, t, width). Several at a
    /// time only into an empty cache.
    pub fn step(&self, ids: &Tensor, cache: &mut Cache, memory: &Memory, pass: Pass) -> Tensor {
        let count = ids.size()[1];
        let (start, end) = (cache.length, cache.length + count);
        let looks = if count > 1 {
            Looks::Back
        } else {
            Looks::Everywhere
        };
        let mut x = self.embed(ids, start, pass);
        for ((layer, image), (keys, values)) in
            self.layers.iter().zip(&memory.0).zip(&mut cache.layers)
        {
            let (k, v) = layer.own.keys_and_values(&x, pass);
            keys.narrow(2, start, count).copy_(&k);
            values.narrow(2, start, count).copy_(&v);
            let known = (&keys.narrow(2, 0, end), &values.narrow(2, 0, end));
            x = layer.forward(&x, known, looks, Some(image), 0.0, pass);
        }
        cache.length = end;
        x
    }

    /// Words and positions: ids (N, L), the first at position `start` -> (N, L, width)
    fn embed(&self, ids: &Tensor, start: i64, pass: Pass) -> Tensor {
        let words = Tensor::embedding(&self.words, ids, -1, false, false);
        let positions = self.positions.narrow(0, start, ids.size()[1]);
        dropout(
            &self.norm.forward(&(words + positions)),
            self.config.dropout,
            pass,
        )
    }
}

/// The name itself, or the encoder's where the decoder shares the tensor.
fn find(weights: &Weights, name: &str) -> String {
    if weights.has(name) {
        name.to_owned()
    } else {
        shared_with_encoder(name).unwrap_or_else(|| name.to_owned())
    }
}

fn dense(weights: &Weights, name: &str) -> Linear {
    let weight = find(weights, &format!("{name}.weight"));
    Linear::new(weights, weight.trim_end_matches(".weight"))
}

fn layer_norm(weights: &Weights, name: &str, config: &TextConfig) -> LayerNorm {
    let weight = find(weights, &format!("{name}.weight"));
    LayerNorm::new(weights, weight.trim_end_matches(".weight"), config.eps)
}

/// Self-attention, cross-attention, feed-forward; a residual and a layer norm behind each.
#[derive(Debug)]
struct Layer {
    own: Attention,
    cross: Attention,
    intermediate: Linear,
    output: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn new(weights: &Weights, name: &str, config: &TextConfig) -> Self {
        Self {
            own: Attention::new(weights, &format!("{name}.attention"), config),
            cross: Attention::new(weights, &format!("{name}.crossattention"), config),
            intermediate: dense(weights, &format!("{name}.intermediate.dense")),
            output: dense(weights, &format!("{name}.output.dense")),
            norm: layer_norm(weights, &format!("{name}.output.LayerNorm"), config),
        }
    }

    /// (N, L, C) -> (N, L, C)
    fn forward(
        &self,
        x: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        looks: Looks<'_>,
        image: Option<&(Tensor, Tensor)>,
        share: f64,
        pass: Pass,
    ) -> Tensor {
        let mut x = self.own.forward(x, keys, values, looks, share, pass);
        if let Some((keys, values)) = image {
            x = self
                .cross
                .forward(&x, keys, values, Looks::Everywhere, share, pass);
        }
        let inner = self.intermediate.forward(&x, pass).gelu("none"); // (N, L, mlp)
        self.norm
            .forward(&(dropout(&self.output.forward(&inner, pass), share, pass) + &x))
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
    fn keys_and_values(&self, x: &Tensor, pass: Pass) -> (Tensor, Tensor) {
        let part = |layer: &Linear| split_heads(&layer.forward(x, pass), self.heads);
        (part(&self.key), part(&self.value))
    }

    /// (N, L, C) -> (N, L, C). Keys of B rows serve N / B neighbouring rows each: their queries are
    /// lined up as one longer row.
    fn forward(
        &self,
        x: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        looks: Looks<'_>,
        share: f64,
        pass: Pass,
    ) -> Tensor {
        let (rows, length, width) = x.size3().expect("a batch of texts");
        let sets = keys.size()[0];
        let together = x.view([sets, rows / sets * length, width]);
        let query = split_heads(&self.query.forward(&together, pass), self.heads); // (B, heads, N / B * L, size)
        let share = if pass.train { share } else { 0.0 };
        let seen =
            join_heads(&attention(&query, keys, values, looks, share)).view([rows, length, width]);
        self.norm
            .forward(&(dropout(&self.output.forward(&seen, pass), share, pass) + x))
    }
}

/// BERT's language-modelling head, whose output matrix is the word embeddings.
#[derive(Debug)]
pub struct Head {
    dense: Linear,
    norm: LayerNorm,
    bias: Tensor,
}

impl Head {
    /// The head whose tensors begin with `name`.
    pub fn new(weights: &Weights, name: &str, config: &TextConfig) -> Self {
        Self {
            dense: Linear::new(weights, &format!("{name}.transform.dense")),
            norm: LayerNorm::new(weights, &format!("{name}.transform.LayerNorm"), config.eps),
            bias: weights.get(&format!("{name}.bias")),
        }
    }

    /// (.., width) -> (.., vocab), in 32 bits
    pub fn forward(&self, x: &Tensor, words: &Tensor, pass: Pass) -> Tensor {
        let x = self.norm.forward(&self.dense.forward(x, pass).gelu("none"));
        linear(&x, words, Some(&self.bias), pass).to_kind(Kind::Float)
    }
}
