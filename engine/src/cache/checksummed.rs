//! Small files that detect their own corruption: a line of JSON and a line with its blake3 digest;
//! or bytes followed by their digest.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dataset::{ByteReader, FormatError};
use crate::digest::Digest;

/// The newline, the 64 hex digits and the newline after the JSON.
const JSON_CHECKSUM_LEN: usize = 66;

/// Bytes that are not what was encoded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ChecksumError {
    /// The digest is missing, or is not that of the line before it.
    #[error("checksum mismatch")]
    Mismatch,
    /// The checksum is right, but the JSON is not of this type: another program wrote it.
    #[error("unknown layout: {0}")]
    Layout(String),
}

pub(crate) fn encode_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("plain data with text keys is valid JSON");
    let digest = Digest::of(&bytes);
    bytes.extend(format!("\n{digest}\n").into_bytes());
    bytes
}

pub(crate) fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ChecksumError> {
    let json = verified_line(bytes).ok_or(ChecksumError::Mismatch)?;
    serde_json::from_slice(json).map_err(|error| ChecksumError::Layout(error.to_string()))
}

/// The first line, if the second one is its digest and there is no third.
fn verified_line(bytes: &[u8]) -> Option<&[u8]> {
    let json_len = bytes.len().checked_sub(JSON_CHECKSUM_LEN)?;
    let (json, checksum) = bytes.split_at_checked(json_len)?;
    let digest = checksum.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
    (digest == Digest::of(json).to_string().as_bytes()).then_some(json)
}

pub(crate) fn append_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

/// A reader of what lies between the magic number and the checksum, after checking both. `what`
/// names the format in messages.
pub(crate) fn reader<'a>(
    bytes: &'a [u8],
    magic: &[u8; 8],
    what: &'static str,
) -> Result<ByteReader<'a>, FormatError> {
    let body_len = bytes.len().saturating_sub(32);
    let (body, checksum) = bytes.split_at_checked(body_len).unwrap_or_default();
    let mut reader = ByteReader::new(body, what);
    if Digest::of(body).as_bytes().as_slice() != checksum {
        return Err(reader.error("checksum mismatch"));
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
    fn every_flipped_bit_and_every_truncation_is_detected() {
        let value = vec![("a".to_owned(), 1.5), ("b".to_owned(), 2.0)];
        let bytes = encode_json(&value);
        assert_eq!(decode_json::<Vec<(String, f64)>>(&bytes), Ok(value));
        for offset in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[offset] ^= 1 << bit;
                assert_eq!(
                    decode_json::<Vec<(String, f64)>>(&flipped),
                    Err(ChecksumError::Mismatch),
                    "{offset} {bit}"
                );
            }
            assert_eq!(
                decode_json::<Vec<(String, f64)>>(&bytes[..offset]),
                Err(ChecksumError::Mismatch),
                "{offset}"
            );
        }
    }

    #[test]
    fn another_layout_is_not_a_checksum_mismatch() {
        assert!(matches!(
            decode_json::<u32>(&encode_json(&"text")),
            Err(ChecksumError::Layout(_))
        ));
    }
}
