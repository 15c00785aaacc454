//! ResNet (He et al. 2015) in torchvision's layout, the alternative image encoder: the cells of the
//! last feature map become tokens.

use tch::{Kind, Tensor};

use crate::config::ResNetConfig;
use crate::layers::ForwardMode;
use crate::weights::Weights;

/// Of batch norm: `momentum` and `eps` as torchvision leaves them.
const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

#[derive(Debug)]
pub(crate) struct ResNet {
    conv1: ConvNorm,
    blocks: Vec<Bottleneck>,
}

impl ResNet {
    pub(crate) fn new(weights: &Weights, name: &str, config: &ResNetConfig) -> Self {
        let conv = format!("{name}.conv1");
        let norm = format!("{name}.bn1");
        let conv1 = ConvNorm::new(weights, &conv, &norm, 2, 3);
        let mut blocks = Vec::new();
        for (stage, count) in (1..).zip(config.blocks) {
            for block in 0..count {
                let stride = if block == 0 && stage > 1 { 2 } else { 1 };
                let name = format!("{name}.layer{stage}.{block}");
                blocks.push(Bottleneck::new(weights, &name, stride, block == 0));
            }
        }
        Self { conv1, blocks }
    }

    /// (B, 3, S, S) -> (B, (S / 32)^2 + 1, C); token 0, the mean of the others, stands for the
    /// whole image
    pub(crate) fn forward(&self, images: &Tensor, mode: ForwardMode) -> Tensor {
        let mut x = max_pool(&self.conv1.forward(images, mode).relu()); // (B, channels, S/4, S/4)
        for block in &self.blocks {
            x = block.forward(&x, mode);
        }
        let cells = x.to_kind(Kind::Float).flatten(2, 3).transpose(1, 2); // (B, cells, C)
        let mean = cells.mean_dim([1_i64].as_slice(), true, Kind::Float); // (B, 1, C)
        Tensor::cat(&[mean, cells], 1)
    }
}

/// Max pooling, 3 x 3 with stride 2, of values that are not negative:
/// (B, C, S, S) -> (B, C, S / 2, S / 2)
fn max_pool(x: &Tensor) -> Tensor {
    if x.device().is_cuda() {
        max_of_shifts(x)
    } else {
        x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)
    }
}

/// The same as the maximum of nine shifted feature maps: on a GPU the gradient of `max_pool2d` is
/// not deterministic. Padding with zeros equals padding with -inf, since no value is negative.
fn max_of_shifts(x: &Tensor) -> Tensor {
    let padded = x.constant_pad_nd([1, 1, 1, 1]);
    let every_second = |map: &Tensor, dim: i64, start: i64| {
        let count = (x.size()[dim as usize] - 1) / 2 + 1;
        map.slice(dim, start, start + 2 * count - 1, 2)
    };
    let mut shifts = Vec::with_capacity(9);
    for shift in 0..9 {
        let rows = every_second(&padded, 2, shift / 3);
        shifts.push(every_second(&rows, 3, shift % 3));
    }
    Tensor::stack(&shifts, 0).amax([0], false)
}

#[derive(Debug)]
struct Bottleneck {
    conv1: ConvNorm,
    conv2: ConvNorm,
    conv3: ConvNorm,
    downsample: Option<ConvNorm>,
}

impl Bottleneck {
    fn new(weights: &Weights, name: &str, stride: i64, first: bool) -> Self {
        let conv = |number: u32, stride, padding| {
            let conv = format!("{name}.conv{number}");
            let norm = format!("{name}.bn{number}");
            ConvNorm::new(weights, &conv, &norm, stride, padding)
        };
        let downsample = first.then(|| {
            let conv = format!("{name}.downsample.0");
            let norm = format!("{name}.downsample.1");
            ConvNorm::new(weights, &conv, &norm, stride, 0)
        });
        Self {
            conv1: conv(1, 1, 0),
            conv2: conv(2, stride, 1),
            conv3: conv(3, 1, 0),
            downsample,
        }
    }

    /// (B, from, S, S) -> (B, to, S / stride, S / stride)
    fn forward(&self, x: &Tensor, mode: ForwardMode) -> Tensor {
        let hidden = self.conv1.forward(x, mode).relu();
        let hidden = self.conv2.forward(&hidden, mode).relu();
        let branch = self.conv3.forward(&hidden, mode);
        let identity = match &self.downsample {
            Some(downsample) => downsample.forward(x, mode),
            None => x.shallow_clone(),
        };
        (branch + identity).relu()
    }
}

/// A convolution without bias, followed by batch norm.
#[derive(Debug)]
struct ConvNorm {
    kernel: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    stride: i64,
    padding: i64,
}

impl ConvNorm {
    fn new(weights: &Weights, conv: &str, norm: &str, stride: i64, padding: i64) -> Self {
        Self {
            kernel: weights.get(&format!("{conv}.weight")),
            weight: weights.get(&format!("{norm}.weight")),
            bias: weights.get(&format!("{norm}.bias")),
            running_mean: weights.get(&format!("{norm}.running_mean")),
            running_var: weights.get(&format!("{norm}.running_var")),
            stride,
            padding,
        }
    }

    fn forward(&self, x: &Tensor, mode: ForwardMode) -> Tensor {
        let dtype = mode.dtype();
        let map = x.to_kind(dtype).conv2d(
            &self.kernel.to_kind(dtype),
            None::<Tensor>,
            [self.stride; 2],
            [self.padding; 2],
            [1, 1],
            1,
        );
        map.to_kind(Kind::Float).batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.running_mean),
            Some(&self.running_var),
            mode.train,
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
    fn the_maximum_of_shifts_equals_max_pooling() {
        let _device_lock = crate::device::lock().unwrap();
        for side in [1, 2, 7, 8] {
            let x = Tensor::randn([2, 3, side, side], (Kind::Float, tch::Device::Cpu)).relu();
            let expected = x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false);
            assert_eq!(max_of_shifts(&x), expected);
        }
    }
}
