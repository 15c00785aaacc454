//! `blip cache`: what a cache takes on the disk, and how it is kept within bounds.

use std::path::Path;

use blip_engine::space::{Amount, Collect, Collected, PARTS};
use blip_engine::{Config, Engine, IndexKind, NumericEnv};
use serde_json::{Value, json};

use super::verify;
use crate::amounts::{count, plural, took};
use crate::args::Format;
use crate::args::space::{CacheCommand, Du, Gc, Pin, Place};
use crate::console::{Console, Style};
use crate::exit_code;
use crate::failure::{Failure, Fault};
use crate::machine;
use crate::table::Table;

/// Of the results that go, this many are listed.
const LISTED_MAX: usize = 20;

/// Does what is asked.
pub(crate) fn run(args: &CacheCommand, console: &mut Console) -> Result<u8, Failure> {
    match args {
        CacheCommand::Du(args) => du(args, console),
        CacheCommand::Gc(args) => gc(args, console),
        CacheCommand::Verify(args) => verify::run(args, console),
        CacheCommand::Pin(args) => pin(args, true, console),
        CacheCommand::Unpin(args) => pin(args, false, console),
    }
}

/// An engine on a cache that is there, for what needs no index.
fn engine(place: &Place) -> Result<Engine, Fault> {
    engine_on(place, IndexKind::Memory)
}

/// An engine on a cache that is there. It runs nothing, so the machine does not matter.
pub(super) fn engine_on(place: &Place, index: IndexKind) -> Result<Engine, Fault> {
    if !place.cache.is_dir() {
        let what = format!("there is no cache `{}`", place.cache.display());
        return Err(Fault::usage(
            what,
            "it lies beside the workflow: name it with --cache",
        ));
    }
    Ok(Engine::new(Config {
        cache: place.cache.clone(),
        base: Path::new(".").to_path_buf(),
        index,
        resources: machine::resources(None, None),
        env: NumericEnv { fields: Vec::new() },
    }))
}

fn du(args: &Du, console: &mut Console) -> Result<u8, Failure> {
    let used = engine(&args.place)?.disk_use()?;
    if args.format == Format::Json {
        let parts: serde_json::Map<String, Value> = used
            .parts
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), as_json(*amount)))
            .collect();
        console.line(json!({ "parts": parts, "total": as_json(used.total()) }).to_string());
        return Ok(exit_code::DONE);
    }
    let mut table = Table::new(&["part", ">files", ">size", "what it is"]);
    for (name, amount) in &used.parts {
        let what = PARTS
            .iter()
            .find(|(part, _)| part == name)
            .map_or("", |(_, what)| what);
        table.row(row(name, *amount, what));
    }
    table.row(row("total", used.total(), ""));
    table.print(console, "");
    Ok(exit_code::DONE)
}

fn row(name: &str, amount: Amount, what: &str) -> Vec<(String, Style)> {
    vec![
        (name.to_owned(), Style::Strong),
        (count(amount.files), Style::Plain),
        (bytes(amount.bytes), Style::Plain),
        (what.to_owned(), Style::Dim),
    ]
}

fn gc(args: &Gc, console: &mut Console) -> Result<u8, Failure> {
    let Gc {
        keep_runs,
        older_than,
        max_size,
        dry_run,
        ..
    } = *args;
    let options = Collect {
        keep_runs,
        min_age: older_than,
        max_bytes: max_size,
        dry_run,
    };
    let collected = engine(&args.place)?.collect(&options, args.no_wait)?;
    if args.format == Format::Json {
        console.line(collected_json(&collected, dry_run).to_string());
        return Ok(exit_code::DONE);
    }
    if !collected.results.is_empty() {
        let mut table = Table::new(&["result of", "key", ">size", ">made in"]);
        for result in collected.results.iter().take(LISTED_MAX) {
            table.row(vec![
                (result.stage.clone(), Style::Strong),
                (result.key.short(), Style::Dim),
                (bytes(result.bytes), Style::Plain),
                (took(result.took_ms), Style::Plain),
            ]);
        }
        table.print(console, "");
        if collected.results.len() > LISTED_MAX {
            console.line(format!(
                "and {} more",
                count((collected.results.len() - LISTED_MAX) as u64)
            ));
        }
        console.line("");
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    console.line(format!(
        "{verb} {} and {} of files; {} stay, held by runs, pins and exports; {} before, {} after",
        plural(collected.results.len(), "result"),
        bytes(collected.bytes_before.saturating_sub(collected.bytes_after)),
        count(collected.rooted),
        bytes(collected.bytes_before),
        bytes(collected.bytes_after),
    ));
    if let Some(max) = max_size.filter(|max| collected.bytes_after > *max) {
        console.note(format!(
            "what is left is more than {}: keep fewer runs, or unpin some",
            bytes(max)
        ));
    }
    Ok(exit_code::DONE)
}

fn collected_json(collected: &Collected, dry_run: bool) -> Value {
    let result = |result: &blip_engine::space::Evicted| {
        json!({
            "key": result.key,
            "stage": result.stage,
            "bytes": result.bytes,
            "took_ms": result.took_ms,
        })
    };
    let parts: serde_json::Map<String, Value> = collected
        .parts
        .iter()
        .map(|(name, amount)| ((*name).to_owned(), as_json(*amount)))
        .collect();
    json!({
        "dry_run": dry_run,
        "results": collected.results.iter().map(result).collect::<Vec<_>>(),
        "parts": parts,
        "bytes_before": collected.bytes_before,
        "bytes_after": collected.bytes_after,
        "rooted": collected.rooted,
    })
}

fn pin(args: &Pin, pinned: bool, console: &mut Console) -> Result<u8, Failure> {
    let engine = engine(&args.place)?;
    super::diff::known(&engine.reader(), &args.place.cache, &args.run)?;
    engine.pin(&args.run, pinned)?;
    let text = if pinned {
        "its results stay until it is unpinned"
    } else {
        "its results may be removed"
    };
    console.line(format!("run {}: {text}", args.run));
    Ok(exit_code::DONE)
}

fn as_json(amount: Amount) -> Value {
    json!({ "files": amount.files, "bytes": amount.bytes })
}

/// Bytes as people read them: `512 B`, `1.4 MiB`.
#[expect(clippy::cast_precision_loss, reason = "an amount for people to read")]
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match UNITS.iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}
