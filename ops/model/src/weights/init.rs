//! Initial values of tensors.

use tch::{Device, Kind, Tensor};

use crate::tensors::{Init, TensorSpec};

/// erf(2 / sqrt 2): the share of a normal distribution within two standard deviations.
const WITHIN_TWO_STD: f64 = 0.954_499_736_103_641_6;

/// On the CPU, whatever device the model is on: generators differ between devices.
pub(super) fn initial_value(spec: &TensorSpec, seed: u64) -> Tensor {
    tch::manual_seed(tensor_seed(seed, &spec.name).cast_signed());
    let empty = || Tensor::empty(spec.shape.as_slice(), (Kind::Float, Device::Cpu));
    match spec.init {
        Init::Fill(value) => empty().fill_(value),
        Init::Normal(std) => empty().normal_(0.0, std),
        Init::Uniform(bound) => empty().uniform_(-bound, bound),
        // By the inverse of the normal distribution, as timm does: no value is drawn twice.
        Init::TruncatedNormal(std) => {
            let uniform = empty().uniform_(-WITHIN_TWO_STD, WITHIN_TWO_STD);
            let normal = uniform.erfinv() * (std * std::f64::consts::SQRT_2);
            normal.clamp(-2.0 * std, 2.0 * std)
        }
    }
}

/// FNV-1a of the seed and the tensor's name.
fn tensor_seed(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_be_bytes().into_iter().chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
