//! Ops that read the user's files, or generate data in their place, as pairs and vocabularies.

mod budget;
mod captions;
mod scenes;
mod webdataset;
mod wordpiece;

use blip_data::TextSource;
use blip_engine::{Op, OpError};
use blip_grammar::Type;

/// The ops of this folder.
pub(crate) fn ops() -> [Op; 4] {
    [
        captions::op(),
        scenes::op(),
        webdataset::op(),
        wordpiece::op(),
    ]
}

/// The values of an argument that says who wrote the texts.
const SOURCES: Type = Type::Choice(&["web", "human", "synthetic"]);

fn parse_source(word: &str) -> Result<TextSource, OpError> {
    match word {
        "web" => Ok(TextSource::Web),
        "human" => Ok(TextSource::Human),
        "synthetic" => Ok(TextSource::Synthetic),
        _ => Err(OpError::Bug(format!("`{word}` is not a source of texts"))),
    }
}
