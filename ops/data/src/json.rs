//! JSON that other programs wrote, read as leniently as Python reads it, with reasons in words of
//! our own: a parser's message may quote the file.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The fields of an object.
pub(crate) type Fields = Map<String, Value>;

/// Reads an object. `NaN` and infinities, which Python and pandas write, are read as null.
///
/// # Errors
/// What the bytes are instead, as the end of a sentence: `is …`, `has …`.
pub(crate) fn read_object(bytes: &[u8]) -> Result<Fields, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = match serde_json::from_slice::<Object>(bytes) {
        Ok(Object(fields)) => return Ok(fields),
        Err(error) => error,
    };
    let numbers = without_nan(bytes);
    let error = match serde_json::from_slice::<Object>(&numbers) {
        Ok(Object(fields)) => return Ok(fields),
        Err(_) if numbers == bytes => first,
        Err(error) => error,
    };
    Err(reason(bytes, &error))
}

/// Fields named in a reason.
const NAMED_FIELDS_MAX: usize = 5;

/// The end of a reason that names a missing field: `, only ` and those that are there.
pub(crate) fn only(fields: &Fields) -> String {
    let names: Vec<String> = fields
        .keys()
        .take(NAMED_FIELDS_MAX)
        .map(|name| {
            format!(
                "`{}`",
                name.chars().take(40).collect::<String>().escape_debug()
            )
        })
        .collect();
    match names.as_slice() {
        [] => String::new(),
        names => format!(", only {}", names.join(", ")),
    }
}

fn reason(bytes: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    if let Some((_, name)) = text.split_once(DUPLICATE) {
        let name = name.split('`').next().unwrap_or(name);
        return format!("has several `{}`", name.escape_default());
    }
    if std::str::from_utf8(bytes).is_err() {
        return "is not UTF-8".to_owned();
    }
    if text.contains("surrogate") || text.contains("hex escape") {
        return "has half of a surrogate pair (`\\ud83d` alone)".to_owned();
    }
    if bytes.trim_ascii().is_empty() {
        return "is empty".to_owned();
    }
    if error.is_eof() {
        return "ends early".to_owned();
    }
    if error.is_data() {
        return "is no object (`{…}`)".to_owned();
    }
    let (line, column) = (error.line(), error.column());
    format!("is no valid JSON at line {line}, column {column}")
}

/// What our own error about a field begins with.
const DUPLICATE: &str = "duplicate field `";

/// An object, each of whose fields is there once: of two values, none is known to be right.
struct Object(Fields);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut fields = Fields::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("{DUPLICATE}{name}`")));
            }
            fields.insert(name, value);
        }
        Ok(Object(fields))
    }
}

/// The bytes with `null` for every number outside of strings that JSON does not have.
fn without_nan(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut in_string = false;
    while let Some((byte, after)) = rest.split_first() {
        let word = [b"NaN".as_slice(), b"-Infinity", b"Infinity"]
            .into_iter()
            .find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            out.extend(b"null");
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        }
        out.push(*byte);
        rest = after;
        if *byte == b'"' {
            in_string = !in_string;
        } else if *byte == b'\\' && in_string {
            let Some((escaped, after)) = rest.split_first() else {
                break;
            };
            out.push(*escaped);
            rest = after;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_null_and_reasons_are_in_our_own_words() {
        let text = br#"{"a": NaN, "b": [-Infinity, "NaN\""], "caption": "x"}"#;
        let fields = read_object(text).unwrap();
        assert_eq!(fields["a"], Value::Null);
        assert_eq!(fields["b"], serde_json::json!([null, "NaN\""]));
        let reason = |bytes: &[u8]| read_object(bytes).unwrap_err();
        assert_eq!(
            reason(br#"{"a": "\ud83d"}"#),
            "has half of a surrogate pair (`\\ud83d` alone)"
        );
        assert_eq!(reason(br#"{"a": 1, "a": 2}"#), "has several `a`");
        assert_eq!(reason(b"{\"a\": \"\xe9\"}"), "is not UTF-8");
        assert_eq!(reason(b"{\"a\""), "ends early");
        assert_eq!(reason(b""), "is empty");
        assert_eq!(reason(b"[1]"), "is no object (`{…}`)");
        assert_eq!(reason(b"{'a': 1}"), "is no valid JSON at line 1, column 2");
    }
}
