//! The entries of a list: which fields hold the image and the captions.

use serde_json::Value;

use crate::json::Fields;

/// Names of the field with the image's path, and of the one with its captions: BLIP's first, then
/// those of Hugging Face's image folders and of other lists. Where an entry has several, the first
/// counts.
const IMAGE_FIELDS: [&str; 7] = [
    "image",
    "image_path",
    "img_path",
    "file_name",
    "filename",
    "file",
    "path",
];
const CAPTION_FIELDS: [&str; 4] = ["caption", "captions", "text", "texts"];
/// Fields named in a reason.
const NAMED_FIELDS_MAX: usize = 5;

/// Why an entry cannot be used, and its name where it has one.
pub(super) type Unusable = (Option<String>, String);

/// An image and its captions, each of which may be unusable.
pub(super) struct Entry {
    pub(super) image: String,
    pub(super) captions: Vec<Result<String, String>>,
}

pub(super) struct CocoImage {
    pub(super) id: String,
    pub(super) file_name: String,
}

pub(super) struct CocoAnnotation {
    pub(super) image_id: String,
    pub(super) caption: Result<String, String>,
}

impl Entry {
    pub(super) fn read(mut fields: Fields) -> Result<Self, Unusable> {
        let Some(image_field) = first_of(&fields, &IMAGE_FIELDS) else {
            return Err((None, missing("image", &fields)));
        };
        let Some(Value::String(image)) = fields.remove(image_field) else {
            return Err((None, format!("its `{image_field}` is no string")));
        };
        let Some(field) = first_of(&fields, &CAPTION_FIELDS) else {
            return Err((Some(image), missing("caption", &fields)));
        };
        let captions = match fields.remove(field) {
            Some(Value::Array(texts)) if texts.is_empty() => {
                return Err((Some(image), format!("its `{field}` is an empty list")));
            }
            Some(Value::Array(texts)) => texts.into_iter().map(caption).collect(),
            Some(Value::Null) => return Err((Some(image), format!("its `{field}` is null"))),
            Some(text @ Value::String(_)) => vec![caption(text)],
            _ => {
                let reason = format!("its `{field}` is neither a string nor a list of strings");
                return Err((Some(image), reason));
            }
        };
        Ok(Self { image, captions })
    }
}

fn first_of(fields: &Fields, names: &[&'static str]) -> Option<&'static str> {
    names
        .iter()
        .copied()
        .find(|name| fields.contains_key(*name))
}

fn missing(field: &str, fields: &Fields) -> String {
    let names: Vec<String> = fields
        .keys()
        .take(NAMED_FIELDS_MAX)
        .map(|name| {
            format!(
                "`{}`",
                name.chars().take(40).collect::<String>().escape_debug()
            )
        })
        .collect();
    match names.as_slice() {
        [] => format!("it has no `{field}`"),
        names => format!("it has no `{field}`, only {}", names.join(", ")),
    }
}

fn caption(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => match super::trim(&text) {
            "" => Err("its caption is empty".to_owned()),
            text => Ok(text.to_owned()),
        },
        _ => Err("one of its captions is no text".to_owned()),
    }
}

impl CocoImage {
    pub(super) fn read(fields: &Fields) -> Result<Self, Unusable> {
        let Some(Value::String(file_name)) = fields.get("file_name") else {
            return Err((None, "it has no `file_name`".to_owned()));
        };
        let id = fields.get("id").and_then(id);
        let id = id.ok_or_else(|| (Some(file_name.clone()), "it has no `id`".to_owned()))?;
        Ok(Self {
            id,
            file_name: file_name.clone(),
        })
    }
}

impl CocoAnnotation {
    pub(super) fn read(mut fields: Fields) -> Result<Self, Unusable> {
        let image_id = fields.get("image_id").and_then(id);
        let image_id = image_id.ok_or_else(|| (None, "it has no `image_id`".to_owned()))?;
        let Some(text) = fields.remove("caption") else {
            let item = format!("annotation of image {image_id}");
            return Err((Some(item), missing("caption", &fields)));
        };
        Ok(Self {
            image_id,
            caption: caption(text),
        })
    }
}

/// An id as text: `3`, `"3"` and `3.0`, as pandas writes it, are the same one.
fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => {
            let id = id.to_string();
            Some(id.strip_suffix(".0").unwrap_or(&id).to_owned())
        }
        _ => None,
    }
}

/// Whether an image is one of Andrej Karpathy's splits of COCO and Flickr30k.
pub(super) fn is_karpathy(fields: &Fields) -> bool {
    fields.contains_key("sentences") && fields.contains_key("split")
}
