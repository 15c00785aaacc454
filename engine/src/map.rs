//! Map stages: every item on its own, every unit of work cached, equal bytes however much of it was known.
//!
//! Two passes: the missing units are gathered and worked out in batches, in the order of item ids and across chunk
//! borders; then the output is assembled from the results of all units, new and old alike.

use std::time::Instant;

use crate::ctx::{Dataset, GROUP_INTERVAL, GROUP_UNITS, StageCtx, encode, unit_key};
use crate::dataset::{Chunk, Item, Manifest};
use crate::digest::Digest;
use crate::event::UnitCounts;
use crate::op::{MapOp, OpError, Output, UnitResult, Work};

/// Runs a map stage.
pub(crate) fn run(ctx: &StageCtx, op: &dyn MapOp) -> Result<Output, OpError> {
    let template = ctx.preimage().template(Some(op.over()));
    let dataset = ctx.dataset(ctx.input(op.over())?)?;
    let mut map = Map { ctx, op, template, counts: UnitCounts::default() };
    let work = map.missing_work(&dataset)?;
    map.compute(work)?;
    let output = map.assemble(&dataset)?;
    ctx.traces().units = Some(map.counts);
    if map.counts.total > 0 && map.counts.bad == map.counts.total {
        let reason = ctx.traces().quarantined.first().map_or(String::new(), |first| first.reason.clone());
        let what = format!("none of the {} items could be used; the first: {reason}", map.counts.total);
        return Err(OpError::failed(what, "the input is not what this op needs: look at a few of its items"));
    }
    Ok(output)
}

/// How many units a map stage would have to work out, and how many there are: for plans.
pub(crate) fn missing_units(ctx: &StageCtx, op: &dyn MapOp) -> Result<(u64, u64), OpError> {
    let template = ctx.preimage().template(Some(op.over()));
    let dataset = ctx.dataset(ctx.input(op.over())?)?;
    let mut map = Map { ctx, op, template, counts: UnitCounts::default() };
    let missing = map.missing_work(&dataset)?.iter().map(|work| work.missing.len() as u64).sum();
    Ok((missing, map.counts.total))
}

struct Map<'a> {
    ctx: &'a StageCtx,
    op: &'a dyn MapOp,
    template: Digest,
    counts: UnitCounts,
}

impl Map<'_> {
    fn unit_keys(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        Ok(self.op.units(item)?.iter().map(|unit| unit_key(&self.template, unit)).collect())
    }

    /// The items with missing units, in order.
    fn missing_work(&mut self, dataset: &Dataset<'_>) -> Result<Vec<Work>, OpError> {
        let mut work = Vec::new();
        self.ctx.cache().units.refresh();
        for chunk in dataset.chunks() {
            self.ctx.check_interrupted()?;
            let items = dataset.chunk(&chunk)?.items;
            let keys = items.iter().map(|item| self.unit_keys(item)).collect::<Result<Vec<_>, _>>()?;
            let flat: Vec<Digest> = keys.iter().flatten().copied().collect();
            self.counts.total += flat.len() as u64;
            let mut known = self.ctx.known_units(&flat).into_iter();
            for (item, keys) in items.into_iter().zip(keys) {
                let missing: Vec<usize> = known
                    .by_ref()
                    .take(keys.len())
                    .enumerate()
                    .filter(|(_, unit)| unit.is_none())
                    .map(|(at, _)| at)
                    .collect();
                self.counts.reused += (keys.len() - missing.len()) as u64;
                if !missing.is_empty() {
                    work.push(Work { item, missing });
                }
            }
        }
        Ok(work)
    }

    /// Works out and commits what is missing, group by group.
    fn compute(&mut self, work: Vec<Work>) -> Result<(), OpError> {
        if work.is_empty() {
            return Ok(());
        }
        let total = work.iter().map(|work| work.missing.len() as u64).sum();
        let mut worker = self.op.worker(self.ctx)?;
        let mut group = Vec::new();
        let mut committed = Instant::now();
        self.ctx.progress(0, total, "items");
        for batch in work.chunks(self.op.batch().max(1)) {
            if self.ctx.interrupted() {
                self.ctx.cache().units.put(std::mem::take(&mut group))?;
                return Err(OpError::Interrupted);
            }
            let results = worker.process(self.ctx, batch)?;
            self.check_shape(batch, &results)?;
            for (work, results) in batch.iter().zip(&results) {
                let keys = self.unit_keys(&work.item)?;
                let new = work.missing.iter().zip(results);
                group.extend(new.filter_map(|(at, result)| Some((*keys.get(*at)?, encode(result)))));
                self.counts.computed += results.len() as u64;
            }
            if group.len() >= GROUP_UNITS || committed.elapsed() >= GROUP_INTERVAL {
                self.ctx.cache().units.put(std::mem::take(&mut group))?;
                committed = Instant::now();
            }
            self.ctx.progress(self.counts.computed, total, "items");
        }
        if !group.is_empty() {
            self.ctx.cache().units.put(group)?;
        }
        Ok(())
    }

    fn check_shape(&self, batch: &[Work], results: &[Vec<UnitResult>]) -> Result<(), OpError> {
        let due = batch.iter().map(|work| work.missing.len());
        if due.eq(results.iter().map(Vec::len)) {
            return Ok(());
        }
        Err(OpError::Bug(format!("op `{}` gave the wrong number of unit results", self.ctx.args().op())))
    }

    /// The output dataset. Items keep their ids, so the chunks end where those of the input end.
    fn assemble(&mut self, dataset: &Dataset<'_>) -> Result<Output, OpError> {
        let mut manifest = Manifest { chunks: Vec::new() };
        for chunk in dataset.chunks() {
            let input = dataset.chunk(&chunk)?;
            let count = u32::try_from(input.items.len()).expect("chunks are bounded far below 2^32 items");
            manifest.chunks.push((self.ctx.put(&self.assemble_chunk(input)?.encode())?, count));
        }
        let count = Some(manifest.len());
        Ok(Output { count, ..Output::of(self.ctx.put(&manifest.encode())?) })
    }

    fn assemble_chunk(&mut self, input: Chunk) -> Result<Chunk, OpError> {
        let mut items = Vec::with_capacity(input.items.len());
        let keys = input.items.iter().map(|item| self.unit_keys(item)).collect::<Result<Vec<_>, _>>()?;
        let flat: Vec<Digest> = keys.iter().flatten().copied().collect();
        let mut known = self.ctx.known_units(&flat).into_iter();
        for (item, keys) in input.items.into_iter().zip(&keys) {
            let results: Option<Vec<UnitResult>> = known.by_ref().take(keys.len()).collect();
            let results = results.ok_or_else(|| {
                OpError::failed("results that were just written are missing", "the cache is damaged: run again")
            })?;
            for result in &results {
                if let UnitResult::Bad(reason) = result {
                    self.counts.bad += 1;
                    self.ctx.quarantine(&item.id.short(), reason);
                }
            }
            let payload = self.op.assemble(&item, &results)?;
            items.push(Item { id: item.id, payload });
        }
        Ok(Chunk { items })
    }
}
