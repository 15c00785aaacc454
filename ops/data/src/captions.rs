//! Caption lists in JSON: entries (`{"image": path, "caption": text or texts}`) as an array, such
//! as BLIP's, or one a line; COCO's (`{"images", "annotations"}`), and Karpathy's splits.
//!
//! Entries are read one by one: one that cannot be used is rejected, and the others are used. Where
//! a list contradicts itself, no side is taken.

mod entry;
mod foreign;
mod karpathy;
mod paths;
mod pieces;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

pub use self::entry::FieldNames;
use self::entry::{CocoAnnotation, CocoImage, Entry};
use self::karpathy::SplitImage;
pub use self::paths::spellings;
use self::pieces::{ENTRY_BYTES_MAX, Piece, PieceOf, SplitError, split};
use crate::json;

/// An image of a list with all its captions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptionedImage {
    /// The image's path: absolute, or relative to the folder of images.
    pub image: String,
    pub captions: Vec<String>,
}

/// A list that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("{0}")]
    Io(std::io::Error),
    #[error("{0}")]
    Format(String),
}

/// The contents of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CaptionList {
    /// One per image, sorted by its path.
    pub entries: Vec<CaptionedImage>,
    /// Items that cannot be used, and why.
    pub rejected: Vec<(String, String)>,
    /// Images that several entries name: their captions are those of all.
    pub repeated: u64,
    /// Images of a COCO list without any annotation, and the first of them.
    pub without_captions: u64,
    pub first_without: Option<String>,
    /// Of one of Karpathy's files, how many images each split has.
    pub splits: BTreeMap<String, u64>,
}

/// Reads a list in any of the formats, whose fields have the usual names or these.
///
/// # Errors
/// [`ListError`] when it is none of them, or ends early.
pub fn read(mut list: impl Read, names: &FieldNames) -> Result<CaptionList, ListError> {
    let mut head = Vec::new();
    list.by_ref()
        .take(foreign::HEAD_BYTES)
        .read_to_end(&mut head)
        .map_err(ListError::Io)?;
    if let Some(what) = foreign::describe(&head) {
        return Err(ListError::Format(what));
    }
    let mut builder = Builder {
        names: names.clone(),
        ..Builder::default()
    };
    let result = split(head.chain(list), &mut |piece| builder.add_piece(piece));
    let read = builder.entries;
    match result {
        Ok(()) => builder.finish(),
        Err(SplitError::Io(error)) => Err(ListError::Io(error)),
        Err(SplitError::Ends(at)) => Err(ListError::Format(format!(
            "it ends early, inside what begins at byte {at}, after {read} entries"
        ))),
        Err(SplitError::Unexpected(at, text)) => Err(ListError::Format(format!(
            "`{text}` at byte {at} is no part of a JSON list"
        ))),
    }
}

/// A caption without blanks around it and without a byte-order mark, which is no text.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
}

#[derive(Default)]
struct Builder {
    names: FieldNames,
    /// Pieces of any kind.
    entries: u64,
    captions: BTreeMap<String, Vec<String>>,
    rejected: Vec<(String, String)>,
    repeated: BTreeSet<String>,
    coco: Option<Coco>,
    /// Whether there are images with their captions beside them, as in Karpathy's files.
    has_split_images: bool,
    splits: BTreeMap<String, u64>,
    /// Pieces that lack the field with the image or the caption, by where they are from.
    lacking: BTreeMap<&'static str, Lacking>,
}

/// How many pieces of a kind there are and how many lack a field; what to say of the first.
#[derive(Default)]
struct Lacking {
    pieces: u64,
    without: u64,
    first: String,
}

/// The parts of a COCO list, whose order is not known.
#[derive(Default)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoAnnotation>,
    fields: BTreeSet<&'static str>,
}

// The reasons are stored with a stage's result: other words would be other bytes.
impl Builder {
    fn add_piece(&mut self, piece: Piece) {
        let item = match piece.of {
            PieceOf::Top => format!("entry {}", self.entries),
            PieceOf::Field("images") => format!("image at byte {}", piece.at),
            PieceOf::Field(_) => format!("annotation at byte {}", piece.at),
            PieceOf::Rest => "the list".to_owned(),
        };
        self.entries += 1;
        if let PieceOf::Field(field) = piece.of {
            self.coco.get_or_insert_default().fields.insert(field);
        }
        let Some(text) = piece.text else {
            let reason = format!("it is longer than {ENTRY_BYTES_MAX} bytes");
            return self.reject(item, reason);
        };
        match json::read_object(&text) {
            Ok(fields) => self.add_fields(piece.of, item, fields),
            Err(reason) => self.reject(item, format!("it {reason}")),
        }
    }

    fn add_fields(&mut self, of: PieceOf, item: String, fields: json::Fields) {
        let is_split_image = of == PieceOf::Field("images") && karpathy::is_split_image(&fields);
        self.has_split_images |= is_split_image;
        if self.captions.is_empty() && !is_split_image {
            self.count_lacking(of, &fields);
        }
        let names = &self.names;
        let added = match of {
            PieceOf::Top => Entry::read(fields, names).and_then(|entry| self.add_entry(entry)),
            PieceOf::Field("images") if is_split_image => {
                karpathy::read(fields, names).and_then(|image| self.add_split_image(image))
            }
            PieceOf::Field("images") => {
                CocoImage::read(&fields, names).map(|image| self.coco_parts().images.push(image))
            }
            PieceOf::Field(_) => CocoAnnotation::read(fields, names)
                .map(|annotation| self.coco_parts().annotations.push(annotation)),
            PieceOf::Rest => {
                let parts = self.coco_parts();
                parts.fields.extend(
                    ["images", "annotations"]
                        .into_iter()
                        .filter(|field| fields.contains_key(*field)),
                );
                Ok(())
            }
        };
        if let Err((name, reason)) = added {
            self.reject(name.unwrap_or(item), reason);
        }
    }

    fn count_lacking(&mut self, of: PieceOf, fields: &json::Fields) {
        let kind = match of {
            PieceOf::Top => "",
            PieceOf::Field(field) => field,
            PieceOf::Rest => return,
        };
        let lacking = entry::lacking(of, fields, &self.names);
        let count = self.lacking.entry(kind).or_default();
        count.pieces += 1;
        if let Some(what) = lacking {
            count.without += 1;
            if count.without == 1 {
                count.first = what;
            }
        }
    }

    fn add_split_image(&mut self, image: SplitImage) -> Result<(), entry::Unusable> {
        *self.splits.entry(image.split).or_default() += 1;
        self.add_entry(image.entry)
    }

    fn coco_parts(&mut self) -> &mut Coco {
        self.coco.get_or_insert_default()
    }

    fn add_entry(&mut self, entry: Entry) -> Result<(), entry::Unusable> {
        let Entry { image, captions } = entry;
        let path = paths::normalize(&image)
            .map_err(|reason| (Some(image.escape_default().to_string()), reason.to_owned()))?;
        if self.captions.contains_key(&path) {
            self.repeated.insert(path.clone());
        }
        let mut kept = Vec::new();
        for caption in captions {
            match caption {
                Ok(text) => kept.push(text),
                Err(reason) => self.reject(image.clone(), reason),
            }
        }
        if !kept.is_empty() {
            self.captions.entry(path).or_default().extend(kept);
        }
        Ok(())
    }

    fn add_coco(&mut self, coco: Coco) -> (u64, Option<String>) {
        let mut file_names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for CocoImage { id, file_name } in &coco.images {
            file_names.entry(id).or_default().insert(file_name);
        }
        let mut captions: BTreeMap<&str, Vec<Result<String, String>>> = BTreeMap::new();
        for CocoAnnotation { image_id, caption } in coco.annotations {
            match file_names.get_key_value(image_id.as_str()) {
                Some((id, _)) => captions.entry(id).or_default().push(caption),
                None => {
                    let item = format!("annotation of image {image_id}");
                    self.reject(item, "there is no image of that id".to_owned());
                }
            }
        }
        let (mut without, mut first) = (0, None);
        for (id, names) in &file_names {
            let names: Vec<&str> = names.iter().copied().collect();
            let (name, captions) = match (names.as_slice(), captions.remove(id)) {
                ([name], Some(captions)) => (*name, captions),
                ([name, ..], None) => {
                    without += 1;
                    first.get_or_insert_with(|| (*name).to_owned());
                    continue;
                }
                (names, captions) => {
                    let item = format!("image {id}");
                    let reason = format!("several images have this id: {}", names.join(", "));
                    for _ in captions.unwrap_or_default() {
                        self.reject(item.clone(), reason.clone());
                    }
                    continue;
                }
            };
            let entry = Entry {
                image: name.to_owned(),
                captions,
            };
            if let Err((item, reason)) = self.add_entry(entry) {
                self.reject(item.unwrap_or_default(), reason);
            }
        }
        (without, first)
    }

    fn reject(&mut self, item: String, reason: String) {
        self.rejected.push((item, reason));
    }

    fn finish(mut self) -> Result<CaptionList, ListError> {
        let format = |what: &str| Err(ListError::Format(what.to_owned()));
        let (mut without_captions, mut first_without) = (0, None);
        // Where images have their captions with them, there are no annotations.
        let is_complete = |coco: &Coco| {
            self.has_split_images && coco.images.is_empty() && coco.annotations.is_empty()
        };
        if let Some(coco) = self.coco.take_if(|coco| !is_complete(coco)) {
            for field in ["images", "annotations"] {
                if !coco.fields.contains(field) {
                    return format(&format!("it is like COCO's captions, but has no `{field}`"));
                }
            }
            (without_captions, first_without) = self.add_coco(coco);
        }
        let mut lacking = self.lacking.values();
        if self.captions.is_empty()
            && let Some(all) = lacking.find(|it| it.without > 0 && it.without == it.pieces)
        {
            return format(&all.first);
        }
        let entries = self
            .captions
            .into_iter()
            .map(|(image, captions)| CaptionedImage { image, captions })
            .collect();
        Ok(CaptionList {
            entries,
            rejected: self.rejected,
            repeated: self.repeated.len() as u64,
            without_captions,
            first_without,
            splits: self.splits,
        })
    }
}
