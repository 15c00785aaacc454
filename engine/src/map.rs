//! Map stages: every item on its own, every unit of work cached, the same bytes however much of it
//! was cached.
//!
//! First a survey: a chunk that was mapped before is one lookup, of the others the units that are
//! not cached are listed. Then these are computed in batches, in the order of item ids and across
//! chunk borders, and a chunk of the output is assembled as soon as its last unit is there. Items
//! are read chunk by chunk, twice: a dataset of millions does not have to fit into memory, only
//! eight bytes for each missing unit.

use std::collections::HashMap;

use crate::cache::map_tables::{MapTable, MappedChunk};
use crate::ctx::{Dataset, StageCtx, UnitBuffer, unit_key};
use crate::dataset::{Chunk, Item, Manifest};
use crate::digest::Digest;
use crate::event::UnitCounts;
use crate::op::{MapOp, MapWorker, OpError, Output, UnitResult, Work};

/// Runs a map stage.
pub(crate) fn run(ctx: &StageCtx, op: &dyn MapOp) -> Result<Output, OpError> {
    let dataset = ctx.dataset(ctx.input(op.input_arg())?)?;
    let mut map = Map::new(ctx, op);
    let survey = map.survey(&dataset)?;
    let output = map.compute(&dataset, &survey);
    // Also after an error: what was computed until then is reported.
    ctx.log().units = Some(map.counts);
    let output = output?;
    if map.counts.total > 0 && map.counts.bad == map.counts.total {
        let what = format!(
            "rejected all {} items; first reason: {}",
            map.counts.total,
            ctx.first_reason()
        );
        let help = "check a few items: the input is not what this op expects";
        return Err(OpError::failed(what, help));
    }
    Ok(output)
}

/// How many units a map stage would have to compute, and how many there are: for plans.
pub(crate) fn count_units(ctx: &StageCtx, op: &dyn MapOp) -> Result<(u64, u64), OpError> {
    let dataset = ctx.dataset(ctx.input(op.input_arg())?)?;
    let mut map = Map::new(ctx, op);
    let survey = map.survey(&dataset)?;
    Ok((count_missing(&survey), map.counts.total))
}

/// A chunk of the input.
struct SurveyedChunk {
    input: Digest,
    item_count: u32,
    /// What it was mapped to before.
    mapped: Option<MappedChunk>,
    /// The units that are not cached: the index of their item in the chunk, and their index among
    /// the item's units.
    missing: Vec<(u32, u32)>,
}

fn count_missing(survey: &[SurveyedChunk]) -> u64 {
    survey.iter().map(|chunk| chunk.missing.len() as u64).sum()
}

struct Map<'a> {
    ctx: &'a StageCtx,
    op: &'a dyn MapOp,
    /// What the results of units depend on, besides the unit.
    unit_key_prefix: Digest,
    /// What the results of chunks depend on, besides the chunk: all arguments, also those outside
    /// the unit key.
    table_name: Digest,
    /// `None` if it cannot be read: then every unit is looked up, and it stays as it is.
    table: Option<MapTable>,
    counts: UnitCounts,
}

/// Results of units that this run has computed and not yet assembled, by key.
type ComputedUnits = HashMap<Digest, UnitResult>;

impl<'a> Map<'a> {
    fn new(ctx: &'a StageCtx, op: &'a dyn MapOp) -> Self {
        let key_inputs = ctx.key_inputs();
        let input = Some(op.input_arg());
        let unit_key_prefix = key_inputs.unit_key_prefix(input, op.args_outside_unit_key());
        let table_name = key_inputs.unit_key_prefix(input, &[]);
        let table = MapTable::read(ctx.cache().disk(), ctx.cache().folder(), &table_name);
        let table = table
            .map_err(|error| ctx.warn(format!("{error}; every item is looked up")))
            .ok();
        Self {
            ctx,
            op,
            unit_key_prefix,
            table_name,
            table,
            counts: UnitCounts::default(),
        }
    }

    fn unit_keys(&self, item: &Item) -> Result<Vec<Digest>, OpError> {
        let units = self.op.units(item)?;
        let prefix = &self.unit_key_prefix;
        Ok(units.iter().map(|unit| unit_key(prefix, unit)).collect())
    }

    fn survey(&mut self, dataset: &Dataset<'_>) -> Result<Vec<SurveyedChunk>, OpError> {
        let mut chunks = Vec::new();
        let mut is_refreshed = false;
        for (input, item_count) in dataset.chunks() {
            self.ctx.check_interrupted()?;
            let objects = &self.ctx.cache().objects;
            let mut mapped = self.table.as_ref().and_then(|table| table.get(&input));
            if let Some(MappedChunk { output, .. }) = &mapped
                && !objects.contains(output)?
            {
                mapped = None;
            }
            let missing = if let Some(mapped) = mapped {
                self.counts.total += u64::from(mapped.units);
                self.counts.reused += u64::from(mapped.units);
                Vec::new()
            } else {
                // Units that other processes have committed are seen from here on. Not earlier: a
                // stage whose chunks were all mapped before does not need it.
                if !std::mem::replace(&mut is_refreshed, true) {
                    self.ctx.cache().units.refresh()?;
                }
                self.missing_units(&dataset.chunk(&input)?)?
            };
            chunks.push(SurveyedChunk {
                input,
                item_count,
                mapped,
                missing,
            });
        }
        Ok(chunks)
    }

    /// The units of a chunk that are not cached.
    fn missing_units(&mut self, chunk: &Chunk) -> Result<Vec<(u32, u32)>, OpError> {
        let mut indices = Vec::new();
        let mut keys = Vec::new();
        for (item, item_index) in chunk.items.iter().zip(0..) {
            for (key, unit_index) in self.unit_keys(item)?.into_iter().zip(0..) {
                indices.push((item_index, unit_index));
                keys.push(key);
            }
        }
        let cached = self.ctx.cached_units(&keys)?;
        let mut missing = Vec::new();
        for (index, unit) in indices.into_iter().zip(cached) {
            if unit.is_none() {
                missing.push(index);
            }
        }
        self.counts.total += keys.len() as u64;
        self.counts.reused += (keys.len() - missing.len()) as u64;
        Ok(missing)
    }

    /// Computes what is missing and assembles the output. Items keep their ids, so its chunks end
    /// where those of the input end.
    fn compute(
        &mut self,
        dataset: &Dataset<'_>,
        survey: &[SurveyedChunk],
    ) -> Result<Output, OpError> {
        let mut buffer = UnitBuffer::new(self.ctx);
        let mut output = OutputBuilder::default();
        let computed = self.compute_batches(dataset, survey, &mut buffer, &mut output);
        // Also after an error: what has been computed is not computed again.
        buffer.commit()?;
        computed?;
        // The table names chunks of the output: those are on disk before it is.
        let cache = self.ctx.cache();
        cache.objects.flush()?;
        let (disk, folder) = (cache.disk(), cache.folder());
        let written = self
            .table
            .as_ref()
            .map(|table| table.write(disk, folder, &self.table_name, &output.mapped));
        if let Some(Err(error)) = written {
            tracing::warn!(
                %error,
                "could not write the table of a map stage: the next run looks up every item"
            );
        }
        let count = Some(output.manifest.len());
        let digest = self.ctx.put(&output.manifest.encode())?;
        Ok(Output {
            count,
            ..Output::of(digest)
        })
    }

    fn compute_batches(
        &mut self,
        dataset: &Dataset<'_>,
        survey: &[SurveyedChunk],
        buffer: &mut UnitBuffer<'_>,
        output: &mut OutputBuilder,
    ) -> Result<(), OpError> {
        let total = count_missing(survey);
        let mut computed = ComputedUnits::new();
        // Chunks all of whose missing units are in a batch that ran, or in the one being filled.
        let mut waiting: Vec<&SurveyedChunk> = Vec::new();
        let size = self.op.batch().max(1);
        let mut batch: Vec<Work> = Vec::with_capacity(size);
        let mut worker = None;
        for chunk in survey {
            for work in work_of(dataset, chunk)? {
                batch.push(work);
                if batch.len() == size {
                    self.process(&mut worker, &batch, total, buffer, &mut computed)?;
                    batch.clear();
                    self.assemble_chunks(dataset, &mut waiting, &mut computed, output)?;
                }
            }
            waiting.push(chunk);
            if batch.is_empty() {
                self.assemble_chunks(dataset, &mut waiting, &mut computed, output)?;
            }
        }
        if !batch.is_empty() {
            self.process(&mut worker, &batch, total, buffer, &mut computed)?;
        }
        self.assemble_chunks(dataset, &mut waiting, &mut computed, output)
    }

    /// Computes a batch. The worker, which may load a model, is made for the first one.
    fn process(
        &mut self,
        worker: &mut Option<Box<dyn MapWorker>>,
        batch: &[Work],
        total: u64,
        buffer: &mut UnitBuffer<'_>,
        computed: &mut ComputedUnits,
    ) -> Result<(), OpError> {
        self.ctx.check_interrupted()?;
        let worker = match worker {
            Some(worker) => worker,
            None => {
                let worker = worker.insert(self.op.worker(self.ctx)?);
                self.ctx.progress(0, total, "items");
                worker
            }
        };
        let results = worker.process(self.ctx, batch)?;
        self.check_shape(batch, &results)?;
        for (work, results) in batch.iter().zip(results) {
            let keys = self.unit_keys(&work.item)?;
            for (index, result) in work.missing.iter().zip(results) {
                let Some(key) = keys.get(*index) else {
                    continue;
                };
                self.counts.computed += 1;
                buffer.add(*key, &result)?;
                computed.insert(*key, result);
            }
        }
        self.ctx.progress(self.counts.computed, total, "items");
        Ok(())
    }

    fn check_shape(&self, batch: &[Work], results: &[Vec<UnitResult>]) -> Result<(), OpError> {
        let expected = batch.iter().map(|work| work.missing.len());
        if expected.eq(results.iter().map(Vec::len)) {
            return Ok(());
        }
        Err(OpError::Bug(format!(
            "op `{}` returned the wrong number of unit results",
            self.ctx.args().op()
        )))
    }

    fn assemble_chunks(
        &mut self,
        dataset: &Dataset<'_>,
        chunks: &mut Vec<&SurveyedChunk>,
        computed: &mut ComputedUnits,
        output: &mut OutputBuilder,
    ) -> Result<(), OpError> {
        for chunk in chunks.drain(..) {
            self.assemble_chunk(dataset, chunk, computed, output)?;
        }
        Ok(())
    }

    /// Assembles a chunk of the output. Its units are taken out of `computed`.
    fn assemble_chunk(
        &mut self,
        dataset: &Dataset<'_>,
        chunk: &SurveyedChunk,
        computed: &mut ComputedUnits,
        output: &mut OutputBuilder,
    ) -> Result<(), OpError> {
        if let Some(mapped) = chunk.mapped {
            self.ctx.keep(mapped.output);
            output.add(chunk, mapped, true);
            return Ok(());
        }
        let input = dataset.chunk(&chunk.input)?;
        let mut keys = Vec::with_capacity(input.items.len());
        for item in &input.items {
            keys.push(self.unit_keys(item)?);
        }
        let all_keys = || keys.iter().flatten();
        let cached: Vec<Digest> = all_keys()
            .copied()
            .filter(|key| !computed.contains_key(key))
            .collect();
        let mut cached = self.ctx.cached_units(&cached)?.into_iter();
        let bad_before = self.counts.bad;
        let mut items = Vec::with_capacity(input.items.len());
        for (item, keys) in input.items.into_iter().zip(&keys) {
            let results = self.results_of(&item, keys, computed, &mut cached)?;
            let payload = self.op.assemble(&item, &results)?;
            items.push(Item {
                id: item.id,
                payload,
            });
        }
        // Only now, since two items of a chunk may have a unit in common.
        for key in all_keys() {
            computed.remove(key);
        }
        self.check_budget()?;
        let mapped = MappedChunk {
            output: self.ctx.put(&Chunk { items }.encode())?,
            units: u32::try_from(all_keys().count()).unwrap_or(u32::MAX),
        };
        output.add(chunk, mapped, self.counts.bad == bad_before);
        Ok(())
    }

    /// The results of an item's units: those computed in this run, else the next of `cached`.
    fn results_of(
        &mut self,
        item: &Item,
        keys: &[Digest],
        computed: &ComputedUnits,
        cached: &mut impl Iterator<Item = Option<UnitResult>>,
    ) -> Result<Vec<UnitResult>, OpError> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            let result = match computed.get(key) {
                Some(result) => Some(result.clone()),
                None => cached.next().flatten(),
            };
            let Some(result) = result else {
                let what = "results of units that were in the cache are missing";
                let help = "the cache is corrupt: run again to recompute them";
                return Err(OpError::failed(what, help));
            };
            if let UnitResult::Bad(reason) = &result {
                self.counts.bad += 1;
                self.ctx.reject(&item.id.short(), reason);
            }
            results.push(result);
        }
        Ok(results)
    }

    fn check_budget(&self) -> Result<(), OpError> {
        match self.ctx.budget_error(self.counts.bad, self.counts.total) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The items of a chunk that have missing units.
fn work_of(dataset: &Dataset<'_>, chunk: &SurveyedChunk) -> Result<Vec<Work>, OpError> {
    if chunk.missing.is_empty() {
        return Ok(Vec::new());
    }
    let mut missing = chunk.missing.iter().peekable();
    let mut work = Vec::new();
    let items = dataset.chunk(&chunk.input)?.items;
    for (item, item_index) in items.into_iter().zip(0_u32..) {
        let mut unit_indices = Vec::new();
        while let Some((_, unit_index)) = missing.next_if(|(index, _)| *index == item_index) {
            unit_indices.push(*unit_index as usize);
        }
        if !unit_indices.is_empty() {
            work.push(Work {
                item,
                missing: unit_indices,
            });
        }
    }
    Ok(work)
}

/// The output as far as it is assembled.
struct OutputBuilder {
    manifest: Manifest,
    /// Chunks of the input and what they were mapped to.
    mapped: Vec<(Digest, MappedChunk)>,
}

impl Default for OutputBuilder {
    fn default() -> Self {
        Self {
            manifest: Manifest { chunks: Vec::new() },
            mapped: Vec::new(),
        }
    }
}

impl OutputBuilder {
    /// Adds a chunk. One with rejected items is not entered in the table: every run that maps it
    /// reports them, and their reasons are in its units.
    fn add(&mut self, chunk: &SurveyedChunk, mapped: MappedChunk, is_clean: bool) {
        self.manifest.chunks.push((mapped.output, chunk.item_count));
        if is_clean {
            self.mapped.push((chunk.input, mapped));
        }
    }
}
