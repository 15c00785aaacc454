//! The cache key: one struct with everything a result depends on, and two readers of it, `hash` and
//! `fields`.
//!
//! What is not here cannot matter: names of bindings, paths, times, attributes, neutral arguments,
//! the order of a file.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::LazyLock;

use blip_grammar::Value;

use crate::digest::{Digest, Parts};
use crate::files::SourceFile;
use crate::op::Op;

/// Raised when the meaning of keys changes; no old key is found again then.
const SCHEMA: &str = "blip/stage/1";

/// What of the machine the bits of a numeric result depend on. Whoever embeds the engine says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NumericEnv {
    /// Names and values, such as ("libtorch", "2.11.0").
    pub fields: Vec<(String, String)>,
}

/// Everything a stage's result depends on.
#[derive(Clone, PartialEq, Debug)]
pub struct KeyInputs {
    op: &'static str,
    version: u32,
    args: Vec<(&'static str, String)>,
    inputs: Vec<(&'static str, Digest)>,
    sources: Vec<(String, Digest)>,
    env: Vec<(String, String)>,
}

impl KeyInputs {
    /// Gathers it. `inputs` are the stage's results by argument, in order.
    pub fn new(
        op: &Op,
        args: &crate::args::Args,
        inputs: Vec<(&'static str, Digest)>,
        sources: &[SourceFile],
        env: &NumericEnv,
    ) -> Self {
        let mut listed = Vec::new();
        for (name, value) in args.values().iter() {
            let neutral = op
                .signature
                .args
                .iter()
                .any(|arg| arg.name == name && arg.not_in_key);
            if let Some(text) = text(value).filter(|_| !neutral) {
                listed.push((name, text));
            }
        }
        let mut sources: Vec<(String, Digest)> = sources
            .iter()
            .map(|file| {
                (
                    if file.keyed_name {
                        file.name.clone()
                    } else {
                        String::new()
                    },
                    file.digest,
                )
            })
            .collect();
        sources.sort();
        Self {
            op: op.signature.name,
            version: op.version,
            args: listed,
            inputs,
            sources,
            env: if op.numeric {
                env.fields.clone()
            } else {
                Vec::new()
            },
        }
    }

    /// The same without one input, without sources and without some arguments: what parts of a
    /// result depend on, besides the part.
    pub fn template(&self, over: Option<&str>, beyond: &[&str]) -> Digest {
        let mut template = self.clone();
        template.args.retain(|(name, _)| !beyond.contains(name));
        template.inputs.retain(|(name, _)| Some(*name) != over);
        template.sources.clear();
        template.hash()
    }

    /// The same without one argument: what two stages have in common of which one goes on where the
    /// other ended.
    pub fn without(&self, argument: &str) -> Digest {
        let mut rest = self.clone();
        rest.args.retain(|(name, _)| *name != argument);
        Digest::parts(
            "blip/growth/1",
            &[rest.hash().as_bytes(), argument.as_bytes()],
        )
    }

    /// The key.
    pub fn hash(&self) -> Digest {
        // To begin anew takes as long as the fields themselves.
        static BEGUN: LazyLock<Parts> = LazyLock::new(|| Parts::new(SCHEMA));
        let mut parts = BEGUN.clone();
        self.each_field(|name, value| {
            parts.add(name.as_bytes());
            parts.add(value.as_bytes());
        });
        parts.digest()
    }

    /// Every field as text, in one order: what the key is made of, what a record keeps, and what
    /// `explain` compares.
    pub fn fields(&self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        self.each_field(|name, value| fields.push((name.to_owned(), value.to_owned())));
        fields
    }

    fn each_field(&self, mut each: impl FnMut(&str, &str)) {
        let Self {
            op,
            version,
            args,
            inputs,
            sources,
            env,
        } = self;
        each("op", op);
        let mut buffer = String::with_capacity(64);
        let _ = write!(buffer, "{version}");
        each("op version", &buffer);
        let mut named = |kind: &str, name: &str, value: &str| {
            buffer.clear();
            buffer.extend([kind, " ", name]);
            each(buffer.trim_end(), value);
        };
        args.iter()
            .for_each(|(name, value)| named("argument", name, value));
        inputs
            .iter()
            .for_each(|(name, digest)| named("input", name, &digest.hex()));
        sources
            .iter()
            .for_each(|(name, digest)| named("file", name, &digest.hex()));
        env.iter()
            .for_each(|(name, value)| named("machine", name, value));
    }
}

/// The key that these fields are the key_inputs of.
pub fn of_fields(fields: &[(String, String)]) -> Digest {
    let flat: Vec<&[u8]> = fields
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()])
        .collect();
    Digest::parts(SCHEMA, &flat)
}

/// What a value is in a key; nothing when all it says is in the key elsewhere. A path says where
/// bytes are, and what they are is in `sources`; a stage's number says where in the file it stands,
/// and its result is in `inputs`, in the order in which stages occur.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Path(_) | Value::Stage(_) => None,
        Value::List(values) => {
            let texts: Vec<Option<String>> = values.iter().map(text).collect();
            let said = values.is_empty() || texts.iter().any(Option::is_some);
            let list = || {
                texts
                    .iter()
                    .map(|text| text.as_deref().unwrap_or("_"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            said.then(|| format!("[{}]", list()))
        }
        Value::Config { op, args } => {
            let arg = |(name, value): (&str, &Value)| {
                format!("{name} = {}", text(value).as_deref().unwrap_or("_"))
            };
            Some(format!(
                "{op}({})",
                args.iter().map(arg).collect::<Vec<_>>().join(", ")
            ))
        }
        _ => Some(value.to_string()),
    }
}

/// A field that differs between two stages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Which one.
    pub field: String,
    /// Its value before; nothing when it is new.
    pub old: Option<String>,
    /// Its value now; nothing when it is gone.
    pub new: Option<String>,
}

/// What differs between the fields of two preimages, in time that grows with their lengths. Fields
/// that occur several times are compared as a set, so that one more input shard shows as one
/// difference.
pub fn differences(old: &[(String, String)], new: &[(String, String)]) -> Vec<Difference> {
    let before: BTreeSet<&(String, String)> = old.iter().collect();
    let now: BTreeSet<&(String, String)> = new.iter().collect();
    let mut gone: BTreeMap<&str, VecDeque<&str>> = BTreeMap::new();
    for field in old.iter().filter(|field| !now.contains(field)) {
        gone.entry(&field.0).or_default().push_back(&field.1);
    }
    let mut found = Vec::new();
    for (field, value) in new.iter().filter(|field| !before.contains(field)) {
        let old = gone
            .get_mut(field.as_str())
            .and_then(VecDeque::pop_front)
            .map(str::to_owned);
        found.push(Difference {
            field: field.clone(),
            old,
            new: Some(value.clone()),
        });
    }
    for (field, _) in old {
        let values = gone
            .get_mut(field.as_str())
            .map(std::mem::take)
            .unwrap_or_default();
        let gone = |value: &str| Difference {
            field: field.clone(),
            old: Some(value.to_owned()),
            new: None,
        };
        found.extend(values.into_iter().map(gone));
    }
    found
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{}: {} -> {}", self.field, brief(old), brief(new)),
            (None, Some(new)) => write!(f, "{}: {} is new", self.field, brief(new)),
            (Some(old), None) => write!(f, "{}: {} is gone", self.field, brief(old)),
            (None, None) => write!(f, "{}", self.field),
        }
    }
}

/// A digest by its first digits, everything else as it is.
fn brief(value: &str) -> String {
    value
        .parse::<Digest>()
        .map_or_else(|_| value.to_owned(), |digest| digest.short())
}

#[cfg(test)]
mod tests {
    use blip_grammar::StageId;

    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn shown(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        differences(&fields(old), &fields(new))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn differences_are_named_field_by_field() {
        let old = [
            ("argument a", "1"),
            ("argument b", "2"),
            ("file", "x"),
            ("file", "y"),
        ];
        assert_eq!(shown(&old, &old), [""; 0]);
        let new = [
            ("argument a", "1"),
            ("argument c", "3"),
            ("file", "x"),
            ("file", "z"),
            ("file", "w"),
        ];
        assert_eq!(
            shown(&old, &new),
            [
                "argument c: 3 is new",
                "file: y -> z",
                "file: w is new",
                "argument b: 2 is gone"
            ]
        );
    }

    #[test]
    fn a_hundred_thousand_shards_that_all_changed_are_compared() {
        let shards = |version: &str| -> Vec<(String, String)> {
            (0..100_000)
                .map(|number| ("file".to_owned(), format!("{version}{number}")))
                .collect()
        };
        assert_eq!(differences(&shards("a"), &shards("b")).len(), 100_000);
    }

    #[test]
    fn where_a_stage_stands_is_not_in_the_key_and_what_stands_beside_it_is() {
        let config = |stage: u32, size: i64| Value::Config {
            op: "med",
            args: [
                ("size", Value::Int(size)),
                ("vocab", Value::Stage(StageId(stage))),
            ]
            .into(),
        };
        assert_eq!(
            text(&config(1, 2)),
            Some("med(size = 2, vocab = _)".to_owned())
        );
        assert_eq!(text(&config(1, 2)), text(&config(7, 2)));
        assert_ne!(text(&config(1, 2)), text(&config(1, 3)));
        let nested = Value::List(vec![config(1, 2), config(5, 3)]);
        assert_eq!(
            text(&nested).unwrap(),
            "[med(size = 2, vocab = _), med(size = 3, vocab = _)]"
        );
        let stages = Value::List(vec![Value::Stage(StageId(1)), Value::Stage(StageId(2))]);
        assert_eq!(text(&stages), None);
        assert_eq!(text(&Value::List(vec![Value::Path("a".to_owned())])), None);
        assert_eq!(text(&Value::List(Vec::new())).unwrap(), "[]");
    }
}
