//! A byte range in a source text; nothing else.

/// The bytes `start..end` of a [`Source`](crate::Source), which has at most
/// [`SOURCE_BYTES_MAX`](crate::SOURCE_BYTES_MAX). Both ends lie on character boundaries. Of nothing
/// does a large workflow have more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range from `start` up to, not including, `end`.
    pub fn new(start: usize, end: usize) -> Span {
        let place = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        Span {
            start: place(start),
            end: place(end),
        }
    }

    /// The first byte.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// One past the last byte; equal to the first where something is missing, as at the end of a
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

    /// Whether `offset` lies inside.
    pub fn contains(self, offset: usize) -> bool {
        (self.start()..self.end()).contains(&offset)
    }
}
