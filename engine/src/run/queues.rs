//! Stages that can go on, by what they wait for, so that the owner never searches all stages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::resources::Resources;
use crate::graph::NodeId;

/// The stages that wait for the owner to hand them out.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    ready: VecDeque<NodeId>,
    /// Waiting for resources, by the amount they take. There are few different amounts, so the
    /// first stage of each is all that has to be compared.
    waiting_for_resources: BTreeMap<Resources, BTreeSet<NodeId>>,
    timers: BTreeSet<(Instant, NodeId)>,
}

impl Queues {
    pub(crate) fn push_ready(&mut self, id: NodeId) {
        self.ready.push_back(id);
    }

    pub(crate) fn pop_ready(&mut self) -> Option<NodeId> {
        self.ready.pop_front()
    }

    pub(crate) fn push_waiting_for_resources(&mut self, id: NodeId, amount: Resources) {
        self.waiting_for_resources
            .entry(amount)
            .or_default()
            .insert(id);
    }

    /// The first stage in graph order that fits into `free`. Its amount is subtracted from `free`.
    pub(crate) fn pop_fitting(&mut self, free: &mut Resources) -> Option<(NodeId, Resources)> {
        let fitting = self
            .waiting_for_resources
            .iter()
            .filter(|(amount, _)| free.covers(amount));
        let (id, amount) = fitting
            .filter_map(|(amount, ids)| Some((*ids.first()?, *amount)))
            .min_by_key(|(id, _)| *id)?;
        if let Some(ids) = self.waiting_for_resources.get_mut(&amount) {
            ids.remove(&id);
            if ids.is_empty() {
                self.waiting_for_resources.remove(&amount);
            }
        }
        free.take(&amount);
        Some((id, amount))
    }

    pub(crate) fn push_timer(&mut self, id: NodeId, until: Instant) {
        self.timers.insert((until, id));
    }

    /// A stage whose timer has expired.
    pub(crate) fn pop_expired(&mut self) -> Option<NodeId> {
        let (until, _) = self.timers.first()?;
        if *until > Instant::now() {
            return None;
        }
        self.timers.pop_first().map(|(_, id)| id)
    }

    pub(crate) fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stage_that_fits_is_handed_out() {
        let amount = |cpu, gpu| Resources {
            cpu,
            gpu,
            memory: 0,
        };
        let id = NodeId::new;
        let mut queues = Queues::default();
        queues.push_waiting_for_resources(id(1), amount(4, 0));
        queues.push_waiting_for_resources(id(2), amount(1, 1));
        queues.push_waiting_for_resources(id(3), amount(1, 0));
        let mut free = amount(2, 1);
        assert_eq!(queues.pop_fitting(&mut free), Some((id(2), amount(1, 1))));
        assert_eq!(queues.pop_fitting(&mut free), Some((id(3), amount(1, 0))));
        assert_eq!(queues.pop_fitting(&mut free), None);
        free = amount(4, 0);
        assert_eq!(queues.pop_fitting(&mut free), Some((id(1), amount(4, 0))));
        assert_eq!(free, amount(0, 0));
    }
}
