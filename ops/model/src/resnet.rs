//! ResNet (He et al. 2015) in torchvision's layout, as the other image encoder: a feature map's
//! cells become tokens.

use tch::{Kind, Tensor};

use crate::config::ResNetConfig;
use crate::layers::Pass;
use crate::weights::Weights;

const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

#[derive(Debug)]
pub(crate) struct ResNet {
    conv1: Convolution,
    blocks: Vec<Bottleneck>,
}

impl ResNet {
    pub(crate) fn new(weights: &Weights, name: &str, config: &ResNetConfig) -> Self {
        let mut blocks = Vec::new();
        for (stage, count) in (1..).zip(config.blocks) {
            for block in 0..count {
                let stride = if block == 0 && stage > 1 { 2 } else { 1 };
                blocks.push(Bottleneck::new(
                    weights,
                    &format!("{name}.layer{stage}.{block}"),
                    stride,
                    block == 0,
                ));
            }
        }
        Self {
            conv1: Convolution::new(
                weights,
                &format!("{name}.conv1"),
                &format!("{name}.bn1"),
                2,
                3,
            ),
            blocks,
        }
    }

    /// (B, 3, S, S) -> (B, (S / 32)^2 + 1, width); token 0 is the mean of the others and stands for
    /// the whole image
    pub(crate) fn forward(&self, images: &Tensor, pass: Pass) -> Tensor {
        let mut x = max_pool(&self.conv1.forward(images, pass).relu());
        for block in &self.blocks {
            x = block.forward(&x, pass);
        }
        let cells = x.to_kind(Kind::Float).flatten(2, 3).transpose(1, 2); // (B, cells, width)
        let whole = cells.mean_dim([1_i64].as_slice(), true, Kind::Float); // (B, 1, width)
        Tensor::cat(&[whole, cells], 1)
    }
}

/// The largest of every 3 x 3 values, two apart, of what is not negative: (B, C, S, S) -> (B, C, S
/// / 2, S / 2)
fn max_pool(x: &Tensor) -> Tensor {
    if x.device().is_cuda() {
        max_of_shifts(x)
    } else {
        x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
    }
}

/// The same as the largest of nine shifted pictures. On a GPU the gradient of `max_pool2d` does not
/// have the same bits each time.
fn max_of_shifts(x: &Tensor) -> Tensor {
    let padded = x.constant_pad_nd([1, 1, 1, 1]);
    let every_second = |picture: &Tensor, dim: i64, from: i64| {
        let places = (x.size()[dim as usize] - 1) / 2 + 1;
        picture.slice(dim, from, from + 2 * places - 1, 2)
    };
    let shifts: Vec<Tensor> = (0..9)
        .map(|shift| every_second(&every_second(&padded, 2, shift / 3), 3, shift % 3))
        .collect();
    Tensor::stack(&shifts, 0).amax([0], false)
}

#[derive(Debug)]
struct Bottleneck {
    conv1: Convolution,
    conv2: Convolution,
    conv3: Convolution,
    downsample: Option<Convolution>,
}

impl Bottleneck {
    fn new(weights: &Weights, name: &str, stride: i64, first: bool) -> Self {
        let conv = |number: u32, stride, padding| {
            Convolution::new(
                weights,
                &format!("{name}.conv{number}"),
                &format!("{name}.bn{number}"),
                stride,
                padding,
            )
        };
        let downsample = || {
            Convolution::new(
                weights,
                &format!("{name}.downsample.0"),
                &format!("{name}.downsample.1"),
                stride,
                0,
            )
        };
        Self {
            conv1: conv(1, 1, 0),
            conv2: conv(2, stride, 1),
            conv3: conv(3, 1, 0),
            downsample: first.then(downsample),
        }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let inner = self.conv1.forward(x, pass).relu();
        let inner = self.conv2.forward(&inner, pass).relu();
        let branch = self.conv3.forward(&inner, pass);
        let straight = self
            .downsample
            .as_ref()
            .map_or_else(|| x.shallow_clone(), |down| down.forward(x, pass));
        (branch + straight).relu()
    }
}

/// A convolution without bias and the batch norm behind it.
#[derive(Debug)]
struct Convolution {
    kernel: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    stride: i64,
    padding: i64,
}

impl Convolution {
    fn new(weights: &Weights, convolution: &str, norm: &str, stride: i64, padding: i64) -> Self {
        Self {
            kernel: weights.get(&format!("{convolution}.weight")),
            weight: weights.get(&format!("{norm}.weight")),
            bias: weights.get(&format!("{norm}.bias")),
            mean: weights.get(&format!("{norm}.running_mean")),
            variance: weights.get(&format!("{norm}.running_var")),
            stride,
            padding,
        }
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let kind = if pass.bf16 {
            Kind::BFloat16
        } else {
            Kind::Float
        };
        let stride = [self.stride; 2];
        let padding = [self.padding; 2];
        let map = x.to_kind(kind).conv2d(
            &self.kernel.to_kind(kind),
            None::<Tensor>,
            stride,
            padding,
            [1, 1],
            1,
        );
        map.to_kind(Kind::Float).batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.mean),
            Some(&self.variance),
            pass.train,
            MOMENTUM,
            EPS,
            false,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_of_nine_shifts_is_the_largest_of_nine_neighbours() {
        let _turn = crate::device::exclusive().unwrap();
        for side in [1, 2, 7, 8] {
            let x = Tensor::randn([2, 3, side, side], (Kind::Float, tch::Device::Cpu)).relu();
            assert_eq!(
                max_of_shifts(&x),
                x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
            );
        }
    }
}
