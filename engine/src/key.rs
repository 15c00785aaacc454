//! The cache key: one struct with everything a result depends on, and two readers of it, `hash` and
//! `fields`.
//!
//! What is not here cannot change a result: names of bindings, paths, times, attributes, arguments
//! declared as not in the key, the order of the file.

mod differences;

use std::fmt::Write as _;
use std::sync::LazyLock;

use blip_grammar::Value;

pub use self::differences::{Difference, differences};
use crate::args::Args;
use crate::digest::{Digest, Parts};
use crate::files::InputFile;
use crate::op::Op;

/// Raised when the meaning of keys changes: from then on no old key is found.
const SCHEMA: &str = "blip/stage/1";

/// The properties of the machine that the bits of numeric results depend on. Whoever embeds the
/// engine supplies them.
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
    /// The name is empty where it does not matter to the op.
    sources: Vec<(String, Digest)>,
    env: Vec<(String, String)>,
}

impl KeyInputs {
    /// `inputs` are the results that the stage takes, by argument, in order.
    pub fn new(
        op: &Op,
        args: &Args,
        inputs: Vec<(&'static str, Digest)>,
        sources: &[InputFile],
        env: &NumericEnv,
    ) -> Self {
        Self {
            op: op.signature.name,
            version: op.version,
            args: args_in_key(op, args),
            inputs,
            sources: sources_in_key(sources),
            env: if op.numeric {
                env.fields.clone()
            } else {
                Vec::new()
            },
        }
    }

    /// What units of work depend on besides the unit: everything but one input, the sources, and
    /// some arguments.
    pub fn unit_key_prefix(&self, input_arg: Option<&str>, excluded_args: &[&str]) -> Digest {
        let mut inputs = self.clone();
        inputs
            .args
            .retain(|(name, _)| !excluded_args.contains(name));
        inputs.inputs.retain(|(name, _)| Some(*name) != input_arg);
        inputs.sources.clear();
        inputs.hash()
    }

    /// What stages have in common that differ in one argument only: where the training state is
    /// kept with which one resumes where the other ended.
    pub fn warm_start_key(&self, argument: &str) -> Digest {
        let mut rest = self.clone();
        rest.args.retain(|(name, _)| *name != argument);
        Digest::parts(
            "blip/growth/1",
            &[rest.hash().as_bytes(), argument.as_bytes()],
        )
    }

    /// The key.
    pub fn hash(&self) -> Digest {
        // To hash the schema takes as long as to hash the fields: done once, and cloned.
        static BEGUN: LazyLock<Parts> = LazyLock::new(|| Parts::new(SCHEMA));
        let mut parts = BEGUN.clone();
        self.each_field(|name, value| {
            parts.add(name.as_bytes());
            parts.add(value.as_bytes());
        });
        parts.digest()
    }

    /// Every field as text, in one order: what the key is the digest of, what a record keeps, and
    /// what `explain` compares.
    pub fn fields(&self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        self.each_field(|name, value| fields.push((name.to_owned(), value.to_owned())));
        fields
    }

    /// The names and their order are part of the key: to change one changes every key.
    fn each_field(&self, mut visit: impl FnMut(&str, &str)) {
        // Without `..`, so that a field that is added cannot be forgotten here.
        let Self {
            op,
            version,
            args,
            inputs,
            sources,
            env,
        } = self;
        visit("op", op);
        let mut buffer = String::with_capacity(64);
        let _ = write!(buffer, "{version}");
        visit("op version", &buffer);
        let mut visit_named = |kind: &str, name: &str, value: &str| {
            buffer.clear();
            buffer.extend([kind, " ", name]);
            visit(buffer.trim_end(), value);
        };
        for (name, value) in args {
            visit_named("argument", name, value);
        }
        for (name, digest) in inputs {
            visit_named("input", name, &digest.hex());
        }
        for (name, digest) in sources {
            visit_named("file", name, &digest.hex());
        }
        for (name, value) in env {
            visit_named("machine", name, value);
        }
    }
}

fn args_in_key(op: &Op, args: &Args) -> Vec<(&'static str, String)> {
    let declared = &op.signature.args;
    let mut in_key = Vec::new();
    for (name, value) in args.values().iter() {
        if declared
            .iter()
            .any(|arg| arg.name == name && arg.not_in_key)
        {
            continue;
        }
        if let Some(text) = canonical_text(value) {
            in_key.push((name, text));
        }
    }
    in_key
}

/// Sorted, so that the key does not depend on the order in which files are listed.
fn sources_in_key(sources: &[InputFile]) -> Vec<(String, Digest)> {
    let mut in_key = Vec::with_capacity(sources.len());
    for file in sources {
        let name = if file.name_in_key { &*file.name } else { "" };
        in_key.push((name.to_owned(), file.digest));
    }
    in_key.sort();
    in_key
}

/// The key of these fields, as [`KeyInputs::fields`] gives them.
pub fn hash_fields(fields: &[(String, String)]) -> Digest {
    let flat: Vec<&[u8]> = fields
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()])
        .collect();
    Digest::parts(SCHEMA, &flat)
}

/// A value as it is written into a key; nothing when everything that it means is in the key
/// elsewhere. A path says where bytes are, and what they are is in `sources`; a stage's number says
/// where in the file it stands, and its result is in `inputs`, in the order in which stages occur.
pub(crate) fn canonical_text(value: &Value) -> Option<String> {
    match value {
        Value::Path(_) | Value::Stage(_) => None,
        Value::List(values) => {
            let texts: Vec<Option<String>> = values.iter().map(canonical_text).collect();
            if !values.is_empty() && texts.iter().all(Option::is_none) {
                return None;
            }
            let texts: Vec<&str> = texts.iter().map(text_or_placeholder).collect();
            Some(format!("[{}]", texts.join(", ")))
        }
        Value::Config { op, args } => {
            let mut texts = Vec::new();
            for (name, value) in args.iter() {
                let text = canonical_text(value);
                texts.push(format!("{name} = {}", text_or_placeholder(&text)));
            }
            Some(format!("{op}({})", texts.join(", ")))
        }
        _ => Some(value.to_string()),
    }
}

/// A value without a text keeps its place in a list or config, so that its neighbours keep theirs.
fn text_or_placeholder(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("_")
}

#[cfg(test)]
mod tests {
    use blip_grammar::StageId;

    use super::*;

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
            canonical_text(&config(1, 2)),
            Some("med(size = 2, vocab = _)".to_owned())
        );
        assert_eq!(canonical_text(&config(1, 2)), canonical_text(&config(7, 2)));
        assert_ne!(canonical_text(&config(1, 2)), canonical_text(&config(1, 3)));
        let nested = Value::List(vec![config(1, 2), config(5, 3)]);
        assert_eq!(
            canonical_text(&nested).unwrap(),
            "[med(size = 2, vocab = _), med(size = 3, vocab = _)]"
        );
        let stages = Value::List(vec![Value::Stage(StageId(1)), Value::Stage(StageId(2))]);
        assert_eq!(canonical_text(&stages), None);
        assert_eq!(
            canonical_text(&Value::List(vec![Value::Path("a".to_owned())])),
            None
        );
        assert_eq!(canonical_text(&Value::List(Vec::new())).unwrap(), "[]");
    }
}
