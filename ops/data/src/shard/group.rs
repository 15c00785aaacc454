//! The members of one key, and the sample that they form.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{IMAGE_SUFFIXES, RawSample};
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

    pub(super) fn has_image(&self) -> bool {
        IMAGE_SUFFIXES
            .iter()
            .any(|suffix| self.members.contains_key(*suffix))
    }

    /// As in `.jpg, .txt`.
    pub(super) fn suffixes(&self) -> String {
        let suffixes: Vec<String> = self
            .members
            .keys()
            .map(|suffix| format!(".{}", suffix.escape_default()))
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
    pub(super) fn form(mut self) -> (Formed, bool) {
        if let Some(reason) = self.rejected {
            return (Formed::Rejected(reason), false);
        }
        let images: Vec<&str> = IMAGE_SUFFIXES
            .into_iter()
            .filter(|suffix| self.members.contains_key(*suffix))
            .collect();
        let suffix = match images.as_slice() {
            [suffix] => *suffix,
            [] => {
                let reason = format!("it has no image, only {}", self.suffixes());
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
        let text = match self.text(json.as_ref(), json_fault.as_deref()) {
            Ok(Some(text)) => text,
            Ok(None) => {
                let reason = format!(
                    "it has neither a .txt nor a `caption` in a .json, only {}",
                    self.suffixes()
                );
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
        (Formed::Sample(sample), json_fault.is_some())
    }

    /// The caption; `None` when there is no member that it could be in.
    fn text(
        &self,
        json: Option<&Value>,
        json_fault: Option<&str>,
    ) -> Result<Option<String>, String> {
        if let Some(fault) = json_fault {
            let is_ours = self.members.get("json").is_some_and(|(_, bytes)| {
                bytes
                    .windows(OWN_FORMAT.len())
                    .any(|part| part == OWN_FORMAT)
            });
            // Without the .json, a caption that a model wrote would pass for one from the web.
            if is_ours || !self.members.contains_key("txt") {
                return Err(fault.to_owned());
            }
        }
        let text = match self.members.get("txt") {
            Some((_, bytes)) => {
                std::str::from_utf8(bytes).map_err(|_| "its .txt is not UTF-8".to_owned())?
            }
            None => match json.and_then(|json| json.get("caption")) {
                None => return Ok(None),
                Some(Value::String(text)) => text,
                Some(Value::Null) => return Err("the `caption` in its .json is null".to_owned()),
                Some(_) => return Err("the `caption` in its .json is no string".to_owned()),
            },
        };
        match crate::captions::trim(text) {
            "" => Err("its caption is empty".to_owned()),
            text => Ok(Some(text.to_owned())),
        }
    }
}
