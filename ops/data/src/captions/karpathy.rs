//! The images of Andrej Karpathy's splits of COCO and Flickr: `{"filepath", "filename",
//! "sentences": [{"raw"}], "split"}`.

use serde_json::Value;

use super::entry::{self, Entry, FieldNames, Unusable};
use crate::json::Fields;

/// An image with its captions, and the split that it is in.
pub(super) struct SplitImage {
    pub(super) split: String,
    pub(super) entry: Entry,
}

pub(super) fn is_split_image(fields: &Fields) -> bool {
    fields.contains_key("sentences") && fields.contains_key("split")
}

pub(super) fn read(mut fields: Fields, names: &FieldNames) -> Result<SplitImage, Unusable> {
    let image = match &names.image {
        Some(field) => string(&fields, field)?,
        None => {
            let name = string(&fields, "filename")?;
            match fields.get("filepath").and_then(Value::as_str) {
                None | Some("") => name,
                Some(folder) => format!("{}/{name}", folder.trim_end_matches('/')),
            }
        }
    };
    let named = |(_, reason): Unusable| (Some(image.clone()), reason);
    let split = string(&fields, "split").map_err(named)?;
    let sentences = match fields.remove("sentences") {
        Some(Value::Array(sentences)) if !sentences.is_empty() => sentences,
        Some(Value::Array(_)) => {
            return Err((Some(image), "its `sentences` is an empty list".to_owned()));
        }
        _ => return Err((Some(image), "its `sentences` is no list".to_owned())),
    };
    let field = names.caption.as_deref().unwrap_or("raw");
    let captions = sentences.into_iter().map(|mut sentence| {
        let text = sentence.get_mut(field).map(Value::take);
        let text = text.ok_or_else(|| format!("one of its `sentences` has no `{field}`"))?;
        entry::caption(text)
    });
    let captions = captions.collect();
    Ok(SplitImage {
        split,
        entry: Entry { image, captions },
    })
}

fn string(fields: &Fields, field: &str) -> Result<String, Unusable> {
    match fields.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err((None, format!("its `{field}` is no string"))),
        None => Err((None, format!("it has no `{field}`"))),
    }
}
