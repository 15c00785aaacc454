//! Members to samples. A group whose key is over and that lacks its image or its text waits, within
//! bounds, for members that come later: `tar cf` of a folder packs files in the order in which the
//! file system has them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;

use super::group::{Formed, Group};
use super::{Fault, Members, RawSample, RejectedSample, ShardNotes, is_about_data};

/// Groups that wait hold at most this many bytes together.
const WAITING_BYTES_MAX: usize = 256 << 20;

/// A key by its digest: a shard may have millions.
type KeyDigest = [u64; 2];

#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) notes: ShardNotes,
    members: Members,
    ready: Vec<Result<RawSample, RejectedSample>>,
    current: Group,
    /// Groups that wait for their other members, by the order in which they began to.
    waiting: BTreeMap<u64, Group>,
    waiting_numbers: BTreeMap<String, u64>,
    waiting_bytes: usize,
    waits: u64,
    /// Keys of samples that were passed on, and of those that were rejected.
    passed_on: BTreeSet<KeyDigest>,
    rejected: BTreeSet<KeyDigest>,
    /// How many samples were passed on.
    count: u64,
    /// The suffixes of the last sample.
    suffixes: String,
}

impl Samples {
    pub(super) fn new(members: Members) -> Self {
        Self {
            members,
            ..Self::default()
        }
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    /// What can be passed on.
    pub(super) fn take_ready(&mut self) -> Vec<Result<RawSample, RejectedSample>> {
        mem::take(&mut self.ready)
    }

    /// A member of this key comes next. To be called before its bytes are read: if they cannot be,
    /// the sample before it is complete all the same.
    pub(super) fn begin_member(&mut self, key: &str) {
        if key == self.current.key {
            return;
        }
        let waiting = self.take_waiting(key);
        let next = waiting.unwrap_or_else(|| Group::new(key.to_owned()));
        let group = mem::replace(&mut self.current, next);
        self.close(group);
    }

    pub(super) fn add(&mut self, suffix: String, offset: u64, bytes: Result<Vec<u8>, String>) {
        self.current.add(suffix, offset, bytes);
    }

    pub(super) fn skip(&mut self, name: String) {
        self.notes.skipped += 1;
        self.notes.skipped_first.get_or_insert(name);
    }

    /// An archive ended and another one begins: its keys are its own.
    pub(super) fn next_archive(&mut self) {
        self.end();
        self.notes.further_archives += 1;
        self.passed_on.clear();
        self.rejected.clear();
    }

    pub(super) fn hole(&mut self, from: u64, to: u64) {
        self.reject_shard(format!(
            "bytes {from} to {to} are zeros between members: members may be missing there"
        ));
    }

    pub(super) fn end(&mut self) {
        let group = mem::take(&mut self.current);
        self.close(group);
        self.reject_waiting();
    }

    pub(super) fn end_by_fault(&mut self, fault: &Fault) {
        let group = mem::take(&mut self.current);
        // More members of the last sample may have followed, unless it has all that others have.
        let is_ended = matches!(fault, Fault::Trailing(_));
        if is_ended || group.suffixes() == self.suffixes {
            self.close(group);
        } else if !group.is_empty() {
            self.wait(group);
        }
        let incomplete = self.waiting.len();
        self.waiting.clear();
        let mut read = format!("the {} samples before it are used", self.count);
        if incomplete > 0 {
            read.push_str(&format!(", {incomplete} incomplete ones are not"));
        }
        self.reject_shard(match fault {
            Fault::NotTar(what) => what.clone(),
            Fault::Empty => "it is empty (0 bytes)".to_owned(),
            Fault::OnlyZeros(len) => format!("it has no members: all its {len} bytes are zeros"),
            Fault::Cut(at, what) => format!("it ends early, at byte {at}, inside {what}: {read}"),
            Fault::NoEnd(at) => format!(
                "it ends at byte {at} without an end-of-archive block, so it may have been cut \
                 there: {read}"
            ),
            Fault::Corrupt(at) => format!("its header at byte {at} is corrupt: {read}"),
            Fault::Trailing(at) => {
                format!("what follows its end at byte {at} is no tar file: {read}")
            }
        });
    }

    /// Passes a group on whose key is over, or lets it wait.
    fn close(&mut self, group: Group) {
        if group.is_empty() {
            return;
        }
        let (key, suffixes) = (group.key.clone(), group.suffixes());
        let (formed, has_unreadable_json) = group.form(&self.members);
        match formed {
            Formed::Sample(sample) => {
                self.notes.unreadable_json += u64::from(has_unreadable_json);
                let is_new = self.passed_on.insert(digest(&key));
                self.notes.repeated_keys += u64::from(!is_new);
                self.count += 1;
                self.suffixes = suffixes;
                self.ready.push(Ok(sample));
            }
            Formed::Rejected(reason) => self.reject(key, reason, false),
            Formed::Incomplete(group, _) => self.wait(group),
        }
    }

    fn wait(&mut self, group: Group) {
        self.waiting_bytes += group.bytes();
        self.waiting_numbers.insert(group.key.clone(), self.waits);
        self.waiting.insert(self.waits, group);
        self.waits += 1;
        while self.waiting_bytes > WAITING_BYTES_MAX {
            let Some((_, group)) = self.waiting.pop_first() else {
                break;
            };
            self.waiting_bytes -= group.bytes();
            self.waiting_numbers.remove(&group.key);
            self.reject_incomplete(group);
        }
    }

    fn take_waiting(&mut self, key: &str) -> Option<Group> {
        let number = self.waiting_numbers.remove(key)?;
        let group = self.waiting.remove(&number)?;
        self.waiting_bytes -= group.bytes();
        Some(group)
    }

    fn reject_waiting(&mut self) {
        self.waiting_numbers.clear();
        self.waiting_bytes = 0;
        for group in mem::take(&mut self.waiting).into_values() {
            self.reject_incomplete(group);
        }
    }

    /// Rejects a group whose other members did not come.
    fn reject_incomplete(&mut self, group: Group) {
        let name = group.key.rsplit('/').next().unwrap_or(&group.key);
        if is_about_data(name) && !group.has_image(&self.members) {
            return self.skip(group.key);
        }
        let (key, suffixes) = (group.key.clone(), group.suffixes());
        if self.passed_on.contains(&digest(&key)) {
            let reason = format!(
                "its {suffixes} is not beside its other members: pack them sorted by name \
                 (`tar --sort=name`)"
            );
            return self.reject(key, reason, true);
        }
        let (formed, _) = group.form(&self.members);
        if let Formed::Incomplete(_, reason) | Formed::Rejected(reason) = formed {
            self.reject(key, reason, false);
        }
    }

    /// A key is rejected once, whatever else comes of it.
    fn reject(&mut self, key: String, reason: String, retracts: bool) {
        if self.rejected.insert(digest(&key)) {
            self.ready.push(Err(RejectedSample {
                key,
                reason,
                retracts,
            }));
        }
    }

    fn reject_shard(&mut self, reason: String) {
        self.ready.push(Err(RejectedSample {
            key: String::new(),
            reason,
            retracts: false,
        }));
    }
}

fn digest(key: &str) -> KeyDigest {
    let half = |number: u8| {
        let mut hasher = DefaultHasher::new();
        (number, key).hash(&mut hasher);
        hasher.finish()
    };
    [half(0), half(1)]
}
