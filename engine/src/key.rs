//! The cache key: one struct with everything a result depends on, and two readers of it, `hash` and `fields`.
//!
//! What is not here cannot matter: names of bindings, paths, times, attributes, neutral arguments, the order of a file.

use blip_grammar::Value;

use crate::digest::Digest;
use crate::files::SourceFile;
use crate::op::{Artifact, Op};

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
pub struct Preimage {
    op: &'static str,
    version: u32,
    args: Vec<(String, String)>,
    inputs: Vec<(String, Digest)>,
    sources: Vec<(String, Digest)>,
    env: Vec<(String, String)>,
}

impl Preimage {
    /// Gathers it. `inputs` are the stage's results by argument, in order.
    pub fn new(
        op: &Op,
        args: &crate::args::Args,
        inputs: &[(&'static str, Artifact)],
        sources: &[SourceFile],
        env: &NumericEnv,
    ) -> Self {
        let mut listed = Vec::new();
        for (name, value) in args.values() {
            let neutral = op.signature.args.iter().any(|arg| arg.name == *name && arg.neutral);
            // A path says where bytes are; what they are is in `sources`.
            if !neutral && !matches!(value, Value::Path(_)) && !holds_stage(value) {
                listed.push(((*name).to_owned(), value.to_string()));
            }
        }
        let mut sources: Vec<(String, Digest)> = sources
            .iter()
            .map(|file| (if file.keyed_name { file.name.clone() } else { String::new() }, file.digest))
            .collect();
        sources.sort();
        Self {
            op: op.signature.name,
            version: op.version,
            args: listed,
            inputs: inputs.iter().map(|(name, artifact)| ((*name).to_owned(), artifact.digest)).collect(),
            sources,
            env: if op.numeric { env.fields.clone() } else { Vec::new() },
        }
    }

    /// The same without one input and without sources: what the results of single units depend on, besides the unit.
    pub fn template(&self, over: Option<&str>) -> Digest {
        let mut template = self.clone();
        template.inputs.retain(|(name, _)| Some(name.as_str()) != over);
        template.sources.clear();
        template.hash()
    }

    /// The key.
    pub fn hash(&self) -> Digest {
        let fields = self.fields();
        let flat: Vec<&[u8]> = fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
        Digest::parts(SCHEMA, &flat)
    }

    /// Every field as text, in one order: what the key is made of, what a record keeps, and what `explain` compares.
    pub fn fields(&self) -> Vec<(String, String)> {
        let Self { op, version, args, inputs, sources, env } = self;
        let mut fields = vec![("op".to_owned(), (*op).to_owned()), ("op version".to_owned(), version.to_string())];
        fields.extend(args.iter().map(|(name, value)| (format!("argument {name}"), value.clone())));
        fields.extend(inputs.iter().map(|(name, digest)| (format!("input {name}"), digest.to_string())));
        fields.extend(
            sources.iter().map(|(name, digest)| (format!("file {name}").trim_end().to_owned(), digest.to_string())),
        );
        fields.extend(env.iter().map(|(name, value)| (format!("machine {name}"), value.clone())));
        fields
    }
}

fn holds_stage(value: &Value) -> bool {
    match value {
        Value::Stage(_) => true,
        Value::List(values) => values.iter().any(holds_stage),
        _ => false,
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

/// What differs between the fields of two preimages. Fields that occur several times are compared as a set, so that one
/// more input shard shows as one difference.
pub fn differences(old: &[(String, String)], new: &[(String, String)]) -> Vec<Difference> {
    let mut gone: Vec<&(String, String)> = old.iter().filter(|field| !new.contains(field)).collect();
    let mut found = Vec::new();
    for (field, value) in new.iter().filter(|field| !old.contains(field)) {
        let before = gone.iter().position(|(name, _)| name == field).map(|place| gone.remove(place).1.clone());
        found.push(Difference { field: field.clone(), old: before, new: Some(value.clone()) });
    }
    found.extend(gone.into_iter().map(|(field, value)| Difference {
        field: field.clone(),
        old: Some(value.clone()),
        new: None,
    }));
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
    value.parse::<Digest>().map_or_else(|_| value.to_owned(), |digest| digest.short())
}
