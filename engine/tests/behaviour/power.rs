//! A model of what a power cut leaves: what was synced; and of the rest nothing, its names only, or
//! any part of it.
//!
//! The model watches a run. At every sync it takes a snapshot of what the disk would hold if the
//! power failed at that moment. Each snapshot is then restored as a cache, verified in full, and
//! run on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::digest::Digest;

use crate::scene::{self, assert_valid};

/// A file or folder, independent of its name: inode number and creation time. Inode numbers are
/// reused.
type Id = (u64, Option<SystemTime>);

/// The entries of a folder.
type Names = BTreeMap<String, (Id, Kind)>;

#[derive(Clone)]
enum Kind {
    File,
    Folder,
}

/// The state of the disk at one moment.
#[derive(Clone, Default)]
struct Snapshot {
    /// Synced contents of files.
    contents: BTreeMap<Id, Arc<Vec<u8>>>,
    /// Synced entries of folders.
    durable: BTreeMap<Id, Arc<Names>>,
    /// Entries of folders as a process would see them.
    live: BTreeMap<Id, Arc<Names>>,
}

struct Model {
    base: PathBuf,
    /// One call at a time, so that a snapshot shows a single moment.
    busy: AtomicBool,
    now: Mutex<Snapshot>,
    snapshots: Mutex<Vec<Snapshot>>,
}

/// What a power cut leaves of writes without a sync.
#[derive(Clone, Copy, Debug)]
enum Unsynced {
    Lost,
    /// Names exist, and files whose content was not synced are empty.
    Names,
    /// Each name is, independently, as it was synced or as it was last.
    Any(u8),
}

fn id(path: &Path) -> Option<Id> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.ino(), metadata.created().ok()))
}

fn listing(folder: &Path) -> Names {
    let entry = |entry: fs::DirEntry| {
        let kind = if entry.path().is_dir() {
            Kind::Folder
        } else {
            Kind::File
        };
        Some((
            entry.file_name().into_string().ok()?,
            (id(&entry.path())?, kind),
        ))
    };
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(entry)
        .collect()
}

fn walk(folder: &Path, found: &mut BTreeMap<Id, Arc<Names>>) {
    let Some(id) = id(folder) else { return };
    let names = listing(folder);
    for (name, (_, kind)) in &names {
        if matches!(kind, Kind::Folder) {
            walk(&folder.join(name), found);
        }
    }
    found.insert(id, Arc::new(names));
}

impl Hook for Model {
    fn before(&self, call: Syscall, _: &Path) -> FaultAction {
        let started = Instant::now();
        while self.busy.swap(true, Ordering::SeqCst) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "a call failed in a run without faults"
            );
            std::thread::yield_now();
        }
        if matches!(call, Syscall::SyncFile | Syscall::SyncFolder) {
            self.take();
        }
        FaultAction::SkipSync
    }

    fn after(&self, call: Syscall, path: &Path) {
        if let (Syscall::SyncFile | Syscall::SyncFolder, Some(id)) = (call, id(path)) {
            let mut now = self.now.lock().unwrap();
            if call == Syscall::SyncFile {
                now.contents.insert(id, Arc::new(fs::read(path).unwrap()));
            } else {
                now.durable.insert(id, Arc::new(listing(path)));
            }
            drop(now);
            self.take();
        }
        self.busy.store(false, Ordering::SeqCst);
    }
}

impl Model {
    fn take(&self) {
        let mut live = BTreeMap::new();
        walk(&self.base, &mut live);
        let snapshot = Snapshot {
            live,
            ..self.now.lock().unwrap().clone()
        };
        self.snapshots.lock().unwrap().push(snapshot);
    }
}

impl Snapshot {
    /// Restores the snapshot of a folder at `to`.
    fn restore(&self, folder: Id, to: &Path, unsynced: Unsynced) {
        fs::create_dir_all(to).unwrap();
        let empty = Arc::default();
        let durable = self.durable.get(&folder).unwrap_or(&empty);
        let live = self.live.get(&folder).unwrap_or(&empty);
        let names: BTreeSet<&String> = durable.keys().chain(live.keys()).collect();
        for name in names {
            let place = to.join(name);
            let synced = match unsynced {
                Unsynced::Lost => true,
                Unsynced::Names => false,
                Unsynced::Any(seed) => {
                    Digest::parts("cut", &[&[seed], place.as_os_str().as_encoded_bytes()])
                        .as_bytes()[0]
                        < 128
                }
            };
            match if synced {
                durable.get(name)
            } else {
                live.get(name)
            } {
                Some((id, Kind::Folder)) => self.restore(*id, &place, unsynced),
                Some((id, Kind::File)) => {
                    fs::write(&place, self.contents.get(id).map_or(&[][..], |bytes| bytes))
                        .unwrap();
                }
                None => {}
            }
        }
    }
}

/// Runs the scene, and then runs it again on every snapshot of the first run.
fn survives(unsynced: Unsynced) {
    let expected = scene::undisturbed();
    let world = scene::world();
    let base = world.folder.path().to_path_buf();
    let root = id(&base).unwrap();
    let model = Arc::new(Model {
        base: base.clone(),
        busy: AtomicBool::new(false),
        now: Mutex::default(),
        snapshots: Mutex::default(),
    });
    scene::run(&world, Disk::with_hook(model.clone()));
    let snapshots = std::mem::take(&mut *model.snapshots.lock().unwrap());
    assert!(snapshots.len() > 100, "{}", snapshots.len());
    let restore = |snapshot: &Snapshot, unsynced| {
        fs::remove_dir_all(&base).unwrap();
        snapshot.restore(root, &base, unsynced);
        // The user's own files existed before the run.
        scene::fill(&world);
    };
    for (number, snapshot) in snapshots.iter().enumerate() {
        restore(snapshot, unsynced);
        assert_valid(
            &world,
            &expected,
            &format!("{unsynced:?}, moment {number} of {}", snapshots.len()),
        );
    }
    // At the end everything is synced: the model does not just lose everything.
    restore(snapshots.last().unwrap(), Unsynced::Lost);
    world.calls.take();
    scene::run(&world, scene::unsynced());
    let mut calls = world.calls.take();
    // A restored file is younger than the one that was exported.
    calls.remove("export");
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
fn what_was_not_synced_is_lost() {
    survives(Unsynced::Lost);
}

#[test]
fn what_was_not_synced_has_names_and_no_bytes() {
    survives(Unsynced::Names);
}

#[test]
fn of_what_was_not_synced_anything_is_left() {
    survives(Unsynced::Any(1));
}
