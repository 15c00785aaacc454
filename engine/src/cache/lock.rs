//! One run at a time on a cache: `flock` on `.blip/lock`, which dies with the process that holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a waiting run tries again.
const POLL: Duration = Duration::from_millis(100);

/// Whoever holds the lock, as it wrote of itself. The text is only for messages; the lock is the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The machine it runs on.
    pub host: String,
    /// When it took the lock, in seconds since 1970.
    pub since: u64,
}

/// The lock, held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting while another process holds it. `waiting` is told of the holder before each try after the
    /// first and says whether to go on waiting.
    ///
    /// # Errors
    /// What opening or locking the file gives; `Ok(None)` when `waiting` gave up.
    pub fn acquire(path: &Path, mut waiting: impl FnMut(&Holder) -> bool) -> io::Result<Option<Self>> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if !waiting(&read_holder(&mut file)) {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        write!(file, "{} {} {since}", std::process::id(), host())?;
        Ok(Some(Self { _file: file }))
    }
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    // A holder that has not written yet reads as unknown; the next try sees more.
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    let mut words = text.split_whitespace();
    Holder {
        pid: words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
        host: words.next().unwrap_or("unknown").to_owned(),
        since: words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or("unknown".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_of_the_first_and_may_give_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::acquire(&path, |_| false).unwrap().unwrap();
        let mut seen = None;
        let second = Lock::acquire(&path, |holder| {
            seen = Some(holder.clone());
            false
        });
        assert!(second.unwrap().is_none());
        assert_eq!(seen.unwrap().pid, std::process::id());
        drop(first);
        assert!(Lock::acquire(&path, |_| false).unwrap().is_some());
    }
}
