//! Values for params from outside the workflow: `--set name=value` and `--params file.toml`.

use std::fs;
use std::path::Path;

use blip_grammar::ParamOverride;
use toml::Value;

use crate::args::OverrideArgs;
use crate::failure::Fault;

/// The overrides of a command line: those of the file, and over them those that were written out.
pub(crate) fn overrides(args: &OverrideArgs) -> Result<Vec<ParamOverride>, Fault> {
    let mut overrides = match &args.params {
        Some(path) => from_file(path)?,
        None => Vec::new(),
    };
    overrides.retain(|setting| !args.set.iter().any(|set| set.name == setting.name));
    overrides.extend(args.set.iter().cloned());
    Ok(overrides)
}

fn from_file(path: &Path) -> Result<Vec<ParamOverride>, Fault> {
    let text = fs::read_to_string(path)
        .map_err(|error| Fault::io("read the params file", path, &error))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            1 + text.get(..span.start).unwrap_or("").matches('\n').count()
        });
        let what = format!("{}:{line}: no TOML: {}", path.display(), error.message());
        Fault::usage(
            what,
            "a params file has lines such as `threshold = 0.4` or `web = \"data/*.tar\"`",
        )
    })?;
    let setting = |(name, value): (&String, &Value)| match written(value) {
        Some(value) => Ok(ParamOverride {
            name: name.clone(),
            value,
        }),
        None => {
            let what = format!(
                "{}: `{name}` has the TOML type {}, which no param can have",
                path.display(),
                value.type_str()
            );
            Err(Fault::usage(
                what,
                "params are numbers, texts, true or false, and lists of these; there are no sections",
            ))
        }
    };
    table.iter().map(setting).collect()
}

/// A TOML value as the language writes it. A text stands as it is, so that `"10min"` is a duration
/// where one is due.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.starts_with('"') => Some(quoted(text)),
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => number.is_finite().then(|| format!("{number:?}")),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Array(values) => {
            let element = |value: &Value| match value {
                Value::String(text) => Some(quoted(text)),
                Value::Array(_) => None,
                other => written(other),
            };
            let values: Vec<String> = values.iter().map(element).collect::<Option<_>>()?;
            Some(format!("[{}]", values.join(", ")))
        }
        Value::Table(_) | Value::Datetime(_) => None,
    }
}

fn quoted(text: &str) -> String {
    blip_grammar::Value::Str(text.to_owned()).to_string()
}
