//! Workflow files: read, check, and set up an engine on the workflow's cache.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use blip_engine::{Config, Engine, IndexKind, Isolation, Resources, Workflow};
use blip_grammar::{Diagnostic, ParamOverride, SOURCE_BYTES_MAX, Source};

use crate::args::{CacheArgs, DeviceArgs, Index, WorkflowArgs};
use crate::console::Console;
use crate::error::{CommandError, ErrorMessage};
use crate::overrides::overrides;
use crate::render;
use crate::{lockfile, machine};

/// The name of the default cache folder, beside the workflow.
pub(crate) const CACHE_NAME: &str = ".blip";

/// Reads a workflow; the path `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Source, CommandError> {
    let name = if is_stdin(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let bytes =
        read_bytes(path).map_err(|error| ErrorMessage::io("read the workflow", path, &error))?;
    Source::from_bytes(name.clone(), bytes)
        .map_err(|diagnostic| CommandError::InvalidSource(name, diagnostic))
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The bytes of a file, at most one more than a workflow may have: enough to reject a larger file
/// without reading all of it.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let limit = SOURCE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if is_stdin(path) {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A workflow that was read but not checked yet.
#[derive(Debug)]
pub(crate) struct WorkflowSource {
    source: Source,
    overrides: Vec<ParamOverride>,
    /// The file that overrides come from.
    params: Option<PathBuf>,
    base: PathBuf,
}

/// A checked workflow.
#[derive(Debug)]
pub(crate) struct LoadedWorkflow {
    pub(crate) source: Source,
    pub(crate) workflow: Workflow,
    /// The folder of the file: the base of relative paths in the workflow.
    pub(crate) base: PathBuf,
}

/// Reads and checks a workflow that has its cache in this folder, by default beside it. Warnings
/// are printed, errors are returned.
pub(crate) fn load(
    args: &WorkflowArgs,
    cache: Option<&Path>,
    console: &mut Console,
) -> Result<LoadedWorkflow, CommandError> {
    let source = WorkflowSource::read(args)?;
    let cache = cache.map_or_else(|| default_cache(&source.base), Path::to_path_buf);
    source.check(&cache, console)
}

/// Parses and checks a workflow, its export paths included. `params` is the file that overrides
/// come from.
///
/// # Errors
/// All diagnostics, errors and warnings.
pub(crate) fn parse(
    source: &Source,
    base: &Path,
    cache: &Path,
    overrides: &[ParamOverride],
    params: Option<&Path>,
) -> Result<Workflow, Vec<Diagnostic>> {
    let workflow = Workflow::parse(source, &blip_ops::all(), overrides)?;
    let lock_file = base.join(lockfile::FILE_NAME);
    let mut files = vec![
        (Path::new(source.name()), "the workflow itself"),
        (lock_file.as_path(), "the lock file"),
    ];
    files.extend(params.map(|params| (params, "the file of params")));
    let mut errors = workflow.check_export_paths(base, cache, &files);
    if errors.is_empty() {
        return Ok(workflow);
    }
    errors.extend(workflow.diagnostics);
    errors.sort_by_key(|diagnostic| diagnostic.span);
    Err(errors)
}

impl WorkflowSource {
    pub(crate) fn read(args: &WorkflowArgs) -> Result<Self, CommandError> {
        Ok(Self {
            source: read(&args.file)?,
            overrides: overrides(&args.overrides)?,
            params: args.overrides.params.clone(),
            base: base_folder(&args.file),
        })
    }

    /// Checks the workflow. Warnings are printed, errors are returned.
    pub(crate) fn check(
        self,
        cache: &Path,
        console: &mut Console,
    ) -> Result<LoadedWorkflow, CommandError> {
        let Self {
            source,
            overrides,
            params,
            base,
        } = self;
        let workflow = match parse(&source, &base, cache, &overrides, params.as_deref()) {
            Ok(workflow) => workflow,
            Err(diagnostics) => return Err(CommandError::Workflow(Box::new(source), diagnostics)),
        };
        let warnings = render::diagnostics(&workflow.diagnostics, &source, console.color_err);
        console.print_err(&warnings);
        Ok(LoadedWorkflow {
            source,
            workflow,
            base,
        })
    }

    /// An engine on this workflow's cache, and the workflow's name in that cache.
    pub(crate) fn engine(
        &self,
        cache: &CacheArgs,
        device: DeviceArgs,
        resources: Resources,
    ) -> Result<(Engine, String), CommandError> {
        engine(&self.source, &self.base, cache, device, resources)
    }
}

impl LoadedWorkflow {
    /// An engine on this workflow's cache. Sets the workflow's name to its name in that cache.
    pub(crate) fn engine(
        &mut self,
        cache: &CacheArgs,
        device: DeviceArgs,
    ) -> Result<Engine, CommandError> {
        let resources = machine::resources(None, None);
        let (engine, name) = engine(&self.source, &self.base, cache, device, resources)?;
        self.workflow.name = name;
        Ok(engine)
    }
}

/// The folder of a file; for standard input, the current directory.
pub(crate) fn base_folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !is_stdin(file) && !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn engine(
    source: &Source,
    base: &Path,
    cache: &CacheArgs,
    device: DeviceArgs,
    resources: Resources,
) -> Result<(Engine, String), CommandError> {
    machine::choose_device(device);
    let folder = cache.cache.clone().unwrap_or_else(|| default_cache(base));
    let name = name_in_cache(&folder, source);
    let index = match cache.index {
        Index::Sled => IndexKind::Sled,
        Index::None => IndexKind::Memory,
    };
    let engine = Engine::new(Config {
        cache: folder,
        base: base.to_path_buf(),
        index,
        resources,
        env: blip_ops::numeric_env()?,
    });
    Ok((with_isolation(engine, device), name))
}

/// `.blip` without `./` in front, since messages show this path.
pub(crate) fn default_cache(base: &Path) -> PathBuf {
    if base == Path::new(".") {
        CACHE_NAME.into()
    } else {
        base.join(CACHE_NAME)
    }
}

/// Runs stages marked `@isolate` as `blip stage`. A program that cannot find its own file runs them
/// in this process.
fn with_isolation(engine: Engine, device: DeviceArgs) -> Engine {
    let mut args = vec!["stage".into()];
    args.extend(machine::device_args(device));
    match std::env::current_exe() {
        Ok(program) => engine.with_isolation(Isolation { program, args }),
        Err(_) => engine,
    }
}

/// The workflow's name in a cache: its path relative to the folder that contains the cache. So the
/// current directory does not matter, and a moved project keeps its history.
fn name_in_cache(cache: &Path, source: &Source) -> String {
    let Ok(path) = Path::new(source.name()).canonicalize() else {
        return source.name().to_owned();
    };
    let project = match cache.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let relative = project
        .canonicalize()
        .ok()
        .and_then(|project| path.strip_prefix(project).map(Path::to_path_buf).ok());
    relative.unwrap_or(path).display().to_string()
}
