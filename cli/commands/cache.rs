//! `blip cache`: disk usage, garbage collection and pins. `verify` has a module of its own.

use std::path::Path;

use blip_engine::cache::identity::CacheFolder;
use blip_engine::cache::lock::Holder;
use blip_engine::space::{self, Amount, GcOptions, GcReport, PARTS};
use blip_engine::{Config, Engine, IndexKind, NumericEnv};
use serde_json::{Map, Value, json};

use super::verify;
use crate::args::cache::{CacheCommand, Du, Gc, Pin};
use crate::args::{CacheDirArgs, Format};
use crate::console::{Console, Style};
use crate::error::{CommandError, ErrorMessage};
use crate::humanize::{bytes, count, duration, plural};
use crate::progress::lines::waiting;
use crate::table::Table;
use crate::{exit_code, machine, run_history};

/// Removed results listed before "and N more".
const MAX_LISTED: usize = 20;

pub(crate) fn run(args: &CacheCommand, console: &mut Console) -> Result<u8, CommandError> {
    match args {
        CacheCommand::Du(args) => du(args, console),
        CacheCommand::Gc(args) => gc(args, console),
        CacheCommand::Verify(args) => verify::run(args, console),
        CacheCommand::Pin(args) => pin(args, true, console),
        CacheCommand::Unpin(args) => pin(args, false, console),
    }
}

/// An engine on an existing cache. It runs no stages, so numeric environment and base folder do not
/// matter.
pub(super) fn open_engine(dir: &CacheDirArgs, index: IndexKind) -> Result<Engine, ErrorMessage> {
    if run_history::examine(&dir.cache)? != CacheFolder::Cache {
        return Err(ErrorMessage::usage(
            format!("there is no cache `{}`", dir.cache.display()),
            "the cache is beside the workflow; select it with --cache",
        ));
    }
    Ok(Engine::new(Config {
        cache: dir.cache.clone(),
        base: Path::new(".").to_path_buf(),
        index,
        resources: machine::resources(None, None),
        env: NumericEnv { fields: Vec::new() },
    }))
}

/// Whether to go on waiting for a process that uses the cache; says once which one it is.
pub(super) fn announce_wait(no_wait: bool, console: &mut Console) -> impl FnMut(&Holder) -> bool {
    let mut is_announced = no_wait;
    move |holder| {
        if !is_announced {
            console.note(waiting(None, holder.pid, &holder.host));
            is_announced = true;
        }
        !no_wait
    }
}

fn du(args: &Du, console: &mut Console) -> Result<u8, CommandError> {
    let used = open_engine(&args.dir, IndexKind::Memory)?.disk_usage()?;
    if args.format == Format::Json {
        let parts = parts_json(used.parts.iter().copied());
        console.json(&json!({ "parts": parts, "total": amount_json(used.total()) }));
        return Ok(exit_code::SUCCESS);
    }
    let mut table = Table::new(&["part", ">files", ">size", "description"]);
    for (name, amount) in &used.parts {
        table.row(du_row(name, *amount, part_description(name)));
    }
    table.row(du_row("total", used.total(), ""));
    table.print(console, "");
    Ok(exit_code::SUCCESS)
}

fn part_description(name: &str) -> &'static str {
    PARTS
        .iter()
        .find(|(part, _)| *part == name)
        .map_or("", |(_, description)| description)
}

fn du_row(name: &str, amount: Amount, description: &str) -> Vec<(String, Style)> {
    vec![
        (name.to_owned(), Style::Strong),
        (count(amount.files), Style::Plain),
        (bytes(amount.bytes), Style::Plain),
        (description.to_owned(), Style::Dim),
    ]
}

fn gc(args: &Gc, console: &mut Console) -> Result<u8, CommandError> {
    let options = GcOptions {
        keep_runs: args.keep_runs,
        min_age: args.older_than,
        max_bytes: args.max_size,
        dry_run: args.dry_run,
    };
    let engine = open_engine(&args.dir, IndexKind::Memory)?;
    let collected = engine.collect_while(&options, announce_wait(args.no_wait, console))?;
    if args.format == Format::Json {
        console.json(&collected_json(&collected, args.dry_run));
        return Ok(exit_code::SUCCESS);
    }
    print_evicted(&collected.results, console);
    let verb = if args.dry_run {
        "would remove"
    } else {
        "removed"
    };
    let freed = collected.bytes_before.saturating_sub(collected.bytes_after);
    console.line(format!(
        "{verb} {}, {}; kept {} used by runs, pins or exports; cache size {} -> {}",
        plural(collected.results.len(), "result"),
        bytes(freed),
        count(collected.rooted),
        bytes(collected.bytes_before),
        bytes(collected.bytes_after),
    ));
    if let Some(max) = args.max_size.filter(|max| collected.bytes_after > *max) {
        console.note(format!(
            "warning: the remaining results exceed {}: keep fewer runs, or unpin some",
            bytes(max)
        ));
    }
    Ok(exit_code::SUCCESS)
}

fn print_evicted(results: &[space::EvictedResult], console: &mut Console) {
    if results.is_empty() {
        return;
    }
    let mut table = Table::new(&["result of", "key", ">size", ">took"]);
    for result in results.iter().take(MAX_LISTED) {
        table.row(vec![
            (result.stage.clone(), Style::Strong),
            (result.key.short(), Style::Dim),
            (bytes(result.bytes), Style::Plain),
            (duration(result.took_ms), Style::Plain),
        ]);
    }
    table.print(console, "");
    if results.len() > MAX_LISTED {
        let more = results.len() - MAX_LISTED;
        console.line(format!("and {} more", count(more as u64)));
    }
    console.line("");
}

fn pin(args: &Pin, pinned: bool, console: &mut Console) -> Result<u8, CommandError> {
    let engine = open_engine(&args.dir, IndexKind::Memory)?;
    run_history::require(&engine.reader(), &args.dir.cache, &args.run)?;
    engine.pin(&args.run, pinned)?;
    let verb = if pinned { "pinned" } else { "unpinned" };
    console.line(format!("{verb} run {}", args.run));
    Ok(exit_code::SUCCESS)
}

fn collected_json(collected: &GcReport, dry_run: bool) -> Value {
    let results: Vec<Value> = collected.results.iter().map(evicted_json).collect();
    let parts = collected
        .parts
        .iter()
        .map(|(name, amount)| (*name, *amount));
    json!({
        "dry_run": dry_run,
        "results": results,
        "parts": parts_json(parts),
        "bytes_before": collected.bytes_before,
        "bytes_after": collected.bytes_after,
        "rooted": collected.rooted,
    })
}

fn evicted_json(result: &space::EvictedResult) -> Value {
    json!({
        "key": result.key,
        "stage": result.stage,
        "bytes": result.bytes,
        "took_ms": result.took_ms,
    })
}

fn parts_json(parts: impl Iterator<Item = (&'static str, Amount)>) -> Map<String, Value> {
    parts
        .map(|(name, amount)| (name.to_owned(), amount_json(amount)))
        .collect()
}

fn amount_json(amount: Amount) -> Value {
    json!({ "files": amount.files, "bytes": amount.bytes })
}
