//! Exports: results written where the user wants them, and again only when they are not there as
//! they were. [`crate::publish`] decides what may be replaced there.

use std::path::Path;
use std::sync::Arc;

use blip_grammar::Export;

use crate::cache::Cache;
use crate::cache::disk::Disk;
use crate::ctx::StageCtx;
use crate::digest::Digest;
use crate::event::{Event, EventBus, StageError};
use crate::graph::NodeId;
use crate::op::{Artifact, ExportOp, ExportTarget, OpError};
use crate::publish::receipt::Receipt;
use crate::publish::{self, Destination, Obstacle};
use crate::run::{self, RunOutcome};
use crate::workflow::Workflow;
use crate::{Config, RunOptions};

pub(crate) mod paths;

/// The exports of a run.
pub(crate) struct Exporter<'a> {
    pub(crate) config: &'a Config,
    pub(crate) disk: &'a Disk,
    pub(crate) workflow: &'a Workflow,
    /// Only exports of these stages are written.
    pub(crate) targets: &'a [NodeId],
    pub(crate) options: &'a RunOptions,
}

impl Exporter<'_> {
    fn jobs(&self) -> impl Iterator<Item = (ExportJob<'_>, NodeId)> {
        let exports = self.workflow.graph.exports();
        exports.filter_map(|(export, id)| {
            let op = self.workflow.ops.export(export.format)?;
            let job = ExportJob {
                export,
                op,
                config: self.config,
                disk: self.disk,
                options: self.options,
            };
            self.targets.contains(&id).then_some((job, id))
        })
    }

    /// Finds what stands in the way of exports before any stage has run: after a training of days
    /// would be too late.
    ///
    /// # Errors
    /// The files, named; or one that cannot be read.
    pub(crate) fn check(&self) -> Result<(), OpError> {
        let mut obstacles: Vec<Obstacle> = Vec::new();
        for (job, _) in self.jobs() {
            obstacles.extend(job.obstacles()?);
        }
        publish::refuse(&obstacles, self.options.overwrite)
    }

    /// Writes the exports whose stages have results.
    pub(crate) fn write(
        &self,
        outcome: &RunOutcome,
        cache: &Arc<Cache>,
        event_bus: &mut EventBus<'_>,
    ) -> Failures {
        let graph = &self.workflow.graph;
        let mut failures = Failures::default();
        for (job, id) in self.jobs() {
            let Some(result) = outcome.result(id) else {
                continue;
            };
            let ctx = run::export_ctx(graph, id, outcome, cache, self.config);
            // An export may take long: what happened so far is shown before.
            event_bus.idle();
            let node = graph.node(id);
            let artifact = Artifact::of(&node.name, node.output, result);
            let mut is_announced = false;
            let keep_waiting = || {
                if !std::mem::replace(&mut is_announced, true) {
                    event_bus.emit(&job.waiting());
                }
                !self.options.no_wait && !self.options.stop.is_requested()
            };
            let is_input = |path: &Path, digest: &Digest| {
                let mut inputs = outcome.inputs(digest);
                inputs.any(|input| publish::is_same_file(path, input))
            };
            let written = job.write(&ctx, &artifact, &is_input, cache, keep_waiting);
            failures.all += usize::from(!matches!(written, Ok(Some(_))));
            failures.busy += usize::from(matches!(written, Ok(None)));
            event_bus.emit(&job.event(written));
        }
        failures
    }
}

/// How many exports failed.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Failures {
    pub(crate) all: usize,
    /// Those for which another process was not waited for any longer.
    pub(crate) busy: usize,
}

/// An export to be written.
struct ExportJob<'a> {
    export: &'a Export,
    op: &'a ExportOp,
    config: &'a Config,
    disk: &'a Disk,
    options: &'a RunOptions,
}

impl ExportJob<'_> {
    /// # Errors
    /// A path that cannot be exported to, or a file that cannot be read.
    fn obstacles(&self) -> Result<Vec<Obstacle>, OpError> {
        let destination = self.destination()?;
        let mut receipt = self.last_receipt(&destination)?;
        loop {
            let obstacles = destination.obstacles(receipt.as_ref(), self.disk)?;
            // Another process may have exported between the receipt and the files.
            let read_again = self.last_receipt(&destination)?;
            if obstacles.is_empty() || read_again == receipt {
                return Ok(obstacles);
            }
            receipt = read_again;
        }
    }

    /// Writes the export unless it is current; says whether any byte had to change. `is_input`
    /// is whether the run has read a file. `None` when another process writes it and
    /// `keep_waiting` says no.
    ///
    /// # Errors
    /// Files in the way, or what the format's writer gives.
    fn write(
        &self,
        ctx: &StageCtx,
        artifact: &Artifact,
        is_input: &dyn Fn(&Path, &Digest) -> bool,
        cache: &Cache,
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<Option<bool>, OpError> {
        let destination = self.destination()?;
        let input = self.input_digest(artifact);
        let disk = cache.disk();
        let is_current = |receipt: &Receipt| {
            let is_current = receipt.is_current(destination.folder(), disk);
            Ok::<bool, OpError>(receipt.input == input && is_current.map_err(publish::unreadable)?)
        };
        // First without a lock: a folder that cannot be written may have all that is wanted.
        if let Some(receipt) = destination.receipt(disk)?
            && is_current(&receipt)?
        {
            destination.remove_leftover(disk);
            return Ok(Some(false));
        }
        let Some(staging) = destination.stage(disk, keep_waiting)? else {
            return Ok(None);
        };
        let receipt = self.last_receipt(&destination)?;
        if let Some(receipt) = &receipt
            && is_current(receipt)?
        {
            // Another process has just written it, or the program before there were receipts.
            destination.finish(receipt.clone(), &staging, disk)?;
            return Ok(Some(false));
        }
        let target = ExportTarget {
            folder: staging.folder().to_path_buf(),
            name: destination.name().to_owned(),
        };
        (self.op.run)(ctx, artifact, &target)?;
        let overwrite = self.options.overwrite;
        let published =
            destination.publish_over(&staging, input, receipt, overwrite, is_input, disk)?;
        Ok(Some(published))
    }

    fn waiting(&self) -> Event {
        Event::Warning {
            stage: Some(Arc::from(self.export.name.as_str())),
            text: format!(
                "waiting for another process that exports to {}",
                self.export.path
            ),
        }
    }

    fn event(&self, written: Result<Option<bool>, OpError>) -> Event {
        let stage = Arc::from(self.export.name.as_str());
        let (format, path) = (self.export.format.to_owned(), self.export.path.clone());
        let busy = || {
            self.destination()
                .map_or_else(|error| error, |place| place.busy())
        };
        match written.and_then(|written| written.ok_or_else(busy)) {
            Ok(written) => Event::Exported {
                stage,
                format,
                path,
                written,
            },
            Err(error) => Event::ExportFailed {
                stage,
                format,
                path,
                error: StageError {
                    what: error.to_string(),
                    help: error.help(),
                },
            },
        }
    }

    fn destination(&self) -> Result<Destination, OpError> {
        Destination::of(&self.config.base.join(&self.export.path)).ok_or_else(|| {
            OpError::failed(
                format!("`{}` is not a valid export path", self.export.path),
                "name a file, such as \"out/pairs.json\"",
            )
        })
    }

    fn input_digest(&self, artifact: &Artifact) -> Digest {
        let format = self.op.format.name.as_bytes();
        let version = self.op.version.to_be_bytes();
        Digest::parts(
            "blip/export/1",
            &[format, &version, artifact.digest.as_bytes()],
        )
    }

    /// Before there were receipts, the cache knew what was exported where.
    fn last_receipt(&self, destination: &Destination) -> Result<Option<Receipt>, OpError> {
        if let Some(receipt) = destination.receipt(self.disk)? {
            return Ok(Some(receipt));
        }
        let target = self.config.base.join(&self.export.path);
        let (cache, folder) = (&self.config.cache, destination.folder());
        Receipt::of_export_state(cache, &target, folder, self.disk).map_err(publish::unreadable)
    }
}
