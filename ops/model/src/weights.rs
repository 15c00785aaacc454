//! The tensors of a model in one flat buffer, each a view of it, so that the optimizer and the
//! moving averages are a few operations on one tensor and not thousands on small ones.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor, no_grad};

use crate::tensors::{Init, TensorSpec};

/// Views begin at multiples of this many values: 64 bytes, as the matrix kernels like it.
const ALIGNMENT: i64 = 16;
/// Longest list of names in a message.
const NAMES_MAX: usize = 8;

/// The tensors of a model. All are 32-bit floats.
#[derive(Debug)]
pub struct Weights {
    flat: Tensor,
    /// Trained tensors, ascending by name, with where they begin in `flat`.
    trained: Vec<(String, i64, Tensor)>,
    places: BTreeMap<String, usize>,
    statistics: BTreeMap<String, Tensor>,
}

/// Tensors that do not make the model.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mismatch {
    /// Names the model has and the file lacks.
    pub missing: Vec<String>,
    /// Names the file has and the model lacks.
    pub unexpected: Vec<String>,
    /// Name, shape found, shape due.
    pub misshapen: Vec<(String, Vec<i64>, Vec<i64>)>,
    /// Names of tensors that hold infinities or NaN.
    pub not_finite: Vec<String>,
}

impl Mismatch {
    fn is_none(&self) -> bool {
        self == &Self::default()
    }

    /// Takes a tensor off the lists; says whether it was on one.
    pub fn waive(&mut self, name: &str) -> bool {
        let before = self.clone();
        for list in [
            &mut self.missing,
            &mut self.unexpected,
            &mut self.not_finite,
        ] {
            list.retain(|listed| listed != name);
        }
        self.misshapen.retain(|(listed, ..)| listed != name);
        *self != before
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let some = |names: &[String]| {
            let more = names.len().saturating_sub(NAMES_MAX);
            let listed = names
                .iter()
                .take(NAMES_MAX)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ");
            if more > 0 {
                format!("{listed} and {more} more")
            } else {
                listed
            }
        };
        let misshapen: Vec<String> = self
            .misshapen
            .iter()
            .map(|(name, found, due)| format!("{name} (is {found:?}, due is {due:?})"))
            .collect();
        let kinds = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("of another shape", &misshapen),
            ("not finite", &self.not_finite),
        ];
        let parts: Vec<String> = kinds
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(what, names)| format!("{what}: {}", some(names)))
            .collect();
        f.write_str(&parts.join("; "))
    }
}

impl std::error::Error for Mismatch {}

impl Weights {
    /// New tensors with their first values. Each draws from a stream of its own, made of `seed` and
    /// its name, so a part begins with the same values in whatever model it is. The caller holds
    /// [`crate::device::exclusive`].
    pub fn fresh(specs: &[TensorSpec], seed: u64, device: Device) -> Self {
        let weights = Self::zeros(specs, device);
        no_grad(|| {
            for spec in specs {
                let mut tensor = weights.get(&spec.name);
                tensor.copy_(&first_value(spec, seed));
            }
        });
        weights
    }

    /// Tensors with the values found. What is not in `specs` counts as unexpected.
    ///
    /// # Errors
    /// [`Mismatch`] names everything that does not fit.
    pub fn load(
        specs: &[TensorSpec],
        found: &BTreeMap<String, Tensor>,
        device: Device,
    ) -> Result<Self, Mismatch> {
        let mismatch = Self::compare(specs, found);
        if !mismatch.is_none() {
            return Err(mismatch);
        }
        let weights = Self::zeros(specs, device);
        no_grad(|| {
            for spec in specs {
                weights.get(&spec.name).copy_(&found[&spec.name]);
            }
        });
        Ok(weights)
    }

    /// What of the values found does not make these tensors. What is not in `specs` counts as
    /// unexpected.
    pub fn compare(specs: &[TensorSpec], found: &BTreeMap<String, Tensor>) -> Mismatch {
        let mut mismatch = Mismatch::default();
        let known: BTreeMap<&str, &TensorSpec> = specs
            .iter()
            .map(|spec| (spec.name.as_str(), spec))
            .collect();
        for spec in specs {
            match found.get(&spec.name) {
                None => mismatch.missing.push(spec.name.clone()),
                Some(tensor) if tensor.size() != spec.shape => {
                    mismatch
                        .misshapen
                        .push((spec.name.clone(), tensor.size(), spec.shape.clone()));
                }
                Some(tensor) if !finite(tensor) => mismatch.not_finite.push(spec.name.clone()),
                Some(_) => {}
            }
        }
        mismatch.unexpected = found
            .keys()
            .filter(|name| !known.contains_key(name.as_str()))
            .cloned()
            .collect();
        mismatch
    }

    fn zeros(specs: &[TensorSpec], device: Device) -> Self {
        let mut end = 0;
        let mut places: Vec<(&TensorSpec, i64)> = Vec::new();
        let mut ordered: Vec<&TensorSpec> = specs.iter().filter(|spec| spec.trained).collect();
        ordered.sort_by(|left, right| left.name.cmp(&right.name));
        for spec in ordered {
            places.push((spec, end));
            let size: i64 = spec.shape.iter().product();
            end += size.div_euclid(ALIGNMENT) * ALIGNMENT
                + if size % ALIGNMENT == 0 { 0 } else { ALIGNMENT };
        }
        let flat = Tensor::zeros([end], (Kind::Float, device));
        let view = |spec: &TensorSpec, start: i64| {
            flat.narrow(0, start, spec.shape.iter().product())
                .view(spec.shape.as_slice())
        };
        let trained: Vec<(String, i64, Tensor)> = places
            .iter()
            .map(|(spec, start)| (spec.name.clone(), *start, view(spec, *start)))
            .collect();
        let statistic = |spec: &&TensorSpec| !spec.trained;
        let statistics = specs.iter().filter(statistic);
        let statistics = statistics
            .map(|spec| {
                (
                    spec.name.clone(),
                    Tensor::zeros(spec.shape.as_slice(), (Kind::Float, device)),
                )
            })
            .collect();
        let places = trained
            .iter()
            .enumerate()
            .map(|(at, (name, ..))| (name.clone(), at))
            .collect();
        Self {
            flat,
            trained,
            places,
            statistics,
        }
    }

    /// Says that gradients are wanted from here on.
    #[must_use]
    pub fn with_gradients(mut self) -> Self {
        for (.., tensor) in &mut self.trained {
            *tensor = tensor.detach().set_requires_grad(true);
        }
        self
    }

    /// A tensor by name, sharing its values.
    ///
    /// # Panics
    /// When there is none: the model asks for what its own list does not have.
    pub fn get(&self, name: &str) -> Tensor {
        match self.places.get(name) {
            Some(place) => self.trained[*place].2.shallow_clone(),
            None => match self.statistics.get(name) {
                Some(tensor) => tensor.shallow_clone(),
                None => panic!("the model has no tensor `{name}`"),
            },
        }
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name) || self.statistics.contains_key(name)
    }

    /// All tensors with their names, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let trained = self
            .trained
            .iter()
            .map(|(name, _, tensor)| (name.as_str(), tensor));
        let statistics = self
            .statistics
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor));
        let all: BTreeMap<&str, &Tensor> = trained.chain(statistics).collect();
        all.into_iter()
    }

    /// The trained tensors, ascending by name.
    pub fn trained(&self) -> impl Iterator<Item = &Tensor> {
        self.trained.iter().map(|(.., tensor)| tensor)
    }

    /// Statistics, which training moves without gradients.
    pub fn statistics(&self) -> &BTreeMap<String, Tensor> {
        &self.statistics
    }

    /// The buffer behind all trained tensors, without gradients.
    pub fn flat(&self) -> Tensor {
        self.flat.shallow_clone()
    }

    /// Gradients of the trained tensors, in their order, laid out as the buffer is. An undefined
    /// one counts as zero.
    pub fn lay_out(&self, gradients: &[Tensor]) -> Tensor {
        let mut flat = self.flat.zeros_like();
        no_grad(|| {
            for ((_, start, tensor), gradient) in self.trained.iter().zip(gradients) {
                if gradient.defined() {
                    flat.narrow(0, *start, tensor.numel() as i64)
                        .copy_(&gradient.reshape([-1]));
                }
            }
            flat = flat.detach();
        });
        flat
    }

    /// The part of a buffer like [`Weights::flat`] that belongs to a trained tensor, in the
    /// tensor's shape.
    ///
    /// # Panics
    /// When there is no such trained tensor.
    pub fn part(&self, flat: &Tensor, name: &str) -> Tensor {
        let place = self
            .places
            .get(name)
            .unwrap_or_else(|| panic!("the model trains no tensor `{name}`"));
        let (_, start, tensor) = &self.trained[*place];
        flat.narrow(0, *start, tensor.numel() as i64)
            .view(tensor.size().as_slice())
    }

    /// A copy without gradients of the tensors that `wanted` picks.
    pub fn copy_of(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let spec = |name: &str, tensor: &Tensor, trained| TensorSpec {
            name: name.to_owned(),
            shape: tensor.size(),
            init: Init::Fill(0.0),
            trained,
        };
        let trained = self
            .trained
            .iter()
            .map(|(name, _, tensor)| spec(name, tensor, true));
        let statistics = self
            .statistics
            .iter()
            .map(|(name, tensor)| spec(name, tensor, false));
        let specs: Vec<TensorSpec> = trained
            .chain(statistics)
            .filter(|spec| wanted(&spec.name))
            .collect();
        let copy = Self::zeros(&specs, self.flat.device());
        no_grad(|| {
            specs
                .iter()
                .for_each(|spec| copy.get(&spec.name).copy_(&self.get(&spec.name)))
        });
        copy
    }

    /// Overwrites the values with those of another model's tensors, as far as `self` has them.
    ///
    /// # Errors
    /// [`Mismatch`] when one is missing or of another shape; nothing is changed then.
    pub fn restore(&mut self, found: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        let mut mismatch = Mismatch::default();
        for (name, tensor) in self.iter() {
            match found.get(name) {
                None => mismatch.missing.push(name.to_owned()),
                Some(other) if other.size() != tensor.size() => {
                    mismatch
                        .misshapen
                        .push((name.to_owned(), other.size(), tensor.size()));
                }
                Some(_) => {}
            }
        }
        if !mismatch.is_none() {
            return Err(mismatch);
        }
        no_grad(|| {
            let names: Vec<String> = self.iter().map(|(name, _)| name.to_owned()).collect();
            names
                .iter()
                .for_each(|name| self.get(name).copy_(&found[name]));
        });
        Ok(())
    }
}

fn finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || tensor.isfinite().all().int64_value(&[]) == 1
}

fn first_value(spec: &TensorSpec, seed: u64) -> Tensor {
    tch::manual_seed(stream(seed, &spec.name).cast_signed());
    let empty = || Tensor::empty(spec.shape.as_slice(), (Kind::Float, Device::Cpu));
    match spec.init {
        Init::Fill(value) => empty().fill_(value),
        Init::Normal(std) => empty().normal_(0.0, std),
        Init::Uniform(bound) => empty().uniform_(-bound, bound),
        // By the inverse of the normal distribution, as timm does: no value has to be drawn twice.
        Init::TruncatedNormal(std) => {
            let edge = 0.954_499_736_103_641_6; // erf(2 / sqrt 2)
            (empty().uniform_(-edge, edge).erfinv() * (std * std::f64::consts::SQRT_2))
                .clamp(-2.0 * std, 2.0 * std)
        }
    }
}

/// A stream's seed: FNV-1a of the seed and the name.
fn stream(seed: u64, name: &str) -> u64 {
    let bytes = seed.to_be_bytes().into_iter().chain(name.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<TensorSpec> {
        let spec = |name: &str, shape: &[i64], init, trained| TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            trained,
        };
        vec![
            spec("b", &[3, 5], Init::TruncatedNormal(0.02), true),
            spec("a", &[1000], Init::Normal(0.5), true),
            spec("s", &[], Init::Fill(7.0), false),
        ]
    }

    #[test]
    fn a_tensor_begins_with_the_same_values_in_every_model() {
        let _turn = crate::device::exclusive().unwrap();
        let one = Weights::fresh(&specs(), 1, Device::Cpu);
        let alone = Weights::fresh(&specs()[..1], 1, Device::Cpu);
        assert_eq!(one.get("b"), alone.get("b"));
        assert_ne!(
            one.get("b"),
            Weights::fresh(&specs(), 2, Device::Cpu).get("b")
        );
        assert!(one.get("b").abs().max().double_value(&[]) <= 0.04 + 1e-6);
        assert!((one.get("a").std(true).double_value(&[]) - 0.5).abs() < 0.05);
        assert_eq!(one.get("s").double_value(&[]), 7.0);
    }

    #[test]
    fn the_buffer_is_the_tensors() {
        let _turn = crate::device::exclusive().unwrap();
        let weights = Weights::fresh(&specs(), 1, Device::Cpu).with_gradients();
        let loss = (weights.get("b") * 2.0).sum(Kind::Float);
        let inputs: Vec<&Tensor> = weights.trained().collect();
        let gradients = Tensor::run_backward(&[&loss], &inputs, false, false);
        let flat = weights.lay_out(&gradients);
        assert_eq!(
            weights.part(&flat, "b").sum(Kind::Float).double_value(&[]),
            30.0
        );
        assert_eq!(
            flat.sum(Kind::Float).double_value(&[]),
            30.0,
            "what has no gradient has none"
        );
        no_grad(|| drop(weights.flat().fill_(3.0)));
        assert_eq!(weights.get("a").sum(Kind::Float).double_value(&[]), 3000.0);
    }

    #[test]
    fn what_does_not_fit_is_listed() {
        let tensor = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let mut found = BTreeMap::from([
            ("b".to_owned(), tensor(&[5, 3])),
            ("x".to_owned(), tensor(&[1])),
        ]);
        found.insert("s".to_owned(), Tensor::from(f32::NAN));
        let message = Weights::load(&specs(), &found, Device::Cpu)
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "missing: a; unexpected: x; of another shape: b (is [5, 3], due is [3, 5]); not finite: s"
        );
    }
}
