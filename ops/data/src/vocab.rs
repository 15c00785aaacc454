//! WordPiece as BERT has it, with BLIP's two tokens more: `[DEC]` begins a decoder's text, `[ENC]`
//! an image-grounded one.

use std::collections::BTreeMap;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer,
};

use crate::clean;

/// Tokens that every vocabulary has to have.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Tokens that BLIP appends, in this order (30522 and 30523 behind bert-base-uncased).
const APPENDED: [&str; 2] = ["[DEC]", "[ENC]"];

/// A longer word is [UNK] as a whole, as in BERT.
const WORD_CHARS_MAX: usize = 100;

/// Ids of tokens with a meaning of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Special {
    /// Padding.
    pub pad: i64,
    /// What is not in the vocabulary.
    pub unk: i64,
    /// Begins a text.
    pub cls: i64,
    /// Ends a text.
    pub sep: i64,
    /// Begins a text that is generated from an image.
    pub dec: i64,
    /// Begins a text that is read together with an image.
    pub enc: i64,
}

/// A vocabulary and its tokenizer.
#[derive(Clone, Debug)]
pub struct Vocab {
    tokens: Vec<String>,
    tokenizer: Tokenizer,
    special: Special,
}

/// A vocabulary that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VocabError {
    /// Tokens with a meaning are missing.
    #[error("the vocabulary lacks {0}")]
    Missing(String),
    /// The same token twice.
    #[error("the vocabulary has the token `{0}` twice, in lines {1} and {2}")]
    Twice(String, usize, usize),
    /// The file is none of the known formats.
    #[error("{0}")]
    Format(String),
}

impl Vocab {
    /// A vocabulary of these tokens, by id. `[DEC]` and `[ENC]` are appended if they are not there.
    ///
    /// # Errors
    /// [`VocabError`].
    pub fn new(mut tokens: Vec<String>) -> Result<Self, VocabError> {
        for token in APPENDED {
            if !tokens.iter().any(|known| known == token) {
                tokens.push(token.to_owned());
            }
        }
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, token) in tokens.iter().enumerate() {
            if let Some(first) = ids.insert(token, id) {
                return Err(VocabError::Twice(token.clone(), first + 1, id + 1));
            }
        }
        let missing: Vec<&str> = SPECIAL
            .into_iter()
            .filter(|token| !ids.contains_key(token))
            .collect();
        if !missing.is_empty() {
            return Err(VocabError::Missing(missing.join(" ")));
        }
        let id = |token: &str| ids.get(token).map_or(0, |id| *id as i64);
        let special = Special {
            pad: id("[PAD]"),
            unk: id("[UNK]"),
            cls: id("[CLS]"),
            sep: id("[SEP]"),
            dec: id("[DEC]"),
            enc: id("[ENC]"),
        };
        let model = serde_json::json!({
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": WORD_CHARS_MAX,
            "vocab": &ids,
        });
        let model: WordPiece = serde_json::from_str(&model.to_string())
            .map_err(|error| VocabError::Format(error.to_string()))?;
        let mut tokenizer = Tokenizer::new(model);
        tokenizer.with_normalizer(Some(BertNormalizer::default()));
        tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
        Ok(Self {
            tokens,
            tokenizer,
            special,
        })
    }

    /// Reads a `vocab.txt` (a token a line) or the vocabulary of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`VocabError`].
    pub fn read(bytes: &[u8]) -> Result<Self, VocabError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| VocabError::Format("it is not UTF-8".to_owned()))?;
        if text.trim_start().starts_with('{') {
            return Self::new(json_tokens(text)?);
        }
        Self::new(
            text.lines()
                .map(|line| line.trim_end_matches('\r').to_owned())
                .collect(),
        )
    }

    /// Learns a vocabulary of at most `size` tokens: the special ones, every character that occurs
    /// (as a word's first and as a later one), then the most frequent words. Ties go by the
    /// alphabet, so the texts' order leaves no trace.
    ///
    /// # Errors
    /// [`VocabError`].
    pub fn learn<'t>(
        texts: impl Iterator<Item = &'t str>,
        size: usize,
    ) -> Result<Self, VocabError> {
        let mut words: BTreeMap<String, u64> = BTreeMap::new();
        for text in texts {
            for word in split_words(&clean::caption(text, usize::MAX)) {
                *words.entry(word).or_default() += 1;
            }
        }
        let characters: std::collections::BTreeSet<char> =
            words.keys().flat_map(|word| word.chars()).collect();
        let mut tokens: Vec<String> = SPECIAL.iter().map(ToString::to_string).collect();
        tokens.extend(characters.iter().map(char::to_string));
        tokens.extend(characters.iter().map(|character| format!("##{character}")));
        let mut ranked: Vec<(String, u64)> = words
            .into_iter()
            .filter(|(word, _)| word.chars().count() > 1)
            .collect();
        ranked.sort_by(|(left, a), (right, b)| b.cmp(a).then_with(|| left.cmp(right)));
        let room = size.saturating_sub(tokens.len() + APPENDED.len());
        tokens.extend(ranked.into_iter().take(room).map(|(word, _)| word));
        Self::new(tokens)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none; there always are.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The ids of tokens with a meaning.
    pub fn special(&self) -> Special {
        self.special
    }

    /// As `vocab.txt`: the vocabulary's bytes.
    pub fn to_text(&self) -> String {
        self.tokens
            .iter()
            .flat_map(|token| [token.as_str(), "\n"])
            .collect()
    }

    /// The ids of a text: `[CLS]`, its tokens, `[SEP]`; at most `length` in all, the `[SEP]` always
    /// last.
    pub fn encode(&self, text: &str, length: usize) -> Vec<i64> {
        let mut ids = vec![self.special.cls];
        // The tokenizer fails on no text: everything it does not know is [UNK].
        if let Ok(encoding) = self.tokenizer.encode(text, false) {
            let room = length.saturating_sub(2);
            ids.extend(
                encoding
                    .get_ids()
                    .iter()
                    .take(room)
                    .map(|id| i64::from(*id)),
            );
        }
        ids.push(self.special.sep);
        ids
    }

    /// The text of ids: special tokens are dropped, pieces are joined to words.
    pub fn decode(&self, ids: &[i64]) -> String {
        let mut text = String::new();
        for id in ids {
            let token = usize::try_from(*id)
                .ok()
                .and_then(|id| self.tokens.get(id))
                .map_or("[UNK]", String::as_str);
            if SPECIAL.contains(&token) || APPENDED.contains(&token) {
                continue;
            }
            match token.strip_prefix("##") {
                Some(piece) => text.push_str(piece),
                None => {
                    if !text.is_empty() {
                        text.push(' ');
                    }
                    text.push_str(token);
                }
            }
        }
        text
    }

    /// Whether a text has at least one token that is known.
    pub fn knows_any(&self, text: &str) -> bool {
        let ids = self.encode(text, usize::MAX);
        ids.iter()
            .any(|id| ![self.special.cls, self.special.sep, self.special.unk].contains(id))
    }
}

fn json_tokens(text: &str) -> Result<Vec<String>, VocabError> {
    let format = |what: &str| VocabError::Format(format!("it is JSON, but {what}"));
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format(&error.to_string()))?;
    let vocab = value
        .pointer("/model/vocab")
        .and_then(|vocab| vocab.as_object());
    let vocab = vocab.ok_or_else(|| format("it has no `model.vocab` as tokenizer.json has"))?;
    let mut added: Vec<(u64, String)> = Vec::new();
    for token in value
        .get("added_tokens")
        .and_then(|tokens| tokens.as_array())
        .into_iter()
        .flatten()
    {
        let id = token.get("id").and_then(serde_json::Value::as_u64);
        let content = token.get("content").and_then(|content| content.as_str());
        added.extend(id.zip(content.map(ToOwned::to_owned)));
    }
    let mut pairs: BTreeMap<u64, String> = added.into_iter().collect();
    for (token, id) in vocab {
        let id = id.as_u64().ok_or_else(|| format("an id is no number"))?;
        pairs.insert(id, token.clone());
    }
    let dense = pairs.keys().copied().eq(0..pairs.len() as u64);
    if dense {
        Ok(pairs.into_values().collect())
    } else {
        Err(format("its ids leave gaps"))
    }
}

/// The words of a text, as BERT's pre-tokenizer cuts them.
fn split_words(text: &str) -> Vec<String> {
    let mut normalized = NormalizedString::from(text);
    if BertNormalizer::default()
        .normalize(&mut normalized)
        .is_err()
    {
        return Vec::new();
    }
    let mut words = PreTokenizedString::from(normalized);
    if BertPreTokenizer.pre_tokenize(&mut words).is_err() {
        return Vec::new();
    }
    let splits = words.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    splits
        .into_iter()
        .map(|(word, ..)| word.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned() -> Vocab {
        Vocab::learn(
            ["a small red ring", "a large red ring , here"].into_iter(),
            60,
        )
        .unwrap()
    }

    #[test]
    fn a_text_comes_back() {
        let vocab = learned();
        let ids = vocab.encode("a small red ring", 30);
        assert_eq!(ids.len(), 6);
        assert_eq!((ids[0], ids[5]), (vocab.special().cls, vocab.special().sep));
        assert_eq!(vocab.decode(&ids), "a small red ring");
        assert_eq!(
            vocab.decode(&vocab.encode("smaller", 30)),
            "smaller",
            "from pieces"
        );
        let cut = vocab.encode("a small red ring", 4);
        assert_eq!((cut.len(), cut[3]), (4, vocab.special().sep));
        assert!(vocab.knows_any("a") && !vocab.knows_any("日本"));
    }

    /// transformers reads `[SEP]` in a text as the token that ends texts; here a text is letters
    /// only.
    #[test]
    fn a_text_cannot_name_special_tokens() {
        let vocab = learned();
        let ids = vocab.encode("a [SEP] red [DEC] ring [PAD]", 60);
        let special = vocab.special();
        let control = [
            special.cls,
            special.sep,
            special.pad,
            special.dec,
            special.enc,
        ];
        assert!(
            ids[1..ids.len() - 1].iter().all(|id| !control.contains(id)),
            "{ids:?}"
        );
    }

    #[test]
    fn the_order_of_texts_leaves_no_trace() {
        let other = Vocab::learn(
            ["a large red ring , here", "a small red ring"].into_iter(),
            60,
        )
        .unwrap();
        assert_eq!(learned().to_text(), other.to_text());
        let read = Vocab::read(learned().to_text().as_bytes()).unwrap();
        assert_eq!(read.to_text(), learned().to_text());
        assert_eq!(read.special().enc, read.len() as i64 - 1);
    }

    #[test]
    fn faults_name_what_is_missing() {
        assert_eq!(
            Vocab::read(b"[PAD]\n[UNK]\na\n").unwrap_err().to_string(),
            "the vocabulary lacks [CLS] [SEP] [MASK]"
        );
        assert_eq!(
            Vocab::read(b"[PAD]\na\na\n").unwrap_err().to_string(),
            "the vocabulary has the token `a` twice, in lines 2 and 3"
        );
        assert_eq!(
            Vocab::read(b"{}").unwrap_err().to_string(),
            "it is JSON, but it has no `model.vocab` as tokenizer.json has"
        );
    }
}
