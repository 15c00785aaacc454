//! Content digests: blake3 of bytes, or of a list of fields.

use std::fmt;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A blake3 digest, printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Hashes the first eight bytes only: a digest is random already, and this takes a third of the
/// time.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (first, _) = self.0.split_first_chunk().expect("a digest has more bytes");
        state.write_u64(u64::from_ne_bytes(*first));
    }
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of a list of fields. `domain` separates lists of different meaning, and every
    /// field is preceded by its length, so two different lists never hash the same bytes.
    pub fn parts(domain: &str, fields: &[&[u8]]) -> Self {
        let mut parts = Parts::new(domain);
        for field in fields {
            parts.add(field);
        }
        parts.digest()
    }

    /// The digest of a file's content and its length in bytes, read in pieces.
    ///
    /// # Errors
    /// What opening or reading the file gives.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        let mut file = File::open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0_u8; 1 << 18];
        let mut len = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok((Self(*hasher.finalize().as_bytes()), len));
            }
            hasher.update(buffer.get(..count).unwrap_or_default());
            len += count as u64;
        }
    }

    pub(crate) fn of_hasher(hasher: &blake3::Hasher) -> Self {
        Self(*hasher.finalize().as_bytes())
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its 64 hex digits, without an allocation.
    pub fn hex(&self) -> Hex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0_u8; 64];
        let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or_default();
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Hex(text)
    }

    /// The first 12 hex digits, for messages.
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }
}

/// The hex digits of a digest, as a `str` on the stack.
#[derive(Clone, Copy)]
pub struct Hex([u8; 64]);

impl Hex {
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl Deref for Hex {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// Hashes what [`Digest::parts`] does, one field after the other.
#[derive(Clone, Debug)]
pub(crate) struct Parts(blake3::Hasher);

impl Parts {
    pub(crate) fn new(domain: &str) -> Self {
        Self(blake3::Hasher::new_derive_key(domain))
    }

    pub(crate) fn add(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

/// Text that is not 64 hex digits.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is not a digest: expected 64 hex digits")]
pub struct BadDigest(String);

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let bad = || BadDigest(text.chars().take(80).collect());
        if text.len() != 64 || !text.is_ascii() {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, offset) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let digits = text.get(offset..offset + 2).ok_or_else(bad)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_and_two_give_different_digests() {
        assert_ne!(
            Digest::parts("t", &[b"ab", b"c"]),
            Digest::parts("t", &[b"a", b"bc"])
        );
        assert_ne!(Digest::parts("t", &[b"a"]), Digest::parts("u", &[b"a"]));
    }

    #[test]
    fn hex_round_trips() {
        let digest = Digest::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(
            "zz".parse::<Digest>().unwrap_err().to_string(),
            "`zz` is not a digest: expected 64 hex digits"
        );
    }
}
