//! The tensors of a model in one flat buffer, each a view of it, so that the optimizer and the
//! moving averages are a few operations on one tensor instead of thousands on small ones.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor, no_grad};

use crate::tensors::{Init, TensorSpec};

mod init;
mod mismatch;

use self::init::initial_value;
pub use self::mismatch::Mismatch;

/// Views begin at multiples of this many values, 64 bytes: matrix kernels are fastest on aligned
/// memory.
const ALIGNMENT: i64 = 16;

/// The tensors of a model, all in float32.
#[derive(Debug)]
pub struct Weights {
    flat: Tensor,
    /// Ascending by name, with the offset in `flat`.
    parameters: Vec<(String, i64, Tensor)>,
    /// Indices into `parameters`.
    index: BTreeMap<String, usize>,
    buffers: BTreeMap<String, Tensor>,
}

impl Weights {
    /// Initialised tensors. Each is drawn from its own random stream, seeded by `seed` and its
    /// name, so it gets the same values in every model that has it. The caller holds
    /// [`crate::device::lock`].
    pub fn fresh(specs: &[TensorSpec], seed: u64, device: Device) -> Self {
        let weights = Self::zeros(specs, device);
        no_grad(|| {
            for spec in specs {
                let mut tensor = weights.get(&spec.name);
                tensor.copy_(&initial_value(spec, seed));
            }
        });
        weights
    }

    /// Tensors with these values. What is not in `specs` is unexpected.
    ///
    /// # Errors
    /// [`Mismatch`] lists every tensor that does not fit.
    pub fn load(
        specs: &[TensorSpec],
        found: &BTreeMap<String, Tensor>,
        device: Device,
    ) -> Result<Self, Mismatch> {
        let mismatch = Self::compare(specs, found);
        if !mismatch.is_empty() {
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

    /// What [`Weights::load`] would report.
    pub fn compare(specs: &[TensorSpec], found: &BTreeMap<String, Tensor>) -> Mismatch {
        let mut mismatch = Mismatch::default();
        let mut known: BTreeMap<&str, &TensorSpec> = BTreeMap::new();
        for spec in specs {
            known.insert(&spec.name, spec);
            let name = spec.name.clone();
            match found.get(&name) {
                None => mismatch.missing.push(name),
                Some(tensor) if tensor.size() != spec.shape => {
                    let shapes = (name, tensor.size(), spec.shape.clone());
                    mismatch.wrong_shape.push(shapes);
                }
                Some(tensor) if !is_finite(tensor) => mismatch.not_finite.push(name),
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
        let mut trainable: Vec<&TensorSpec> = specs.iter().filter(|spec| spec.trainable).collect();
        trainable.sort_by(|left, right| left.name.cmp(&right.name));
        let mut end = 0;
        let mut offsets: Vec<(&TensorSpec, i64)> = Vec::new();
        for spec in trainable {
            offsets.push((spec, end));
            end += align(spec.shape.iter().product());
        }
        let flat = Tensor::zeros([end], (Kind::Float, device));
        let mut parameters = Vec::new();
        let mut index = BTreeMap::new();
        for (at, (spec, offset)) in offsets.into_iter().enumerate() {
            let values = flat.narrow(0, offset, spec.shape.iter().product());
            let view = values.view(spec.shape.as_slice());
            parameters.push((spec.name.clone(), offset, view));
            index.insert(spec.name.clone(), at);
        }
        let mut buffers = BTreeMap::new();
        for spec in specs.iter().filter(|spec| !spec.trainable) {
            let zeros = Tensor::zeros(spec.shape.as_slice(), (Kind::Float, device));
            buffers.insert(spec.name.clone(), zeros);
        }
        Self {
            flat,
            parameters,
            index,
            buffers,
        }
    }

    /// Makes the parameters require gradients.
    #[must_use]
    pub fn with_gradients(mut self) -> Self {
        for (.., tensor) in &mut self.parameters {
            *tensor = tensor.detach().set_requires_grad(true);
        }
        self
    }

    /// A shallow copy of a tensor.
    ///
    /// # Panics
    /// When there is none: model and specs disagree.
    pub fn get(&self, name: &str) -> Tensor {
        let parameter = self.index.get(name).map(|at| &self.parameters[*at].2);
        match parameter.or_else(|| self.buffers.get(name)) {
            Some(tensor) => tensor.shallow_clone(),
            None => panic!("the model has no tensor `{name}`"),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.index.contains_key(name) || self.buffers.contains_key(name)
    }

    /// All tensors, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let mut all: BTreeMap<&str, &Tensor> = BTreeMap::new();
        for (name, _, tensor) in &self.parameters {
            all.insert(name, tensor);
        }
        for (name, tensor) in &self.buffers {
            all.insert(name, tensor);
        }
        all.into_iter()
    }

    /// The trainable tensors, ascending by name.
    pub fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.parameters.iter().map(|(.., tensor)| tensor)
    }

    /// The tensors that a forward pass updates while training, without gradients: running
    /// statistics of batch norm.
    pub fn buffers(&self) -> &BTreeMap<String, Tensor> {
        &self.buffers
    }

    /// The one-dimensional buffer behind all parameters, without gradients.
    pub fn flat(&self) -> Tensor {
        self.flat.shallow_clone()
    }

    /// Gradients of the parameters, in their order, laid out like [`Weights::flat`]. An undefined
    /// gradient, that of a parameter without influence on the loss, is zero.
    pub fn flatten(&self, gradients: &[Tensor]) -> Tensor {
        let mut flat = self.flat.zeros_like();
        no_grad(|| {
            for ((_, offset, tensor), gradient) in self.parameters.iter().zip(gradients) {
                if gradient.defined() {
                    let mut target = flat.narrow(0, *offset, tensor.numel() as i64);
                    target.copy_(&gradient.reshape([-1]));
                }
            }
            flat = flat.detach();
        });
        flat
    }

    /// The part of a buffer like [`Weights::flat`] that belongs to a parameter, in its shape.
    ///
    /// # Panics
    /// When there is no such parameter.
    pub fn part(&self, flat: &Tensor, name: &str) -> Tensor {
        let at = self.index.get(name);
        let at = at.unwrap_or_else(|| panic!("the model has no parameter `{name}`"));
        let (_, offset, tensor) = &self.parameters[*at];
        let values = flat.narrow(0, *offset, tensor.numel() as i64);
        values.view(tensor.size().as_slice())
    }

    /// A copy, without gradients, of the tensors whose names `is_wanted` accepts.
    pub fn copy_of(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        let mut specs = Vec::new();
        for (name, tensor) in self.iter().filter(|(name, _)| is_wanted(name)) {
            specs.push(TensorSpec {
                name: name.to_owned(),
                shape: tensor.size(),
                init: Init::Fill(0.0),
                trainable: self.index.contains_key(name),
            });
        }
        let copy = Self::zeros(&specs, self.flat.device());
        no_grad(|| {
            for spec in &specs {
                copy.get(&spec.name).copy_(&self.get(&spec.name));
            }
        });
        copy
    }

    /// Overwrites the values with those of `found`; tensors that only `found` has are ignored.
    ///
    /// # Errors
    /// [`Mismatch`] when one is missing or of the wrong shape; nothing is changed then.
    pub fn restore(&mut self, found: &BTreeMap<String, Tensor>) -> Result<(), Mismatch> {
        let mut mismatch = Mismatch::default();
        for (name, tensor) in self.iter() {
            match found.get(name) {
                None => mismatch.missing.push(name.to_owned()),
                Some(other) if other.size() != tensor.size() => {
                    let shapes = (name.to_owned(), other.size(), tensor.size());
                    mismatch.wrong_shape.push(shapes);
                }
                Some(_) => {}
            }
        }
        if !mismatch.is_empty() {
            return Err(mismatch);
        }
        no_grad(|| {
            for (name, tensor) in self.iter() {
                tensor.shallow_clone().copy_(&found[name]);
            }
        });
        Ok(())
    }
}

/// The next multiple of [`ALIGNMENT`].
fn align(values: i64) -> i64 {
    values
        .cast_unsigned()
        .next_multiple_of(ALIGNMENT.cast_unsigned())
        .cast_signed()
}

fn is_finite(tensor: &Tensor) -> bool {
    !tensor.is_floating_point() || tensor.isfinite().all().int64_value(&[]) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<TensorSpec> {
        let spec = |name: &str, shape: &[i64], init, trainable| TensorSpec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            init,
            trainable,
        };
        vec![
            spec("b", &[3, 5], Init::TruncatedNormal(0.02), true),
            spec("a", &[1000], Init::Normal(0.5), true),
            spec("s", &[], Init::Fill(7.0), false),
        ]
    }

    #[test]
    fn a_tensor_is_initialised_alike_in_every_model() {
        let _device_lock = crate::device::lock().unwrap();
        let weights = Weights::fresh(&specs(), 1, Device::Cpu);
        let alone = Weights::fresh(&specs()[..1], 1, Device::Cpu);
        assert_eq!(weights.get("b"), alone.get("b"));
        let other_seed = Weights::fresh(&specs(), 2, Device::Cpu);
        assert_ne!(weights.get("b"), other_seed.get("b"));
        assert!(weights.get("b").abs().max().double_value(&[]) <= 0.04 + 1e-6);
        assert!((weights.get("a").std(true).double_value(&[]) - 0.5).abs() < 0.05);
        assert_eq!(weights.get("s").double_value(&[]), 7.0);
    }

    #[test]
    fn tensors_are_views_of_the_flat_buffer() {
        let _device_lock = crate::device::lock().unwrap();
        let sum = |tensor: &Tensor| tensor.sum(Kind::Float).double_value(&[]);
        let weights = Weights::fresh(&specs(), 1, Device::Cpu).with_gradients();
        let loss = (weights.get("b") * 2.0).sum(Kind::Float);
        let inputs: Vec<&Tensor> = weights.parameters().collect();
        let gradients = Tensor::run_backward(&[&loss], &inputs, false, false);
        let flat = weights.flatten(&gradients);
        assert_eq!(sum(&weights.part(&flat, "b")), 30.0);
        assert_eq!(sum(&flat), 30.0, "the gradient of `a` is zero");
        no_grad(|| drop(weights.flat().fill_(3.0)));
        assert_eq!(sum(&weights.get("a")), 3000.0);
    }

    #[test]
    fn tensors_that_do_not_fit_are_listed() {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let found = BTreeMap::from([
            ("b".to_owned(), zeros(&[5, 3])),
            ("x".to_owned(), zeros(&[1])),
            ("s".to_owned(), Tensor::from(f32::NAN)),
        ]);
        let mismatch = Weights::load(&specs(), &found, Device::Cpu).unwrap_err();
        assert_eq!(
            mismatch.to_string(),
            "missing: a; unexpected: x; wrong shape: b (found [5, 3], expected [3, 5]); \
             not finite: s"
        );
    }
}
