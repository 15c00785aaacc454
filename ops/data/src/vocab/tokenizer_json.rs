//! A `tokenizer.json` of Hugging Face's tokenizers: its tokens, where all else in it says what this
//! program does. Any other tokenizer would give other ids without a word, so it is refused by name.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{VocabError, WORD_CHARS_MAX};
use crate::json::{self, Fields};

/// Characters of a value that a message shows.
const SHOWN_MAX: usize = 40;

/// The tokens in the order of their ids. Fields that are not there, as in older files, are taken
/// for what BERT's have.
pub(super) fn tokens(text: &str) -> Result<Vec<String>, VocabError> {
    let file = json::read_object(text.as_bytes())
        .map_err(|reason| format(format!("not a tokenizer.json: it {reason}")))?;
    let model = match file.get("model") {
        Some(Value::Object(model)) => model,
        _ => return Err(no_vocab()),
    };
    check_model(model).map_err(format)?;
    check_words(&file).map_err(format)?;
    let Some(Value::Object(vocab)) = model.get("vocab") else {
        return Err(no_vocab());
    };
    by_id(vocab, file.get("added_tokens")).map_err(format)
}

fn format(reason: String) -> VocabError {
    VocabError::Format(reason)
}

fn no_vocab() -> VocabError {
    format("not a tokenizer.json: missing `model.vocab`".to_owned())
}

fn check_model(model: &Fields) -> Result<(), String> {
    // Files from before models had a type: those of BPE have merges.
    let untyped = model.contains_key("merges").then_some("BPE");
    match model.get("type").map(shown).as_deref().or(untyped) {
        None | Some("WordPiece") => {}
        Some(other) => return Err(format!("its model is {other}; only WordPiece is read")),
    }
    expect(model, "unk_token", &["[UNK]".into()])?;
    expect(model, "continuing_subword_prefix", &["##".into()])?;
    expect(model, "max_input_chars_per_word", &[WORD_CHARS_MAX.into()])
}

/// How a text becomes words.
fn check_words(file: &Fields) -> Result<(), String> {
    if let Some(normalizer) = part(file, "normalizer", "BertNormalizer")? {
        if normalizer.get("lowercase") == Some(&Value::Bool(false)) {
            return Err("it keeps capital letters (`lowercase` is false)".to_owned());
        }
        expect(normalizer, "lowercase", &[true.into()])?;
        expect(normalizer, "clean_text", &[true.into()])?;
        expect(normalizer, "handle_chinese_chars", &[true.into()])?;
        // Null is whatever `lowercase` is.
        expect(normalizer, "strip_accents", &[true.into(), Value::Null])?;
    }
    part(file, "pre_tokenizer", "BertPreTokenizer")?;
    Ok(())
}

/// A part of the file that is of this type, if it is there.
fn part<'f>(file: &'f Fields, name: &str, wanted: &str) -> Result<Option<&'f Fields>, String> {
    let found = match file.get(name) {
        None => return Ok(None),
        Some(Value::Object(part)) => match part.get("type") {
            Some(Value::String(found)) if found == wanted => return Ok(Some(part)),
            Some(found) => shown(found),
            None => "of no type".to_owned(),
        },
        Some(other) => shown(other),
    };
    Err(format!("its `{name}` is {found}; only {wanted} is read"))
}

/// Fails when a field is there and has none of these values.
fn expect(fields: &Fields, name: &str, values: &[Value]) -> Result<(), String> {
    match fields.get(name) {
        Some(found) if !values.contains(found) => {
            let only = values.first().map(shown).unwrap_or_default();
            let found = shown(found);
            Err(format!("its `{name}` is {found}; only {only} is read"))
        }
        _ => Ok(()),
    }
}

fn by_id(vocab: &Fields, added: Option<&Value>) -> Result<Vec<String>, String> {
    let mut tokens: BTreeMap<u64, &str> = BTreeMap::new();
    for (token, id) in vocab {
        insert(&mut tokens, token, id.as_u64())?;
    }
    for token in added.and_then(Value::as_array).into_iter().flatten() {
        let Some(content) = token.get("content").and_then(Value::as_str) else {
            return Err("one of its `added_tokens` has no `content`".to_owned());
        };
        let id = token.get("id").and_then(Value::as_u64);
        if let Some(other) = vocab.get(content).and_then(Value::as_u64)
            && id != Some(other)
        {
            return Err(format!(
                "{} has the id {other} in `model.vocab` and another one in `added_tokens`",
                quoted(content)
            ));
        }
        insert(&mut tokens, content, id)?;
    }
    match (0..).zip(tokens.keys()).find(|(place, id)| place != *id) {
        Some((missing, _)) => Err(format!(
            "no token has the id {missing}, and others follow it"
        )),
        None => Ok(tokens.into_values().map(ToOwned::to_owned).collect()),
    }
}

fn insert<'v>(
    tokens: &mut BTreeMap<u64, &'v str>,
    token: &'v str,
    id: Option<u64>,
) -> Result<(), String> {
    // A vocabulary is stored one token a line.
    if token.contains(['\n', '\r']) {
        return Err(format!("{} has a line break", quoted(token)));
    }
    let id = id.ok_or_else(|| format!("the id of {} is no number", quoted(token)))?;
    match tokens.insert(id, token) {
        Some(other) if other != token => Err(format!(
            "{} and {} have the same id, {id}",
            quoted(other),
            quoted(token)
        )),
        _ => Ok(()),
    }
}

fn quoted(token: &str) -> String {
    format!("`{}`", cut(token))
}

/// A value as a message shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => cut(&other.to_string()),
    }
}

fn cut(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_MAX).collect();
    cut.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenizers::Tokenizer;

    use super::*;
    use crate::vocab::Vocab;

    const TOKENS: [&str; 16] = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cafe", "red", "ring", "##s", "##ing",
        "日", "本", ",", "!", "co",
    ];

    /// What bert-base-uncased has beside its vocabulary.
    fn bert() -> Value {
        let ids = TOKENS.iter().zip(0..);
        let vocab: Fields = ids
            .map(|(token, id)| ((*token).to_owned(), id.into()))
            .collect();
        let special = TOKENS.iter().take(5).zip(0..).map(|(token, id)| {
            json!({"id": id, "special": true, "content": token, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        });
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": special.collect::<Vec<_>>(),
            "normalizer": {"type": "BertNormalizer", "clean_text": true,
                           "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                                   "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100, "vocab": vocab},
        })
    }

    fn read(file: &Value) -> Result<Vocab, VocabError> {
        Vocab::read(file.to_string().as_bytes())
    }

    #[test]
    fn ids_are_those_of_the_tokenizers_that_the_file_describes() {
        let file = bert();
        let theirs = Tokenizer::from_bytes(file.to_string()).unwrap();
        let ours = read(&file).unwrap();
        for text in [
            "A red ring, red rings!",
            "Café co\u{301}ing REDS",
            "日本a\u{200d}ring\u{7}",
            &"r".repeat(101),
            "",
        ] {
            let ids: Vec<i64> = theirs
                .encode(text, true)
                .unwrap()
                .get_ids()
                .iter()
                .map(|id| i64::from(*id))
                .collect();
            assert_eq!(ours.encode(text, 512), ids, "{text:?}");
        }
        assert_eq!(ours.encode("Café rings!", 512), [2, 6, 8, 9, 14, 3]);
        assert_eq!(ours.len(), TOKENS.len() + 2, "with [DEC] and [ENC]");
    }

    #[test]
    fn fields_that_are_not_there_are_berts() {
        let mut file = bert();
        let minimal = json!({"model": {"vocab": file["model"]["vocab"].take()}});
        assert_eq!(
            read(&minimal).unwrap().to_text(),
            read(&bert()).unwrap().to_text()
        );
        let mut untyped = bert();
        untyped["model"].as_object_mut().unwrap().remove("type");
        untyped["normalizer"]["strip_accents"] = true.into();
        assert!(read(&untyped).is_ok());
    }

    /// Sets one field in each case, and compares the reason why the file is refused.
    fn check(cases: &[(&str, Value, &str)]) {
        for (pointer, value, expected) in cases {
            let mut file = bert();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            file.pointer_mut(parent).unwrap()[name] = value.clone();
            let reason = read(&file).unwrap_err().to_string();
            assert_eq!(reason, *expected, "{pointer}");
        }
    }

    #[test]
    fn other_models_are_refused_by_name() {
        let only = |found: &str| format!("its model is {found}; only WordPiece is read");
        for model in ["BPE", "Unigram", "WordLevel"] {
            check(&[("/model/type", json!(model), &only(model))]);
        }
        check(&[
            (
                "/model/continuing_subword_prefix",
                json!("@@"),
                "its `continuing_subword_prefix` is @@; only ## is read",
            ),
            (
                "/model/unk_token",
                json!("<unk>"),
                "its `unk_token` is <unk>; only [UNK] is read",
            ),
            (
                "/model/max_input_chars_per_word",
                json!(200),
                "its `max_input_chars_per_word` is 200; only 100 is read",
            ),
            (
                "/model/vocab",
                json!([["a", -1.5]]),
                "not a tokenizer.json: missing `model.vocab`",
            ),
        ]);
        let untyped = json!({"model": {"vocab": {"a": 0}, "merges": []}});
        assert_eq!(read(&untyped).unwrap_err().to_string(), only("BPE"));
    }

    #[test]
    fn other_ways_from_a_text_to_words_are_refused_by_name() {
        check(&[
            (
                "/normalizer/lowercase",
                json!(false),
                "it keeps capital letters (`lowercase` is false)",
            ),
            (
                "/normalizer/strip_accents",
                json!(false),
                "its `strip_accents` is false; only true is read",
            ),
            (
                "/normalizer/clean_text",
                json!(false),
                "its `clean_text` is false; only true is read",
            ),
            (
                "/normalizer/handle_chinese_chars",
                json!(false),
                "its `handle_chinese_chars` is false; only true is read",
            ),
            (
                "/normalizer",
                json!({"type": "Sequence", "normalizers": []}),
                "its `normalizer` is Sequence; only BertNormalizer is read",
            ),
            (
                "/normalizer",
                Value::Null,
                "its `normalizer` is null; only BertNormalizer is read",
            ),
            (
                "/pre_tokenizer",
                json!({"type": "Whitespace"}),
                "its `pre_tokenizer` is Whitespace; only BertPreTokenizer is read",
            ),
        ]);
    }

    #[test]
    fn ids_that_contradict_each_other_are_refused() {
        check(&[
            (
                "/model/vocab/ring",
                json!(7),
                "`red` and `ring` have the same id, 7",
            ),
            (
                "/model/vocab/ring",
                json!("8"),
                "the id of `ring` is no number",
            ),
            ("/model/vocab/\n", json!(16), "`\\n` has a line break"),
            (
                "/model/vocab/co",
                json!(16),
                "no token has the id 15, and others follow it",
            ),
            (
                "/added_tokens/0/id",
                json!(16),
                "`[PAD]` has the id 0 in `model.vocab` and another one in `added_tokens`",
            ),
            (
                "/added_tokens/0/content",
                Value::Null,
                "one of its `added_tokens` has no `content`",
            ),
        ]);
    }

    #[test]
    fn what_is_no_json_is_said_in_our_own_words() {
        let reason = |text: &str| Vocab::read(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(reason("{}"), "not a tokenizer.json: missing `model.vocab`");
        assert_eq!(
            reason("{\"model\": {\"vocab\": {\"a\""),
            "not a tokenizer.json: it ends early"
        );
        assert_eq!(
            reason("{\n 'model': 1}"),
            "not a tokenizer.json: it is no valid JSON at line 2, column 2"
        );
    }
}
