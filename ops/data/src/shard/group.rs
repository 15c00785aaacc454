//! The members of one key, and the sample that they form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::members::CaptionMember;
use super::{Members, RawSample};
use crate::json;

/// What the format of a `.json` that this program wrote begins with.
const OWN_FORMAT: &[u8] = b"blip/pair/";

/// The members of one key that were read so far.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) key: String,
    /// By suffix: offset and bytes.
    members: BTreeMap<String, (u64, Vec<u8>)>,
    rejected: Option<String>,
}

/// What the members of a group are.
#[derive(Debug)]
pub(super) enum Formed {
    Sample(RawSample),
    Rejected(String),
    /// More members could complete it: the group, and why it is no sample as it is.
    Incomplete(Group, String),
}

impl Group {
    pub(super) fn new(key: String) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.rejected.is_none()
    }

    /// How much memory it holds.
    pub(super) fn bytes(&self) -> usize {
        let members = self.members.values().map(|(_, bytes)| bytes.capacity());
        // What a group of empty members costs: so many of them are bounded as well.
        members.sum::<usize>() + 256
    }

    pub(super) fn has_image(&self, members: &Members) -> bool {
        let mut suffixes = members.image_suffixes().into_iter();
        suffixes.any(|suffix| self.members.contains_key(suffix))
    }

    /// As in `.jpg, .txt`.
    pub(super) fn suffixes(&self) -> String {
        let suffixes: Vec<String> = self
            .members
            .keys()
            .map(|suffix| format!(".{}", escaped(suffix)))
            .collect();
        suffixes.join(", ")
    }

    /// Adds a member, or the reason why it makes the sample unusable.
    pub(super) fn add(&mut self, suffix: String, offset: u64, bytes: Result<Vec<u8>, String>) {
        match bytes {
            Err(reason) => self.rejected = Some(reason),
            Ok(_) if self.members.contains_key(&suffix) => {
                self.rejected = Some(format!("it has two .{suffix} members"));
            }
            Ok(bytes) => {
                self.members.insert(suffix, (offset, bytes));
            }
        }
    }

    /// Forms the sample. The boolean is whether its `.json` could not be read, though it can do
    /// without.
    pub(super) fn form(mut self, members: &Members) -> (Formed, bool) {
        if let Some(reason) = self.rejected {
            return (Formed::Rejected(reason), false);
        }
        let images: Vec<&str> = members
            .image_suffixes()
            .into_iter()
            .filter(|suffix| self.members.contains_key(*suffix))
            .collect();
        let suffix = match images.as_slice() {
            [suffix] => *suffix,
            [] => {
                let reason = members.no_image(&self.suffixes());
                return (Formed::Incomplete(self, reason), false);
            }
            _ => {
                let reason = format!("it has several images: {}", self.suffixes());
                return (Formed::Rejected(reason), false);
            }
        };
        let (json, json_fault) = match self.members.get("json").map(|(_, bytes)| bytes) {
            Some(bytes) => match json::read_object(bytes) {
                Ok(fields) => (Some(Value::Object(fields)), None),
                Err(reason) => (None, Some(format!("its .json {reason}"))),
            },
            None => (None, None),
        };
        let text = match self.text(members, json.as_ref(), json_fault.as_deref()) {
            Ok(Some(text)) => text,
            Ok(None) => {
                let reason = members.no_caption(&self.suffixes());
                return (Formed::Incomplete(self, reason), false);
            }
            Err(reason) => return (Formed::Rejected(reason), false),
        };
        let (offset, image) = self.members.remove(suffix).unwrap_or_default();
        let sample = RawSample {
            key: self.key,
            offset,
            image,
            text,
            json,
        };
        let is_txt = members.caption.as_ref().is_none_or(|it| it.suffix == "txt");
        (Formed::Sample(sample), is_txt && json_fault.is_some())
    }

    /// The caption; `None` when there is no member that it could be in.
    fn text(
        &self,
        members: &Members,
        json: Option<&Value>,
        json_fault: Option<&str>,
    ) -> Result<Option<String>, String> {
        if let Some(fault) = json_fault {
            let is_ours = self.members.get("json").is_some_and(|(_, bytes)| {
                bytes
                    .windows(OWN_FORMAT.len())
                    .any(|part| part == OWN_FORMAT)
            });
            let can_do_without = members.caption.is_some() || self.members.contains_key("txt");
            // Without the .json, a caption that a model wrote would pass for one from the web.
            if is_ours || !can_do_without {
                return Err(fault.to_owned());
            }
        }
        if let Some(caption) = &members.caption {
            return self.text_of(caption);
        }
        match self.members.get("txt") {
            Some((_, bytes)) => utf8("txt", bytes).and_then(caption_of).map(Some),
            None => match json.and_then(|json| json.get("caption")) {
                None => Ok(None),
                Some(value) => json_text("json", "caption", value)
                    .and_then(caption_of)
                    .map(Some),
            },
        }
    }

    /// The caption in the member that the user named.
    fn text_of(
        &self,
        CaptionMember { suffix, field }: &CaptionMember,
    ) -> Result<Option<String>, String> {
        let Some((_, bytes)) = self.members.get(suffix) else {
            return Ok(None);
        };
        let Some(field) = field else {
            return utf8(suffix, bytes).and_then(caption_of).map(Some);
        };
        let fields = json::read_object(bytes)
            .map_err(|reason| format!("its .{} {reason}", escaped(suffix)))?;
        match fields.get(field) {
            Some(value) => json_text(suffix, field, value)
                .and_then(caption_of)
                .map(Some),
            None => Err(format!(
                "its .{} has no `{}`{}",
                escaped(suffix),
                field.escape_debug(),
                json::only(&fields)
            )),
        }
    }
}

/// A suffix as messages have it.
pub(super) fn escaped(suffix: &str) -> std::str::EscapeDefault<'_> {
    suffix.escape_default()
}

fn utf8<'b>(suffix: &str, bytes: &'b [u8]) -> Result<&'b str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("its .{} is not UTF-8", escaped(suffix)))
}

fn json_text<'v>(suffix: &str, field: &str, value: &'v Value) -> Result<&'v str, String> {
    let what = match value {
        Value::String(text) => return Ok(text),
        Value::Null => "null",
        _ => "no string",
    };
    let (field, suffix) = (field.escape_debug(), escaped(suffix));
    Err(format!("the `{field}` in its .{suffix} is {what}"))
}

fn caption_of(text: &str) -> Result<String, String> {
    match crate::captions::trim(text) {
        "" => Err("its caption is empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}
