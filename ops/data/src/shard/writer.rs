//! Writes shards.

use std::io::{self, Write};

/// Writes a shard: the same samples always give the same bytes.
pub struct ShardWriter<W: Write> {
    tar: tar::Builder<Counting<W>>,
}

/// Counts the bytes that are written.
struct Counting<W> {
    target: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.target.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

impl<W: Write> std::fmt::Debug for ShardWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardWriter").finish_non_exhaustive()
    }
}

impl<W: Write> ShardWriter<W> {
    pub fn new(target: W) -> Self {
        Self {
            tar: tar::Builder::new(Counting { target, bytes: 0 }),
        }
    }

    /// Adds a member and returns the offset of its bytes. The members of a key must be added one
    /// after the other.
    ///
    /// # Errors
    /// Those of writing.
    pub fn add(&mut self, key: &str, suffix: &str, bytes: &[u8]) -> io::Result<u64> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.tar
            .append_data(&mut header, format!("{key}.{suffix}"), bytes)?;
        // The bytes are the last thing written, padded to blocks. Counting from the start would
        // have to know how many blocks the header took, which long names need more of.
        Ok(self.bytes() - (bytes.len() as u64).next_multiple_of(512))
    }

    /// The number of bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.tar.get_ref().bytes
    }

    /// Ends the shard.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.tar.into_inner()?.target)
    }
}
