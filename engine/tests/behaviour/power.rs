//! A model of what a power cut leaves: what was synced, and of the rest nothing, its names alone,
//! or any part of it.
//!
//! The model watches a run. At every sync it takes down what the disk would hold if the power went
//! at that moment; each of these pictures is then laid out as a cache, looked over in full, and run
//! on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use blip_engine::cache::disk::{Disk, FaultAction, Hook, Syscall};
use blip_engine::digest::Digest;

use crate::scene::{self, assert_sound};

/// A file or folder, whatever its name is just now. Numbers are used again; times tell the users
/// apart.
type Id = (u64, Option<SystemTime>);

/// What is in a folder.
type Names = BTreeMap<String, (Id, Kind)>;

#[derive(Clone)]
enum Kind {
    File,
    Folder,
}

/// What is on the disk for certain, and what the system would say is there.
#[derive(Clone, Default)]
struct Picture {
    contents: BTreeMap<Id, Arc<Vec<u8>>>,
    durable: BTreeMap<Id, Arc<Names>>,
    live: BTreeMap<Id, Arc<Names>>,
}

struct Model {
    base: PathBuf,
    /// One call at a time, so that no picture shows two moments.
    busy: AtomicBool,
    now: Mutex<Picture>,
    pictures: Mutex<Vec<Picture>>,
}

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug)]
enum Rest {
    /// It is gone.
    Lost,
    /// Names are there, and files that were not synced are empty.
    Names,
    /// Each name by itself is as it was synced or as it was last.
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
        let picture = Picture {
            live,
            ..self.now.lock().unwrap().clone()
        };
        self.pictures.lock().unwrap().push(picture);
    }
}

impl Picture {
    /// Lays the picture of a folder out at `to`.
    fn lay_out(&self, folder: Id, to: &Path, rest: Rest) {
        fs::create_dir_all(to).unwrap();
        let empty = Arc::default();
        let durable = self.durable.get(&folder).unwrap_or(&empty);
        let live = self.live.get(&folder).unwrap_or(&empty);
        let names: BTreeSet<&String> = durable.keys().chain(live.keys()).collect();
        for name in names {
            let place = to.join(name);
            let synced = match rest {
                Rest::Lost => true,
                Rest::Names => false,
                Rest::Any(seed) => {
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
                Some((id, Kind::Folder)) => self.lay_out(*id, &place, rest),
                Some((id, Kind::File)) => {
                    fs::write(&place, self.contents.get(id).map_or(&[][..], |bytes| bytes))
                        .unwrap();
                }
                None => {}
            }
        }
    }
}

/// Runs the scene, and then runs it again on every picture of the first run.
fn survives(rest: Rest) {
    let expected = scene::undisturbed();
    let world = scene::world();
    let base = world.folder.path().to_path_buf();
    let root = id(&base).unwrap();
    let model = Arc::new(Model {
        base: base.clone(),
        busy: AtomicBool::new(false),
        now: Mutex::default(),
        pictures: Mutex::default(),
    });
    scene::run(&world, Disk::with_hook(model.clone()));
    let pictures = std::mem::take(&mut *model.pictures.lock().unwrap());
    assert!(pictures.len() > 100, "{}", pictures.len());
    let lay_out = |picture: &Picture, rest| {
        fs::remove_dir_all(&base).unwrap();
        picture.lay_out(root, &base, rest);
        // The user's own files were there before.
        scene::fill(&world);
    };
    for (number, picture) in pictures.iter().enumerate() {
        lay_out(picture, rest);
        assert_sound(
            &world,
            &expected,
            &format!("{rest:?}, moment {number} of {}", pictures.len()),
        );
    }
    // What is on the disk at the end is everything: the model does not simply forget.
    lay_out(pictures.last().unwrap(), Rest::Lost);
    world.calls.take();
    scene::run(&world, scene::unsynced());
    let mut calls = world.calls.take();
    // A file that is laid out is younger than the one that was written.
    calls.remove("export");
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
fn what_was_not_synced_is_lost() {
    survives(Rest::Lost);
}

#[test]
fn what_was_not_synced_has_names_and_no_bytes() {
    survives(Rest::Names);
}

#[test]
fn of_what_was_not_synced_anything_is_left() {
    survives(Rest::Any(1));
}
