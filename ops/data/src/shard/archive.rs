//! The members of a tar file with their positions, and what is wrong with it and where.
//!
//! The headers are parsed by the `tar` crate. Its iterator is not used: it takes a block of zeros,
//! and a file that ends between two members, for the end of the archive, and its errors have no
//! position.

use std::io::{self, BufReader, Read};

use tar::{EntryType, Header, PaxExtensions};

use super::foreign;

const BLOCK: u64 = 512;
/// Archives are padded to this many bytes by tar and Python.
const RECORD: u64 = 20 * BLOCK;
/// The most bytes read of a header that describes the next one.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;
/// What pax headers call the parts of a sparse file.
const PAX_SPARSE: &str = "GNU.sparse.";

/// A member, whose bytes are read next.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Where its bytes begin.
    pub(super) offset: u64,
    pub(super) size: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    File,
    Folder,
    /// Nothing that a sample could need.
    Metadata,
    /// Something without bytes of its own at one place, such as a link.
    Unreadable(String),
}

/// What comes next in an archive.
#[derive(Debug)]
pub(super) enum Entry {
    Member(Member),
    /// An archive ended and another one begins.
    NextArchive,
    /// Zeros that are no end of an archive, from and to these bytes; members follow.
    Hole(u64, u64),
    End,
}

/// Why an archive cannot be read further.
#[derive(Debug)]
pub(super) enum ArchiveError {
    Io(io::Error),
    Fault(Fault),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    NotTar(String),
    Empty,
    OnlyZeros(u64),
    /// It ends at this byte, inside this.
    Cut(u64, String),
    /// It ends between two members, without a block that says so.
    NoEnd(u64),
    /// The header at this byte cannot be read.
    Corrupt(u64),
    /// After zeros, what begins at this byte is no member.
    Trailing(u64),
}

/// A tar file that is read from beginning to end.
pub(super) struct Archive<R> {
    reader: BufReader<R>,
    position: u64,
    /// Where the archive began, of several in one file.
    start: u64,
    /// The name and the range of the last member.
    last: (String, u64, u64),
    /// Read by [`Archive::next`], and not passed on yet.
    header: Option<Box<Header>>,
}

enum Block {
    Full(Box<[u8; BLOCK as usize]>),
    /// The file ended after these bytes of it.
    Part(Vec<u8>),
}

/// What extension headers say of the member after them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
    /// Whether there were any.
    given: bool,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(file: R) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 20, file),
            position: 0,
            start: 0,
            last: (String::new(), 0, 0),
            header: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<Entry, ArchiveError> {
        if let Some(header) = self.header.take() {
            return self.member(*header);
        }
        self.skip_rest()?;
        let zeros_from = self.position;
        loop {
            let at = self.position;
            let block = match self.read_block()? {
                Block::Full(block) if is_zero(&*block) => continue,
                Block::Full(block) => block,
                Block::Part(part) => return self.end(zeros_from, at, &part),
            };
            let Some(header) = valid_header(&block) else {
                return Err(invalid(at, at > zeros_from, &*block));
            };
            if at == zeros_from {
                return self.member(header);
            }
            self.header = Some(Box::new(header));
            if self.is_end_of_archive(zeros_from, at) {
                self.start = at;
                return Ok(Entry::NextArchive);
            }
            return Ok(Entry::Hole(zeros_from, at));
        }
    }

    /// Whether zeros between two members are how writers end an archive: two blocks, or as many as
    /// complete a record.
    fn is_end_of_archive(&self, from: u64, to: u64) -> bool {
        to - from == 2 * BLOCK
            || (to - from >= 2 * BLOCK && (to - self.start).is_multiple_of(RECORD))
    }

    /// The end of the file, `part` bytes after the last full block.
    fn end(&self, zeros_from: u64, at: u64, part: &[u8]) -> Result<Entry, ArchiveError> {
        let len = self.position;
        let fault = if len == 0 {
            Fault::Empty
        } else if zeros_from == 0 && part.iter().all(|byte| *byte == 0) {
            if len <= RECORD {
                return Ok(Entry::End);
            }
            Fault::OnlyZeros(len)
        } else if at == 0 {
            Fault::NotTar(foreign::describe(part))
        } else if at > zeros_from && part.iter().all(|byte| *byte == 0) {
            return Ok(Entry::End);
        } else if part.is_empty() {
            Fault::NoEnd(len)
        } else {
            Fault::Cut(len, format!("the header at byte {at}"))
        };
        Err(ArchiveError::Fault(fault))
    }

    /// The member of a header, after the headers that describe it.
    fn member(&mut self, mut header: Header) -> Result<Entry, ArchiveError> {
        let mut extensions = Extensions::default();
        loop {
            let at = self.position - BLOCK;
            let corrupt = || ArchiveError::Fault(Fault::Corrupt(at));
            let kind = header.entry_type();
            let size = header.entry_size().map_err(|_| corrupt())?;
            match kind {
                EntryType::GNULongName => {
                    let mut name = self.extension(size)?;
                    name.truncate(
                        name.iter()
                            .position(|byte| *byte == 0)
                            .unwrap_or(name.len()),
                    );
                    extensions.name = Some(name);
                }
                EntryType::XHeader => {
                    let bytes = self.extension(size)?;
                    extensions.add_pax(&bytes).ok_or_else(corrupt)?;
                }
                EntryType::GNULongLink => drop(self.extension(size)?),
                _ => return self.described(&header, &extensions, size),
            }
            extensions.given = true;
            let next = self.position;
            header = match self.read_block()? {
                Block::Full(block) => match valid_header(&block) {
                    Some(header) => header,
                    None => return Err(ArchiveError::Fault(Fault::Corrupt(next))),
                },
                Block::Part(_) => {
                    let what = format!("the header at byte {next}");
                    return Err(ArchiveError::Fault(Fault::Cut(self.position, what)));
                }
            };
        }
    }

    fn described(
        &mut self,
        header: &Header,
        extensions: &Extensions,
        size: u64,
    ) -> Result<Entry, ArchiveError> {
        let name = match &extensions.name {
            Some(name) => readable_name(name),
            None => readable_name(&header.path_bytes()),
        };
        let kind = if extensions.is_sparse {
            Kind::Unreadable("a sparse file".to_owned())
        } else {
            kind_of(header, &name)
        };
        let has_bytes = !header.entry_type().is_hard_link()
            && !matches!(kind, Kind::Folder)
            && (!matches!(kind, Kind::Unreadable(_))
                || is_sparse(header)
                || extensions.is_sparse
                || is_unknown(header.entry_type()));
        let size = match extensions.size {
            Some(size) if has_bytes => size,
            None if has_bytes || matches!(kind, Kind::Metadata) => size,
            _ => 0,
        };
        if is_sparse(header) {
            self.skip_sparse_map(header)?;
        }
        let offset = self.position;
        let end = offset
            .checked_add(size)
            .filter(|end| *end < u64::MAX - BLOCK);
        let Some(end) = end else {
            return Err(ArchiveError::Fault(Fault::Corrupt(offset - BLOCK)));
        };
        self.last = (name.clone(), offset, end);
        Ok(Entry::Member(Member {
            name,
            kind,
            offset,
            size,
        }))
    }

    /// All bytes of the member that was returned last.
    pub(super) fn read_member(&mut self) -> Result<Vec<u8>, ArchiveError> {
        let (_, _, end) = self.last;
        let size = end - self.position;
        let mut bytes = Vec::new();
        (&mut self.reader).take(size).read_to_end(&mut bytes)?;
        self.position += bytes.len() as u64;
        if bytes.len() as u64 == size {
            Ok(bytes)
        } else {
            Err(self.cut_in_member())
        }
    }

    /// What is left of the last member, and its padding.
    fn skip_rest(&mut self) -> Result<(), ArchiveError> {
        let end = self.last.2.next_multiple_of(BLOCK);
        let left = end - self.position.min(end);
        let skipped = io::copy(&mut (&mut self.reader).take(left), &mut io::sink())?;
        self.position += skipped;
        if skipped == left {
            Ok(())
        } else {
            Err(self.cut_in_member())
        }
    }

    fn cut_in_member(&self) -> ArchiveError {
        let (name, from, to) = &self.last;
        let what = format!("`{name}` ({} bytes from byte {from})", to - from);
        ArchiveError::Fault(Fault::Cut(self.position, what))
    }

    /// The bytes of a header that describes the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let at = self.position;
        if size > EXTENSION_BYTES_MAX {
            return Err(ArchiveError::Fault(Fault::Corrupt(at - BLOCK)));
        }
        self.last = ("a header".to_owned(), at, at + size);
        let bytes = self.read_member()?;
        self.skip_rest()?;
        Ok(bytes)
    }

    /// The blocks between the header of a sparse file and its bytes.
    fn skip_sparse_map(&mut self, header: &Header) -> Result<(), ArchiveError> {
        let mut is_extended = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        while is_extended {
            let at = self.position;
            match self.read_block()? {
                Block::Full(block) => is_extended = block.get(504) == Some(&1),
                Block::Part(_) => {
                    let what = format!("the header at byte {at}");
                    return Err(ArchiveError::Fault(Fault::Cut(self.position, what)));
                }
            }
        }
        Ok(())
    }

    fn read_block(&mut self) -> io::Result<Block> {
        let mut bytes = Vec::with_capacity(BLOCK as usize);
        (&mut self.reader).take(BLOCK).read_to_end(&mut bytes)?;
        self.position += bytes.len() as u64;
        Ok(match bytes.try_into() {
            Ok(block) => Block::Full(block),
            Err(part) => Block::Part(part),
        })
    }
}

impl Extensions {
    /// `None` when the records cannot be read.
    fn add_pax(&mut self, bytes: &[u8]) -> Option<()> {
        for record in PaxExtensions::new(bytes) {
            let record = record.ok()?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.name = Some(value.to_vec()),
                b"size" => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                key => self.is_sparse |= key.starts_with(PAX_SPARSE.as_bytes()),
            }
        }
        Some(())
    }
}

fn invalid(at: u64, is_after_zeros: bool, block: &[u8]) -> ArchiveError {
    ArchiveError::Fault(if at == 0 {
        Fault::NotTar(foreign::describe(block))
    } else if is_after_zeros {
        Fault::Trailing(at)
    } else {
        Fault::Corrupt(at)
    })
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The header in a block, if its checksum is right. Old writers summed up signed bytes.
fn valid_header(block: &[u8; BLOCK as usize]) -> Option<Header> {
    let header = Header::from_byte_slice(block);
    let expected = i64::from(header.cksum().ok()?);
    let (mut unsigned, mut signed) = (8 * 32, 8 * 32);
    for (at, byte) in block.iter().enumerate() {
        if !(148..156).contains(&at) {
            unsigned += i64::from(*byte);
            signed += i64::from(byte.cast_signed());
        }
    }
    (expected == unsigned || expected == signed).then(|| header.clone())
}

fn kind_of(header: &Header, name: &str) -> Kind {
    let unreadable = |what: &str| Kind::Unreadable(what.to_owned());
    match header.entry_type() {
        // Before there was a type for folders, a folder was a file whose name ends so.
        EntryType::Regular | EntryType::Continuous if name.ends_with('/') => Kind::Folder,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Directory => Kind::Folder,
        EntryType::XGlobalHeader => Kind::Metadata,
        EntryType::Link => Kind::Unreadable(link("a hard link", header)),
        EntryType::Symlink => Kind::Unreadable(link("a symbolic link", header)),
        EntryType::Char | EntryType::Block => unreadable("a device"),
        EntryType::Fifo => unreadable("a FIFO"),
        EntryType::GNUSparse => unreadable("a sparse file"),
        other => match other.as_byte() {
            // The name of a volume, and the list of a folder.
            b'V' | b'D' => Kind::Metadata,
            byte => Kind::Unreadable(format!("of the unknown type `{}`", byte.escape_ascii())),
        },
    }
}

fn link(what: &str, header: &Header) -> String {
    match header.link_name_bytes() {
        Some(target) => format!("{what} to `{}`", readable_name(&target)),
        None => what.to_owned(),
    }
}

fn is_sparse(header: &Header) -> bool {
    header.entry_type() == EntryType::GNUSparse
}

fn is_unknown(kind: EntryType) -> bool {
    matches!(kind.as_byte(), byte if !(b'0'..=b'7').contains(&byte) && byte != 0)
}

/// A name as text. Bytes that are no UTF-8 become `\xe9`, so that different names stay different.
fn readable_name(bytes: &[u8]) -> String {
    let mut name = String::new();
    for chunk in bytes.utf8_chunks() {
        name.push_str(chunk.valid());
        name.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    name
}
