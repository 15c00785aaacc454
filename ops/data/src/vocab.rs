//! BERT's WordPiece, with BLIP's two additional tokens: `[DEC]` begins a decoder's text, `[ENC]`
//! that of the image-grounded encoder.

mod tokenizer_json;

use std::collections::BTreeMap;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer,
};

use crate::clean;

/// The tokens that every vocabulary must have.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// The tokens that BLIP appends, in this order (30522 and 30523 after bert-base-uncased).
const APPENDED: [&str; 2] = ["[DEC]", "[ENC]"];

/// Longer words are [UNK], as in BERT.
const WORD_CHARS_MAX: usize = 100;

/// Ids of the special tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpecialIds {
    /// Padding.
    pub pad: i64,
    /// An unknown word.
    pub unk: i64,
    /// Begins a text.
    pub cls: i64,
    /// Ends a text.
    pub sep: i64,
    /// Begins a text that is generated from an image.
    pub dec: i64,
    /// Begins a text that is encoded together with an image.
    pub enc: i64,
}

/// A vocabulary and its tokenizer.
///
/// ```
/// use blip_data::vocab::Vocab;
///
/// let vocab = Vocab::learn(["a small red ring", "a red square"].into_iter(), 100)?;
/// let ids = vocab.encode("a red ring", 30);
/// assert_eq!(ids.first(), Some(&vocab.special().cls));
/// assert_eq!(vocab.decode(&ids), "a red ring");
/// # Ok::<(), blip_data::vocab::VocabError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Vocab {
    tokens: Vec<String>,
    tokenizer: Tokenizer,
    special: SpecialIds,
}

/// A vocabulary that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VocabError {
    #[error("missing special tokens: {0}")]
    Missing(String),
    #[error("duplicate token `{0}` in lines {1} and {2}")]
    Duplicate(String, usize, usize),
    /// Neither a `vocab.txt` nor a `tokenizer.json`.
    #[error("{0}")]
    Format(String),
}

impl Vocab {
    /// A vocabulary of these tokens, in the order of their ids. `[DEC]` and `[ENC]` are appended if
    /// they are missing.
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
                return Err(VocabError::Duplicate(token.clone(), first + 1, id + 1));
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
        let special = SpecialIds {
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

    /// Reads a `vocab.txt` (one token per line) or the vocabulary of a `tokenizer.json`. One that
    /// is for another tokenizer than this one is refused.
    ///
    /// # Errors
    /// [`VocabError`].
    pub fn read(bytes: &[u8]) -> Result<Self, VocabError> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| VocabError::Format("not UTF-8".to_owned()))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let is_json = text.trim_start().starts_with('{');
        let tokens = if is_json {
            tokenizer_json::tokens(text)?
        } else {
            lines(text)
        };
        check_lowercase(&tokens, is_json)?;
        Self::new(tokens)
    }

    /// Reads what [`Self::to_text`] wrote: it was checked when it was first read.
    ///
    /// # Errors
    /// [`VocabError`].
    pub fn from_text(text: &str) -> Result<Self, VocabError> {
        Self::new(lines(text))
    }

    /// Builds a vocabulary of at most `size` tokens: the special ones, every character that occurs
    /// (as a word's first and as a later one), then the most frequent words. Ties are broken
    /// alphabetically, so the order of the texts has no influence.
    ///
    /// # Errors
    /// [`VocabError`].
    pub fn learn<'t>(
        texts: impl Iterator<Item = &'t str>,
        size: usize,
    ) -> Result<Self, VocabError> {
        let mut words: BTreeMap<String, u64> = BTreeMap::new();
        for text in texts {
            let cleaned = clean::caption(text, usize::MAX);
            for word in split_words(&cleaned) {
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

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Always false: the special tokens are there.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    pub fn special(&self) -> SpecialIds {
        self.special
    }

    /// The `vocab.txt`.
    pub fn to_text(&self) -> String {
        self.tokens
            .iter()
            .flat_map(|token| [token.as_str(), "\n"])
            .collect()
    }

    /// The ids of a text: `[CLS]`, its tokens, `[SEP]`; at most `length` in total, `[SEP]` always
    /// last.
    pub fn encode(&self, text: &str, length: usize) -> Vec<i64> {
        let mut ids = vec![self.special.cls];
        // Encoding does not fail on any text: unknown words are [UNK].
        if let Ok(encoding) = self.tokenizer.encode(text, false) {
            let tokens = encoding.get_ids().iter().take(length.saturating_sub(2));
            ids.extend(tokens.map(|id| i64::from(*id)));
        }
        ids.push(self.special.sep);
        ids
    }

    /// The text of ids, without special tokens.
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

    /// Whether a text has at least one known token.
    pub fn knows_any(&self, text: &str) -> bool {
        let ids = self.encode(text, usize::MAX);
        ids.iter()
            .any(|id| ![self.special.cls, self.special.sep, self.special.unk].contains(id))
    }
}

fn lines(text: &str) -> Vec<String> {
    let lines = text.lines();
    lines
        .map(|line| line.trim_end_matches('\r').to_owned())
        .collect()
}

/// Fails when tokens have capital letters, as those of BERT's cased models have: texts are
/// lowercase here, so that most words would be unknown.
fn check_lowercase(tokens: &[String], is_json: bool) -> Result<(), VocabError> {
    let is_cased = |token: &str| {
        let is_special = token.starts_with('[') && token.ends_with(']');
        !is_special && token.contains(|c: char| c.is_ascii_uppercase())
    };
    let cased = || tokens.iter().enumerate().filter(|(_, it)| is_cased(it));
    let count = cased().count();
    // A few can be there by mistake, and are never used.
    if count * 100 <= tokens.len() {
        return Ok(());
    }
    let (first, token) = cased().next().map_or((0, ""), |(id, it)| (id, it.as_str()));
    let place = if is_json {
        format!("with the id {first}")
    } else {
        format!("in line {}", first + 1)
    };
    Err(VocabError::Format(format!(
        "it keeps capital letters: {count} of its {} tokens have some, the first is `{}` {place}",
        tokens.len(),
        token.escape_debug()
    )))
}

/// The words of a text, as BERT's pre-tokenizer splits them.
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

    fn sample() -> Vocab {
        Vocab::learn(
            ["a small red ring", "a large red ring , here"].into_iter(),
            60,
        )
        .unwrap()
    }

    #[test]
    fn a_text_is_encoded_and_decoded() {
        let vocab = sample();
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

    /// transformers encodes `[SEP]` in a text as the special token. A web text must not be able to
    /// end a caption.
    #[test]
    fn a_text_cannot_contain_special_tokens() {
        let vocab = sample();
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
    fn the_order_of_texts_has_no_influence() {
        let other = Vocab::learn(
            ["a large red ring , here", "a small red ring"].into_iter(),
            60,
        )
        .unwrap();
        assert_eq!(sample().to_text(), other.to_text());
        let marked = ["\u{feff}", &sample().to_text()].concat();
        let unmarked = Vocab::read(marked.as_bytes()).unwrap();
        assert_eq!(unmarked.to_text(), sample().to_text());
        let read = Vocab::read(sample().to_text().as_bytes()).unwrap();
        assert_eq!(read.to_text(), sample().to_text());
        assert_eq!(read.special().enc, read.len() as i64 - 1);
    }

    #[test]
    fn invalid_vocabularies_are_errors() {
        assert_eq!(
            Vocab::read(b"[PAD]\n[UNK]\na\n").unwrap_err().to_string(),
            "missing special tokens: [CLS] [SEP] [MASK]"
        );
        assert_eq!(
            Vocab::read(b"[PAD]\na\na\n").unwrap_err().to_string(),
            "duplicate token `a` in lines 2 and 3"
        );
        let special = SPECIAL.join("\n");
        let cased = format!("{special}\n[X]\nthe\nThe\n##A\nring\n");
        assert_eq!(
            Vocab::read(cased.as_bytes()).unwrap_err().to_string(),
            "it keeps capital letters: 2 of its 10 tokens have some, the first is `The` in line 8"
        );
        assert!(Vocab::from_text(&cased).is_ok(), "one that is stored");
        let few: String = (0..100).map(|number| format!("w{number}\n")).collect();
        assert!(Vocab::read(format!("{special}\n{few}The\n").as_bytes()).is_ok());
    }
}
