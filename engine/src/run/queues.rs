//! What can go on, by what it waits for: stages are never searched for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::resources::Resources;
use crate::graph::NodeId;

/// The stages that wait for the owner to hand them out.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// All inputs are there.
    ready: VecDeque<NodeId>,
    /// Waiting for resources, by how much they take: there are few different amounts.
    queued: BTreeMap<Resources, BTreeSet<NodeId>>,
    /// Waiting for a time.
    delayed: BTreeSet<(Instant, NodeId)>,
}

impl Queues {
    pub(crate) fn ready(&mut self, id: NodeId) {
        self.ready.push_back(id);
    }

    pub(crate) fn next_ready(&mut self) -> Option<NodeId> {
        self.ready.pop_front()
    }

    pub(crate) fn queue(&mut self, id: NodeId, amount: Resources) {
        self.queued.entry(amount).or_default().insert(id);
    }

    /// The first stage in the order of the graph for which there is enough, which is then taken.
    pub(crate) fn next_queued(&mut self, free: &mut Resources) -> Option<(NodeId, Resources)> {
        let heads = self.queued.iter().filter(|(amount, _)| free.has(amount));
        let (id, amount) = heads
            .filter_map(|(amount, ids)| Some((*ids.first()?, *amount)))
            .min_by_key(|(id, _)| *id)?;
        if let Some(ids) = self.queued.get_mut(&amount) {
            ids.remove(&id);
            if ids.is_empty() {
                self.queued.remove(&amount);
            }
        }
        free.take(&amount);
        Some((id, amount))
    }

    pub(crate) fn delay(&mut self, id: NodeId, until: Instant) {
        self.delayed.insert((until, id));
    }

    /// A stage whose time has come.
    pub(crate) fn due(&mut self) -> Option<NodeId> {
        let (until, _) = self.delayed.first()?;
        if *until > Instant::now() {
            return None;
        }
        self.delayed.pop_first().map(|(_, id)| id)
    }

    pub(crate) fn anything_delayed(&self) -> bool {
        !self.delayed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_for_which_there_is_enough_comes_first() {
        let amount = |cpu, gpu| Resources {
            cpu,
            gpu,
            memory: 0,
        };
        let mut queues = Queues::default();
        let id = NodeId::new;
        queues.queue(id(1), amount(4, 0));
        queues.queue(id(2), amount(1, 1));
        queues.queue(id(3), amount(1, 0));
        let mut free = amount(2, 1);
        assert_eq!(queues.next_queued(&mut free), Some((id(2), amount(1, 1))));
        assert_eq!(queues.next_queued(&mut free), Some((id(3), amount(1, 0))));
        assert_eq!(queues.next_queued(&mut free), None);
        free = amount(4, 0);
        assert_eq!(queues.next_queued(&mut free), Some((id(1), amount(4, 0))));
        assert_eq!(free, amount(0, 0));
    }
}
