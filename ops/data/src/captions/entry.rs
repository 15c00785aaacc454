//! The entries of a list: which fields hold the image and the captions.

use serde_json::Value;

use super::pieces::PieceOf;
use crate::json::{self, Fields};

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

/// The fields that a user names, instead of the usual ones.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldNames {
    pub image: Option<String>,
    pub caption: Option<String>,
}

impl FieldNames {
    fn image<'n>(&'n self, usual: &'n str) -> &'n str {
        self.image.as_deref().unwrap_or(usual)
    }

    fn caption<'n>(&'n self, usual: &'n str) -> &'n str {
        self.caption.as_deref().unwrap_or(usual)
    }
}

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
    pub(super) fn read(mut fields: Fields, names: &FieldNames) -> Result<Self, Unusable> {
        let Some(image_field) = first_of(&fields, &names.image, &IMAGE_FIELDS) else {
            return Err((None, missing(names.image("image"), &fields)));
        };
        let Some(Value::String(image)) = fields.remove(image_field) else {
            return Err((None, format!("its `{image_field}` is no string")));
        };
        let Some(field) = first_of(&fields, &names.caption, &CAPTION_FIELDS) else {
            return Err((Some(image), missing(names.caption("caption"), &fields)));
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

/// The field that the user names, else the first of those that are known.
fn first_of<'n>(fields: &Fields, given: &'n Option<String>, known: &[&'n str]) -> Option<&'n str> {
    let given = given.as_deref().map(|name| [name]);
    let mut names = given.as_ref().map_or(known, |name| name).iter().copied();
    names.find(|name| fields.contains_key(*name))
}

/// What all entries, images or annotations of a list lack: the image, the caption, or both.
pub(super) fn lacking(of: PieceOf, fields: &Fields, names: &FieldNames) -> Option<String> {
    let has = |given, known: &[&str]| first_of(fields, given, known).is_some();
    let image = names.image("image");
    let caption = names.caption("caption");
    let (kind, image, caption) = match of {
        PieceOf::Top => (
            "entries",
            (!has(&names.image, &IMAGE_FIELDS)).then_some(image),
            (!has(&names.caption, &CAPTION_FIELDS)).then_some(caption),
        ),
        PieceOf::Field("images") => {
            let file_name = names.image("file_name");
            let is_missing = !fields.contains_key(file_name);
            ("images", is_missing.then_some(file_name), None)
        }
        PieceOf::Field(_) => {
            let is_missing = !fields.contains_key(caption);
            ("annotations", None, is_missing.then_some(caption))
        }
        PieceOf::Rest => return None,
    };
    let only = || json::only(fields);
    let (lack, remedy) = match (image, caption) {
        (Some(image), Some(caption)) => (
            format!("neither `{image}` nor `{caption}`{}", only()),
            "the fields by `image_field` and `caption_field`",
        ),
        (Some(image), None) => (
            format!("no `{image}`{}", only()),
            "the field with the path by `image_field`",
        ),
        (None, Some(caption)) => (
            format!("no `{caption}`{}", only()),
            "the field with the text by `caption_field`",
        ),
        (None, None) => return None,
    };
    Some(format!("its {kind} have {lack}: name {remedy}"))
}

fn missing(field: &str, fields: &Fields) -> String {
    format!("it has no `{field}`{}", json::only(fields))
}

pub(super) fn caption(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => match super::trim(&text) {
            "" => Err("its caption is empty".to_owned()),
            text => Ok(text.to_owned()),
        },
        _ => Err("one of its captions is no text".to_owned()),
    }
}

impl CocoImage {
    pub(super) fn read(fields: &Fields, names: &FieldNames) -> Result<Self, Unusable> {
        let field = names.image("file_name");
        let Some(Value::String(file_name)) = fields.get(field) else {
            return Err((None, format!("it has no `{field}`")));
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
    pub(super) fn read(mut fields: Fields, names: &FieldNames) -> Result<Self, Unusable> {
        let image_id = fields.get("image_id").and_then(id);
        let image_id = image_id.ok_or_else(|| (None, "it has no `image_id`".to_owned()))?;
        let field = names.caption("caption");
        let Some(text) = fields.remove(field) else {
            let item = format!("annotation of image {image_id}");
            return Err((Some(item), missing(field, &fields)));
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
