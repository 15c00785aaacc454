//! A byte range in a source text.

/// The bytes `start..end` of a [`Source`](crate::Source); both ends lie on character boundaries.
///
/// A tree holds more spans than anything else, so they are small: 32 bits suffice for
/// [`SOURCE_BYTES_MAX`](crate::SOURCE_BYTES_MAX).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        Span {
            start: saturate(start),
            end: saturate(end),
        }
    }

    pub fn start(self) -> usize {
        self.start as usize
    }

    /// One past the last byte; equal to the start where something is missing, as at the end of a
    /// line.
    pub fn end(self) -> usize {
        self.end as usize
    }

    /// The smallest range that covers both.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        Span {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    pub fn contains(self, offset: usize) -> bool {
        (self.start()..self.end()).contains(&offset)
    }
}

fn saturate(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
