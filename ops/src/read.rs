//! Ops that read: what the user has, or what is generated, becomes pairs and vocabularies.

mod budget;
mod captions;
mod scenes;
mod webdataset;
mod wordpiece;

use blip_data::TextSource;
use blip_engine::{Op, OpError};
use blip_grammar::Type;

/// All of them.
pub(crate) fn ops() -> [Op; 4] {
    [
        captions::op(),
        scenes::op(),
        webdataset::op(),
        wordpiece::op(),
    ]
}

/// Who may have written a text, as an argument.
const SOURCES: Type = Type::Choice(&["web", "human", "synthetic"]);

fn source(word: &str) -> Result<TextSource, OpError> {
    match word {
        "web" => Ok(TextSource::Web),
        "human" => Ok(TextSource::Human),
        "synthetic" => Ok(TextSource::Synthetic),
        _ => Err(OpError::Bug(format!("`{word}` is no source of texts"))),
    }
}
