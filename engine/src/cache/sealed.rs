//! Small files that notice their own damage: one line of JSON and one line with its blake3 digest;
//! or bytes and their digest.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dataset::{FormatError, Reader};
use crate::digest::Digest;

/// Bytes that are not what was sealed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// The digest is missing, or is not that of the line before it.
    #[error("its bytes do not match its checksum")]
    Checksum,
    /// The line is whole but is not what is due, so another program wrote it.
    #[error("it has another layout: {0}")]
    Layout(String),
}

/// The bytes of a value.
pub(crate) fn seal(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("what is sealed is plain data with text keys");
    let digest = Digest::of(&bytes);
    bytes.extend(format!("\n{digest}\n").into_bytes());
    bytes
}

/// The value of bytes.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, SealError> {
    let json = line(bytes).ok_or(SealError::Checksum)?;
    serde_json::from_slice(json).map_err(|error| SealError::Layout(error.to_string()))
}

/// The first line, if the second one is its digest and there is no third.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let text_len = bytes.len().checked_sub(66)?;
    let (json, rest) = bytes.split_at_checked(text_len)?;
    let digest = rest.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
    (digest == Digest::of(json).to_string().as_bytes()).then_some(json)
}

/// Bytes with their digest at the end.
pub(crate) fn seal_bytes(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

/// What lies between a magic number and the digest of it all; `what` is what the bytes should be,
/// for messages.
pub(crate) fn open_bytes<'a>(
    bytes: &'a [u8],
    magic: &[u8; 8],
    what: &'static str,
) -> Result<Reader<'a>, FormatError> {
    let (body, digest) = bytes
        .split_at_checked(bytes.len().saturating_sub(32))
        .unwrap_or_default();
    let mut reader = Reader::new(body, what);
    if Digest::of(body).as_bytes().as_slice() != digest {
        return Err(reader.error("its bytes do not match its digest"));
    }
    if reader.take(8)? != magic {
        return Err(reader.error("wrong magic number"));
    }
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let value = vec![("a".to_owned(), 1.5), ("b".to_owned(), 2.0)];
        let bytes = seal(&value);
        assert_eq!(open::<Vec<(String, f64)>>(&bytes), Ok(value));
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[place] ^= 1 << bit;
                assert_eq!(
                    open::<Vec<(String, f64)>>(&flipped),
                    Err(SealError::Checksum),
                    "{place} {bit}"
                );
            }
            assert_eq!(
                open::<Vec<(String, f64)>>(&bytes[..place]),
                Err(SealError::Checksum),
                "{place}"
            );
        }
    }

    #[test]
    fn another_layout_is_no_damage() {
        assert!(matches!(
            open::<u32>(&seal(&"text")),
            Err(SealError::Layout(_))
        ));
    }
}
