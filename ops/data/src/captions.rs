//! Caption lists in JSON: BLIP's (`[{"image": path, "caption": text or texts}]`) and COCO's
//! (`{"images", "annotations"}`).

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::Value;

/// An image of a list with all its captions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptionedImage {
    /// The image's path, relative to the folder of images.
    pub image: String,
    pub captions: Vec<String>,
}

/// A list that cannot be read at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ListError(String);

/// The contents of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CaptionList {
    /// One per image, sorted by its path.
    pub entries: Vec<CaptionedImage>,
    /// Items that cannot be used, and why.
    pub rejected: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: u64,
    file_name: String,
}

#[derive(Deserialize)]
struct CocoAnnotation {
    image_id: u64,
    caption: String,
}

/// Reads a list in either format.
///
/// # Errors
/// [`ListError`] when it is neither.
pub fn read(bytes: &[u8]) -> Result<CaptionList, ListError> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ListError(format!("invalid JSON: {error}")))?;
    let mut list = Builder::default();
    match value {
        Value::Array(entries) => {
            for (at, entry) in entries.iter().enumerate() {
                list.add_blip(at, entry);
            }
        }
        Value::Object(_) => {
            let coco = Coco::deserialize(value)
                .map_err(|error| ListError(format!("not COCO captions: {error}")))?;
            list.add_coco(coco);
        }
        _ => {
            let what = "neither an array of entries nor COCO captions";
            return Err(ListError(what.to_owned()));
        }
    }
    Ok(list.finish())
}

#[derive(Default)]
struct Builder {
    captions: BTreeMap<String, Vec<String>>,
    rejected: Vec<(String, String)>,
}

// The reasons are stored with a stage's result: other words would be other bytes.
impl Builder {
    fn add_blip(&mut self, at: usize, entry: &Value) {
        let Some(image) = entry.get("image").and_then(Value::as_str) else {
            return self.reject(format!("entry {at}"), "it has no `image`");
        };
        match entry.get("caption") {
            Some(Value::String(text)) => self.add(image, text),
            Some(Value::Array(texts)) => {
                for text in texts {
                    match text.as_str() {
                        Some(text) => self.add(image, text),
                        None => self.reject(image.to_owned(), "one of its captions is no text"),
                    }
                }
            }
            _ => self.reject(image.to_owned(), "it has no `caption`"),
        }
    }

    fn add_coco(&mut self, coco: Coco) {
        let mut file_names = BTreeMap::new();
        for image in coco.images {
            file_names.insert(image.id, image.file_name);
        }
        for annotation in coco.annotations {
            match file_names.get(&annotation.image_id) {
                Some(name) => self.add(name, &annotation.caption),
                None => {
                    let item = format!("annotation of image {}", annotation.image_id);
                    self.reject(item, "there is no image of that id");
                }
            }
        }
    }

    fn add(&mut self, image: &str, text: &str) {
        if !is_relative_inside(image) {
            let item = image.escape_default().to_string();
            self.reject(item, "its path leads out of the folder of images");
        } else if text.trim().is_empty() {
            self.reject(image.to_owned(), "its caption is empty");
        } else {
            let captions = self.captions.entry(image.to_owned()).or_default();
            captions.push(text.trim().to_owned());
        }
    }

    fn reject(&mut self, item: String, reason: &str) {
        self.rejected.push((item, reason.to_owned()));
    }

    fn finish(self) -> CaptionList {
        let entries = self
            .captions
            .into_iter()
            .map(|(image, captions)| CaptionedImage { image, captions })
            .collect();
        CaptionList {
            entries,
            rejected: self.rejected,
        }
    }
}

/// Whether a path stays in the folder that it starts from: a list may come from anywhere, and must
/// not make this program read other files.
fn is_relative_inside(path: &str) -> bool {
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    inside && !path.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(image: &str, captions: &[&str]) -> CaptionedImage {
        CaptionedImage {
            image: image.to_owned(),
            captions: captions.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn both_formats_are_read() {
        let blip = br#"[
            {"image": "b.jpg", "caption": "x"},
            {"image": "a.jpg", "caption": ["y", " z "]},
            {"image": "b.jpg", "caption": "w"}
        ]"#;
        let list = read(blip).unwrap();
        assert_eq!(list.rejected, []);
        assert_eq!(
            list.entries,
            [entry("a.jpg", &["y", "z"]), entry("b.jpg", &["x", "w"])]
        );
        let coco = br#"{
            "info": {},
            "images": [{"id": 3, "file_name": "c.jpg", "width": 1}],
            "annotations": [{"id": 1, "image_id": 3, "caption": "v"}]
        }"#;
        assert_eq!(read(coco).unwrap().entries, [entry("c.jpg", &["v"])]);
    }

    #[test]
    fn items_are_rejected_and_the_others_used() {
        let list = br#"[
            {"image": "../../etc/passwd", "caption": "x"},
            {"caption": "x"},
            {"image": "a.jpg"},
            {"image": "b.jpg", "caption": " "},
            {"image": "c.jpg", "caption": "ok"}
        ]"#;
        let list = read(list).unwrap();
        let reasons = list.rejected.iter().map(|(_, reason)| reason.as_str());
        assert_eq!(
            reasons.collect::<Vec<_>>(),
            [
                "its path leads out of the folder of images",
                "it has no `image`",
                "it has no `caption`",
                "its caption is empty"
            ]
        );
        assert_eq!(list.entries, [entry("c.jpg", &["ok"])]);
    }

    #[test]
    fn other_files_are_errors() {
        let error = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert_eq!(
            error(b"["),
            "invalid JSON: EOF while parsing a list at line 1 column 1"
        );
        assert_eq!(error(b"{}"), "not COCO captions: missing field `images`");
        assert_eq!(error(b"3"), "neither an array of entries nor COCO captions");
    }
}
