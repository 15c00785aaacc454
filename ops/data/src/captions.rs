//! Lists of captions: BLIP's JSON (`[{"image": path, "caption": text or texts}]`) and COCO's
//! (`{"images", "annotations"}`).

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde_json::Value;

/// An image with its captions, as a list has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The image's path, relative to the folder of images.
    pub image: String,
    /// Its captions.
    pub captions: Vec<String>,
}

/// A list that cannot be read at all.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ListError(String);

/// The entries of a list, one per image, and the reasons why others cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct List {
    /// Entries, by image.
    pub entries: Vec<Entry>,
    /// What stands where and why it cannot be used.
    pub faults: Vec<(String, String)>,
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
pub fn read(bytes: &[u8]) -> Result<List, ListError> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ListError(format!("it is no JSON: {error}")))?;
    let mut list = Builder::default();
    match value {
        Value::Array(rows) => rows
            .iter()
            .enumerate()
            .for_each(|(at, row)| list.blip(at, row)),
        Value::Object(_) => {
            let coco = Coco::deserialize(value).map_err(|error| {
                ListError(format!("it is an object, but not COCO's captions: {error}"))
            })?;
            list.coco(coco);
        }
        _ => {
            return Err(ListError(
                "it is neither a list of entries nor COCO's captions".to_owned(),
            ));
        }
    }
    Ok(list.finish())
}

#[derive(Default)]
struct Builder {
    captions: BTreeMap<String, Vec<String>>,
    faults: Vec<(String, String)>,
}

impl Builder {
    fn blip(&mut self, at: usize, row: &Value) {
        let Some(image) = row.get("image").and_then(Value::as_str) else {
            return self
                .faults
                .push((format!("entry {at}"), "it has no `image`".to_owned()));
        };
        match row.get("caption") {
            Some(Value::String(text)) => self.add(image, text),
            Some(Value::Array(texts)) => {
                for text in texts {
                    match text.as_str() {
                        Some(text) => self.add(image, text),
                        None => self.faults.push((
                            image.to_owned(),
                            "one of its captions is no text".to_owned(),
                        )),
                    }
                }
            }
            _ => self
                .faults
                .push((image.to_owned(), "it has no `caption`".to_owned())),
        }
    }

    fn coco(&mut self, coco: Coco) {
        let names: BTreeMap<u64, String> = coco
            .images
            .into_iter()
            .map(|image| (image.id, image.file_name))
            .collect();
        for annotation in coco.annotations {
            match names.get(&annotation.image_id) {
                Some(name) => self.add(&name.clone(), &annotation.caption),
                None => {
                    let what = format!("annotation of image {}", annotation.image_id);
                    self.faults
                        .push((what, "there is no image of that id".to_owned()));
                }
            }
        }
    }

    fn add(&mut self, image: &str, text: &str) {
        let inside = Path::new(image)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside || image.contains('\0') {
            self.faults.push((
                image.escape_default().to_string(),
                "its path leads out of the folder of images".to_owned(),
            ));
        } else if text.trim().is_empty() {
            self.faults
                .push((image.to_owned(), "its caption is empty".to_owned()));
        } else {
            self.captions
                .entry(image.to_owned())
                .or_default()
                .push(text.trim().to_owned());
        }
    }

    fn finish(self) -> List {
        let entries = self
            .captions
            .into_iter()
            .map(|(image, captions)| Entry { image, captions })
            .collect();
        List {
            entries,
            faults: self.faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_are_read() {
        let blip = br#"[{"image":"b.jpg","caption":"x"},{"image":"a.jpg","caption":["y"," z "]},{"image":"b.jpg","caption":"w"}]"#;
        let list = read(blip).unwrap();
        assert_eq!(list.faults, []);
        assert_eq!(
            list.entries[1],
            Entry {
                image: "b.jpg".to_owned(),
                captions: vec!["x".to_owned(), "w".to_owned()]
            }
        );
        let coco = br#"{"info":{},"images":[{"id":3,"file_name":"c.jpg","width":1}],"annotations":[{"id":1,"image_id":3,"caption":"v"}]}"#;
        assert_eq!(
            read(coco).unwrap().entries,
            [Entry {
                image: "c.jpg".to_owned(),
                captions: vec!["v".to_owned()]
            }]
        );
    }

    #[test]
    fn faults_are_listed_and_the_rest_is_used() {
        let list = read(br#"[{"image":"../../etc/passwd","caption":"x"},{"caption":"x"},{"image":"a.jpg"},{"image":"b.jpg","caption":" "},{"image":"c.jpg","caption":"ok"}]"#).unwrap();
        let reasons: Vec<&str> = list
            .faults
            .iter()
            .map(|(_, reason)| reason.as_str())
            .collect();
        assert_eq!(
            reasons,
            [
                "its path leads out of the folder of images",
                "it has no `image`",
                "it has no `caption`",
                "its caption is empty"
            ]
        );
        assert_eq!(list.entries.len(), 1);
        assert_eq!(
            read(b"[").unwrap_err().to_string(),
            "it is no JSON: EOF while parsing a list at line 1 column 1"
        );
        assert_eq!(
            read(b"3").unwrap_err().to_string(),
            "it is neither a list of entries nor COCO's captions"
        );
    }
}
