//! What bounds how many stages run at a time: cores, GPUs and memory.

use blip_grammar::Attributes;

use crate::op::Op;

/// An amount of each resource.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Resources {
    pub cpu: u32,
    pub gpu: u32,
    /// Bytes of main memory.
    pub memory: u64,
}

impl Resources {
    /// What a stage takes: what its attributes say, else all cores for numeric ops, which use as
    /// many threads, and one core for others. A stage that asks for more than there is gets all of
    /// it, so that it runs alone instead of never.
    pub(crate) fn of(op: &Op, attributes: &Attributes, all: &Resources) -> Self {
        let cores = if op.numeric { all.cpu } else { 1 };
        Self {
            cpu: attributes.cpu.unwrap_or(cores).min(all.cpu),
            gpu: attributes.gpu.unwrap_or(0).min(all.gpu),
            memory: attributes.memory.unwrap_or(0).min(all.memory),
        }
    }

    pub(crate) fn covers(&self, amount: &Resources) -> bool {
        self.cpu >= amount.cpu && self.gpu >= amount.gpu && self.memory >= amount.memory
    }

    /// Subtracts an amount that it [`covers`](Self::covers).
    pub(crate) fn take(&mut self, amount: &Resources) {
        self.cpu -= amount.cpu;
        self.gpu -= amount.gpu;
        self.memory -= amount.memory;
    }

    pub(crate) fn give_back(&mut self, amount: &Resources) {
        self.cpu += amount.cpu;
        self.gpu += amount.gpu;
        self.memory += amount.memory;
    }
}
