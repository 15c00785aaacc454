//! A workflow's file: read, checked, and turned into what an engine takes.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use blip_engine::{Config, Engine, IndexKind, Isolation, Workflow};
use blip_grammar::{ParamOverride, SOURCE_BYTES_MAX, Source};

use crate::args::{CacheArgs, Index, WorkflowArgs};
use crate::console::Console;
use crate::failure::{Failure, Fault};
use crate::machine;
use crate::overrides::overrides;
use crate::render;

/// The name of a cache folder beside a workflow.
pub(crate) const CACHE_NAME: &str = ".blip";

/// A workflow that can be planned and run.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its text.
    pub(crate) source: Source,
    /// What was made of it.
    pub(crate) workflow: Workflow,
    /// The folder it lies in: what its paths are relative to.
    pub(crate) base: PathBuf,
}

/// Reads a workflow's text; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Source, Failure> {
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let bytes = bytes(path).map_err(|error| Fault::io("read the workflow", path, &error))?;
    Source::from_bytes(name.clone(), bytes)
        .map_err(|diagnostic| Failure::NoSource(name, diagnostic))
}

/// The bytes of a file, or of as much of it as shows that it is too large for a workflow.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let limit = SOURCE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A workflow's text and what its params are set to, not checked yet.
#[derive(Debug)]
pub(crate) struct Text {
    source: Source,
    overrides: Vec<ParamOverride>,
    base: PathBuf,
}

/// Reads and checks a workflow. Warnings are shown, errors are the failure.
pub(crate) fn load(args: &WorkflowArgs, console: &mut Console) -> Result<Loaded, Failure> {
    Text::read(args)?.check(console)
}

impl Text {
    /// Reads a workflow.
    pub(crate) fn read(args: &WorkflowArgs) -> Result<Self, Failure> {
        let source = read(&args.file)?;
        let overrides = overrides(&args.overrides)?;
        let parent = args
            .file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let base = if args.file == Path::new("-") {
            None
        } else {
            parent
        };
        Ok(Self {
            source,
            overrides,
            base: base.map_or_else(|| PathBuf::from("."), Path::to_path_buf),
        })
    }

    /// Checks it. Warnings are shown, errors are the failure.
    pub(crate) fn check(self, console: &mut Console) -> Result<Loaded, Failure> {
        let Self {
            source,
            overrides,
            base,
        } = self;
        let workflow = match Workflow::parse(&source, &blip_ops::all(), &overrides) {
            Ok(workflow) => workflow,
            Err(diagnostics) => return Err(Failure::Workflow(Box::new(source), diagnostics)),
        };
        console.print_err(&render::diagnostics(
            &workflow.diagnostics,
            &source,
            console.color_err,
        ));
        Ok(Loaded {
            source,
            workflow,
            base,
        })
    }

    /// An engine on this workflow's cache, and the workflow's name in it.
    pub(crate) fn engine(
        &self,
        cache: &CacheArgs,
        jobs: Option<u32>,
        memory: Option<u64>,
    ) -> (Engine, String) {
        engine(&self.source, &self.base, cache, jobs, memory)
    }
}

impl Loaded {
    /// An engine on this workflow's cache.
    pub(crate) fn engine(&mut self, cache: &CacheArgs) -> Engine {
        let (engine, name) = engine(&self.source, &self.base, cache, None, None);
        self.workflow.name = name;
        engine
    }
}

fn engine(
    source: &Source,
    base: &Path,
    cache: &CacheArgs,
    jobs: Option<u32>,
    memory: Option<u64>,
) -> (Engine, String) {
    let beside = || {
        if base == Path::new(".") {
            CACHE_NAME.into()
        } else {
            base.join(CACHE_NAME)
        }
    };
    let folder = cache.cache.clone().unwrap_or_else(beside);
    let name = name_in(&folder, source);
    let index = match cache.index {
        Index::Sled => IndexKind::Sled,
        Index::None => IndexKind::Memory,
    };
    let engine = Engine::new(Config {
        cache: folder,
        base: base.to_path_buf(),
        index,
        resources: machine::resources(jobs, memory),
        env: blip_ops::numeric_env(),
    });
    let engine = match std::env::current_exe() {
        Ok(program) => engine.with_isolation(Isolation {
            program,
            args: vec!["stage".into()],
        }),
        Err(_) => engine,
    };
    (engine, name)
}

/// The workflow's name in the history of a cache: its path from the folder that the cache lies in,
/// so that it does not matter from where it is called, and that a moved folder keeps its history.
fn name_in(cache: &Path, source: &Source) -> String {
    let whole = |path: &Path| path.canonicalize().ok();
    let above = cache
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let Some(path) = whole(Path::new(source.name())) else {
        return source.name().to_owned();
    };
    let inside =
        whole(above).and_then(|above| path.strip_prefix(above).map(Path::to_path_buf).ok());
    inside.unwrap_or(path).display().to_string()
}
