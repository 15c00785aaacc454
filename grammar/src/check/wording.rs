//! Types and values in the words of messages.

use crate::types::Type;

/// "an int", "a Captioner", "one of "fp32", "bf16"".
pub(super) fn with_article(ty: Type) -> String {
    match ty {
        Type::Choice(words) => format!("one of {}", quoted(words).join(", ")),
        Type::List(element) => format!("a list of {element}"),
        Type::OneOf(types) => {
            let types: Vec<String> = types.iter().map(|ty| with_article(*ty)).collect();
            types.join(" or ")
        }
        ty => {
            let word = ty.to_string();
            let vowel = word.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']);
            let article = if vowel { "an" } else { "a" };
            format!("{article} {word}")
        }
    }
}

/// "a", "a or b", "a, b or c": the first few of them. `None` for none.
pub(super) fn alternatives(mut words: impl Iterator<Item = String>) -> Option<String> {
    /// More would be a list to search through.
    const SHOWN_MAX: usize = 4;
    let mut shown: Vec<String> = words.by_ref().take(SHOWN_MAX).collect();
    if words.next().is_some() {
        shown.push("others".to_owned());
    }
    let last = shown.pop()?;
    Some(if shown.is_empty() {
        last
    } else {
        format!("{} or {last}", shown.join(", "))
    })
}

fn quoted(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| format!("\"{word}\"")).collect()
}

/// A help that says what to write where a value of this type is expected.
pub(super) fn suggest_value(ty: Type) -> String {
    let example = example_of(ty);
    let what = with_article(ty);
    match ty {
        Type::Choice(words) => {
            let words = alternatives(quoted(words).into_iter()).unwrap_or_default();
            format!("write {words}")
        }
        Type::Str | Type::Path => format!("write {what} in quotes, such as \"{example}\""),
        _ => format!("write {what}, such as {example}"),
    }
}

/// A value of this type; strings and paths without their quotes.
pub(super) fn example_of(ty: Type) -> &'static str {
    match ty {
        Type::Int => "8",
        Type::Float => "0.5",
        Type::Bool => "true",
        Type::Duration => "10min",
        Type::Size => "16GiB",
        Type::Path => "data/file.json",
        Type::List(Type::Int) => "[8, 16]",
        Type::List(Type::Float) => "[0.5, 1.0]",
        Type::List(Type::Bool) => "[true, false]",
        Type::List(Type::Duration) => "[10min, 1h]",
        Type::List(Type::Size) => "[512MiB, 16GiB]",
        Type::List(_) => "[\"one\", \"two\"]",
        _ => "text",
    }
}
