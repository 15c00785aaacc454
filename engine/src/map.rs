//! Map stages: every item on its own, every unit of work cached, equal bytes however much of it was
//! known.
//!
//! First a survey: chunks that became something before are one look-up each, of the others the
//! units that are not known are listed. Then these are worked out in batches, in the order of item
//! ids and across chunk borders, and a chunk of the output is put together as soon as its last unit
//! is there. Items are read chunk by chunk, twice: a dataset of millions does not have to fit into
//! memory, only eight bytes for each unit that is missing.

use std::collections::HashMap;

use crate::cache::map_tables::{MapTable, Mapped};
use crate::ctx::{Dataset, StageCtx, UnitBuffer, budget_error, unit_key};
use crate::dataset::{Chunk, Item, Manifest};
use crate::digest::Digest;
use crate::event::UnitCounts;
use crate::op::{MapOp, MapWorker, OpError, Output, UnitResult, Work};

/// Runs a map stage.
pub(crate) fn run(ctx: &StageCtx, op: &dyn MapOp) -> Result<Output, OpError> {
    let dataset = ctx.dataset(ctx.input(op.input_arg())?)?;
    let mut map = Map::new(ctx, op);
    let survey = map.survey(&dataset)?;
    let worked = map.work(&dataset, &survey);
    ctx.traces().units = Some(map.counts);
    let output = worked?;
    if map.counts.total > 0 && map.counts.bad == map.counts.total {
        let reason = ctx.first_reason();
        let what = format!(
            "none of the {} items could be used; the first: {reason}",
            map.counts.total
        );
        return Err(OpError::failed(
            what,
            "the input is not what this op needs: look at a few of its items",
        ));
    }
    Ok(output)
}

/// How many units a map stage would have to work out, and how many there are: for plans.
pub(crate) fn missing_units(ctx: &StageCtx, op: &dyn MapOp) -> Result<(u64, u64), OpError> {
    let dataset = ctx.dataset(ctx.input(op.input_arg())?)?;
    let mut map = Map::new(ctx, op);
    let survey = map.survey(&dataset)?;
    Ok((count_missing(&survey), map.counts.total))
}

/// A chunk of the input.
struct Surveyed {
    input: Digest,
    /// Its items.
    count: u32,
    /// What it became before.
    known: Option<Mapped>,
    /// The units that are not known: the place of their item in the chunk, and their number among
    /// the item's units.
    missing: Vec<(u32, u32)>,
}

fn count_missing(chunks: &[Surveyed]) -> u64 {
    chunks.iter().map(|chunk| chunk.missing.len() as u64).sum()
}

struct Map<'a> {
    ctx: &'a StageCtx,
    op: &'a dyn MapOp,
    /// What the results of units depend on, besides the unit.
    template: Digest,
    /// What the results of chunks depend on, besides the chunk.
    table_name: Digest,
    table: MapTable,
    counts: UnitCounts,
}

impl<'a> Map<'a> {
    fn new(ctx: &'a StageCtx, op: &'a dyn MapOp) -> Self {
        let template = ctx
            .key_inputs()
            .template(Some(op.input_arg()), op.args_outside_unit_key());
        let table_name = ctx.key_inputs().template(Some(op.input_arg()), &[]);
        let table = MapTable::read(ctx.cache().folder(), &table_name);
        Self {
            ctx,
            op,
            template,
            table_name,
            table,
            counts: UnitCounts::default(),
        }
    }

    fn unit_keys(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        Ok(self
            .op
            .units(item)?
            .iter()
            .map(|unit| unit_key(&self.template, unit))
            .collect())
    }

    fn survey(&mut self, dataset: &Dataset<'_>) -> Result<Vec<Surveyed>, OpError> {
        let mut chunks = Vec::new();
        let mut refreshed = false;
        for (input, count) in dataset.chunks() {
            self.ctx.check_interrupted()?;
            let known = self
                .table
                .get(&input)
                .filter(|mapped| self.ctx.cache().objects.contains(&mapped.output));
            let missing = match known {
                Some(mapped) => {
                    self.counts.total += u64::from(mapped.units);
                    self.counts.reused += u64::from(mapped.units);
                    Vec::new()
                }
                None => {
                    if !std::mem::replace(&mut refreshed, true) {
                        self.ctx.cache().units.refresh();
                    }
                    self.missing(&dataset.chunk(&input)?)?
                }
            };
            chunks.push(Surveyed {
                input,
                count,
                known,
                missing,
            });
        }
        Ok(chunks)
    }

    /// The units of a chunk that are not known.
    fn missing(&mut self, chunk: &Chunk) -> Result<Vec<(u32, u32)>, OpError> {
        let mut places = Vec::new();
        let mut keys = Vec::new();
        for (item, place) in chunk.items.iter().zip(0..) {
            for (key, number) in self.unit_keys(item)?.into_iter().zip(0..) {
                places.push((place, number));
                keys.push(key);
            }
        }
        let known = self.ctx.known_units(&keys);
        let missing: Vec<(u32, u32)> = places
            .into_iter()
            .zip(known)
            .filter(|(_, unit)| unit.is_none())
            .map(|(place, _)| place)
            .collect();
        self.counts.total += keys.len() as u64;
        self.counts.reused += (keys.len() - missing.len()) as u64;
        Ok(missing)
    }

    /// Works out what is missing and puts the output together. Items keep their ids, so the chunks
    /// end where those of the input end.
    fn work(&mut self, dataset: &Dataset<'_>, chunks: &[Surveyed]) -> Result<Output, OpError> {
        let mut buffer = UnitBuffer::new(self.ctx);
        let mut output = Assembly::default();
        let worked = self.batches(dataset, chunks, &mut buffer, &mut output);
        // Also when it went wrong: what has been worked out is not worked out again.
        buffer.commit()?;
        worked?;
        self.ctx.cache().objects.flush()?;
        let (cache, name) = (self.ctx.cache(), &self.table_name);
        if let Err(error) = self
            .table
            .write(cache.disk(), cache.folder(), name, &output.mapped)
        {
            tracing::warn!(%error, "the table of a map stage could not be written: the next run looks every item up");
        }
        let count = Some(output.manifest.len());
        Ok(Output {
            count,
            ..Output::of(self.ctx.put(&output.manifest.encode())?)
        })
    }

    fn batches(
        &mut self,
        dataset: &Dataset<'_>,
        chunks: &[Surveyed],
        buffer: &mut UnitBuffer<'_>,
        output: &mut Assembly,
    ) -> Result<(), OpError> {
        let total = count_missing(chunks);
        let mut fresh = HashMap::new();
        // Chunks whose work has all been given to a batch, or to the one that is being filled.
        let mut waiting: Vec<&Surveyed> = Vec::new();
        let size = self.op.batch().max(1);
        let mut batch: Vec<Work> = Vec::with_capacity(size);
        let mut worker = None;
        for chunk in chunks {
            for work in work_of(dataset, chunk)? {
                batch.push(work);
                if batch.len() == size {
                    self.process(&mut worker, &batch, total, buffer, &mut fresh)?;
                    batch.clear();
                    self.put_all_together(dataset, &mut waiting, &mut fresh, output)?;
                }
            }
            waiting.push(chunk);
            if batch.is_empty() {
                self.put_all_together(dataset, &mut waiting, &mut fresh, output)?;
            }
        }
        if !batch.is_empty() {
            self.process(&mut worker, &batch, total, buffer, &mut fresh)?;
        }
        self.put_all_together(dataset, &mut waiting, &mut fresh, output)
    }

    /// Works a batch out. The worker is made for the first one.
    fn process(
        &mut self,
        worker: &mut Option<Box<dyn MapWorker>>,
        batch: &[Work],
        total: u64,
        buffer: &mut UnitBuffer<'_>,
        fresh: &mut HashMap<Digest, UnitResult>,
    ) -> Result<(), OpError> {
        self.ctx.check_interrupted()?;
        let worker = match worker {
            Some(worker) => worker,
            None => {
                let made = worker.insert(self.op.worker(self.ctx)?);
                self.ctx.progress(0, total, "items");
                made
            }
        };
        let results = worker.process(self.ctx, batch)?;
        self.check_shape(batch, &results)?;
        for (work, results) in batch.iter().zip(results) {
            let keys = self.unit_keys(&work.item)?;
            for (at, result) in work.missing.iter().zip(results) {
                let Some(key) = keys.get(*at) else { continue };
                self.counts.computed += 1;
                buffer.add(*key, &result)?;
                fresh.insert(*key, result);
            }
        }
        self.ctx.progress(self.counts.computed, total, "items");
        Ok(())
    }

    fn check_shape(&self, batch: &[Work], results: &[Vec<UnitResult>]) -> Result<(), OpError> {
        let due = batch.iter().map(|work| work.missing.len());
        if due.eq(results.iter().map(Vec::len)) {
            return Ok(());
        }
        Err(OpError::Bug(format!(
            "op `{}` gave the wrong number of unit results",
            self.ctx.args().op()
        )))
    }

    fn put_all_together(
        &mut self,
        dataset: &Dataset<'_>,
        chunks: &mut Vec<&Surveyed>,
        fresh: &mut HashMap<Digest, UnitResult>,
        output: &mut Assembly,
    ) -> Result<(), OpError> {
        chunks
            .drain(..)
            .try_for_each(|chunk| self.put_together(dataset, chunk, fresh, output))
    }

    /// A chunk of the output. What its units gave in this run is taken out of `fresh`.
    fn put_together(
        &mut self,
        dataset: &Dataset<'_>,
        chunk: &Surveyed,
        fresh: &mut HashMap<Digest, UnitResult>,
        output: &mut Assembly,
    ) -> Result<(), OpError> {
        if let Some(mapped) = chunk.known {
            self.ctx.keep(mapped.output);
            output.add(chunk, mapped, true);
            return Ok(());
        }
        let input = dataset.chunk(&chunk.input)?;
        let keys = input
            .items
            .iter()
            .map(|item| self.unit_keys(item))
            .collect::<Result<Vec<_>, _>>()?;
        let old: Vec<Digest> = keys
            .iter()
            .flatten()
            .copied()
            .filter(|key| !fresh.contains_key(key))
            .collect();
        let mut old = self.ctx.known_units(&old).into_iter();
        let bad_before = self.counts.bad;
        let mut items = Vec::with_capacity(input.items.len());
        for (item, keys) in input.items.into_iter().zip(&keys) {
            let mut results = Vec::with_capacity(keys.len());
            for key in keys {
                let result = fresh
                    .get(key)
                    .cloned()
                    .or_else(|| old.next().flatten())
                    .ok_or_else(|| {
                        OpError::failed(
                            "results that were just written are missing",
                            "the cache is damaged: run again",
                        )
                    })?;
                if let UnitResult::Bad(reason) = &result {
                    self.counts.bad += 1;
                    self.ctx.reject(&item.id.short(), reason);
                }
                results.push(result);
            }
            let payload = self.op.assemble(&item, &results)?;
            items.push(Item {
                id: item.id,
                payload,
            });
        }
        keys.iter()
            .flatten()
            .for_each(|key| drop(fresh.remove(key)));
        self.check_budget()?;
        let units = u32::try_from(keys.iter().map(Vec::len).sum::<usize>()).unwrap_or(u32::MAX);
        let mapped = Mapped {
            output: self.ctx.put(&Chunk { items }.encode())?,
            units,
        };
        output.add(chunk, mapped, self.counts.bad == bad_before);
        Ok(())
    }

    fn check_budget(&self) -> Result<(), OpError> {
        budget_error(self.ctx, self.counts.bad, self.counts.total).map_or(Ok(()), Err)
    }
}

/// The items of a chunk that have missing units.
fn work_of(dataset: &Dataset<'_>, chunk: &Surveyed) -> Result<Vec<Work>, OpError> {
    if chunk.missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut missing = chunk.missing.iter().peekable();
    let mut found = Vec::new();
    for (item, place) in dataset.chunk(&chunk.input)?.items.into_iter().zip(0_u32..) {
        let mut numbers = Vec::new();
        while let Some((_, number)) = missing.next_if(|(of, _)| *of == place) {
            numbers.push(*number as usize);
        }
        if !numbers.is_empty() {
            found.push(Work {
                item,
                missing: numbers,
            });
        }
    }
    Ok(found)
}

/// The output as far as it is put together.
struct Assembly {
    manifest: Manifest,
    mapped: Vec<(Digest, Mapped)>,
}

impl Default for Assembly {
    fn default() -> Self {
        Self {
            manifest: Manifest { chunks: Vec::new() },
            mapped: Vec::new(),
        }
    }
}

impl Assembly {
    fn add(&mut self, chunk: &Surveyed, mapped: Mapped, clean: bool) {
        self.manifest.chunks.push((mapped.output, chunk.count));
        if clean {
            self.mapped.push((chunk.input, mapped));
        }
    }
}
