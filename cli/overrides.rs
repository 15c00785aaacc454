//! Param overrides: `--set name=value` and `--params file.toml`.

use std::path::Path;

use blip_grammar::{ParamOverride, SOURCE_BYTES_MAX};
use toml::Value;

use crate::args::OverrideArgs;
use crate::error::ErrorMessage;
use crate::input_file::read_text;

/// The overrides of a command line. `--set` takes precedence over the params file.
pub(crate) fn overrides(args: &OverrideArgs) -> Result<Vec<ParamOverride>, ErrorMessage> {
    let mut overrides = match &args.params {
        Some(path) => read_params_file(path)?,
        None => Vec::new(),
    };
    overrides.retain(|param| !args.set.iter().any(|set| set.name == param.name));
    overrides.extend(args.set.iter().cloned());
    Ok(overrides)
}

fn read_params_file(path: &Path) -> Result<Vec<ParamOverride>, ErrorMessage> {
    let text = read_text(path, SOURCE_BYTES_MAX as u64)
        .map_err(|error| ErrorMessage::io("read the params file", path, &error))?;
    let table: toml::Table = text
        .parse()
        .map_err(|error| syntax_error(path, &text, &error))?;
    table
        .iter()
        .map(|(name, value)| param(path, name, value))
        .collect()
}

fn syntax_error(path: &Path, text: &str, error: &toml::de::Error) -> ErrorMessage {
    let line = error.span().map_or(1, |span| {
        let before = text.get(..span.start).unwrap_or("");
        1 + before.matches('\n').count()
    });
    ErrorMessage::usage(
        format!(
            "{}:{line}: invalid TOML: {}",
            path.display(),
            error.message()
        ),
        "a params file has lines such as `threshold = 0.4` or `web = \"data/*.tar\"`",
    )
}

fn param(path: &Path, name: &str, value: &Value) -> Result<ParamOverride, ErrorMessage> {
    let Some(literal) = literal(value) else {
        let message = format!(
            "{}: `{name}` has the unsupported TOML type {}",
            path.display(),
            value.type_str()
        );
        let help = "a param is a number, a string, true, false, or a list of these; sections are \
                    not supported";
        return Err(ErrorMessage::usage(message, help));
    };
    Ok(ParamOverride {
        name: name.to_owned(),
        value: literal,
    })
}

/// A TOML value as a literal of the workflow language; none if the language has no such type. A
/// top-level string stays unquoted, so that `"10min"` can be a duration where one is expected.
fn literal(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.starts_with('"') => Some(quote(text)),
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => number.is_finite().then(|| format!("{number:?}")),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Array(values) => {
            let elements: Vec<String> =
                values.iter().map(element_literal).collect::<Option<_>>()?;
            Some(format!("[{}]", elements.join(", ")))
        }
        Value::Table(_) | Value::Datetime(_) => None,
    }
}

/// An element of a list. Lists do not nest, and their strings are always strings.
fn element_literal(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(quote(text)),
        Value::Array(_) => None,
        other => literal(other),
    }
}

fn quote(text: &str) -> String {
    blip_grammar::Value::Str(text.to_owned()).to_string()
}
