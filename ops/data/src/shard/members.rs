//! Which members of a sample hold its image and its caption.

use super::{IMAGE_SUFFIXES, group};

/// What a user says of the members. The default is what webdataset and img2dataset write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// The suffix of the image, without a dot in front; of one of the known formats by default.
    pub(super) image: Option<String>,
    /// `txt` by default, else the field `caption` of `json`.
    pub(super) caption: Option<CaptionMember>,
}

/// A member with the caption, and the field that holds it if it is JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CaptionMember {
    pub(super) suffix: String,
    pub(super) field: Option<String>,
}

impl Members {
    /// `image` is a suffix, such as `jpg`; `caption` is one as well, or one that ends in `json`
    /// with a field: `json.FIELD`.
    ///
    /// # Errors
    /// Why they are none, as the end of a sentence: `is …`, `names …`.
    pub fn new(image: Option<&str>, caption: Option<&str>) -> Result<Self, (&'static str, String)> {
        let image = image.map(suffix).transpose();
        let caption = caption.map(CaptionMember::new).transpose();
        Ok(Self {
            image: image.map_err(|reason| ("image", reason))?,
            caption: caption.map_err(|reason| ("caption", reason))?,
        })
    }

    /// What to read of a member with this suffix.
    pub(super) fn kind(&self, suffix: &str) -> MemberKind {
        let is_image = match &self.image {
            Some(image) => image == suffix,
            None => IMAGE_SUFFIXES.contains(&suffix),
        };
        let is_text = match &self.caption {
            // A `.json` that this program wrote says where its caption is from.
            Some(caption) => caption.suffix == suffix || suffix == "json",
            None => suffix == "txt" || suffix == "json",
        };
        match (is_image, is_text) {
            (_, true) => MemberKind::Text,
            (true, false) => MemberKind::Image,
            (false, false) => MemberKind::Unused,
        }
    }

    /// The suffixes that an image may have.
    pub(super) fn image_suffixes(&self) -> Vec<&str> {
        match &self.image {
            Some(image) => vec![image],
            None => IMAGE_SUFFIXES.to_vec(),
        }
    }

    /// Why a sample without any of its images is none; the end is what it has.
    pub(super) fn no_image(&self, suffixes: &str) -> String {
        match &self.image {
            Some(image) => format!("it has no .{}, only {suffixes}", group::escaped(image)),
            None => format!("it has no image, only {suffixes}"),
        }
    }

    /// The same of one without a member that its caption could be in.
    pub(super) fn no_caption(&self, suffixes: &str) -> String {
        match &self.caption {
            Some(CaptionMember { suffix, .. }) => {
                format!("it has no .{}, only {suffixes}", group::escaped(suffix))
            }
            None => format!("it has neither a .txt nor a `caption` in a .json, only {suffixes}"),
        }
    }
}

/// What a member is read as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MemberKind {
    Image,
    Text,
    Unused,
}

impl CaptionMember {
    fn new(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('.');
        let lower = text.to_lowercase();
        // The field follows the first part that is `json`, and may have dots of its own.
        let end = if lower.starts_with("json.") {
            Some("json".len())
        } else {
            lower.find(".json.").map(|at| at + ".json".len())
        };
        let Some(end) = end.filter(|end| text.is_char_boundary(*end)) else {
            let suffix = suffix(text)?;
            if suffix == "json" || suffix.ends_with(".json") {
                return Err(format!(
                    "names no field of the JSON: write `{}.FIELD`",
                    group::escaped(text)
                ));
            }
            return Ok(Self {
                suffix,
                field: None,
            });
        };
        let (json, field) = text.split_at(end);
        let field = field.trim_start_matches('.');
        if field.is_empty() {
            return Err("names no field of the JSON: write `json.FIELD`".to_owned());
        }
        Ok(Self {
            suffix: suffix(json)?,
            field: Some(field.to_owned()),
        })
    }
}

/// A suffix as names of members have it here.
fn suffix(text: &str) -> Result<String, String> {
    match text.trim_start_matches('.') {
        "" => Err("is empty, not a suffix such as `jpg`".to_owned()),
        suffix if suffix.contains('/') => Err("is a path, not a suffix such as `jpg`".to_owned()),
        suffix => Ok(suffix.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_suffixes_and_fields() {
        let caption = |text: &str| {
            let members = Members::new(None, Some(text)).map_err(|(_, reason)| reason)?;
            let CaptionMember { suffix, field } = members.caption.unwrap();
            Ok::<_, String>((suffix, field.unwrap_or_default()))
        };
        let place = |suffix: &str, field: &str| Ok((suffix.to_owned(), field.to_owned()));
        assert_eq!(caption("txt"), place("txt", ""));
        assert_eq!(caption(".Alt.TXT"), place("alt.txt", ""));
        assert_eq!(caption("json.Alt"), place("json", "Alt"));
        assert_eq!(caption("syn.json.a.b"), place("syn.json", "a.b"));
        assert_eq!(caption("jsonl"), place("jsonl", ""));
        let no_field = "names no field of the JSON: write `json.FIELD`";
        assert_eq!(caption("json"), Err(no_field.to_owned()));
        assert_eq!(caption("json."), Err(no_field.to_owned()));
        assert_eq!(
            Members::new(Some("."), None).unwrap_err(),
            ("image", "is empty, not a suffix such as `jpg`".to_owned())
        );
        assert_eq!(
            Members::new(Some("images/a.jpg"), None).unwrap_err(),
            ("image", "is a path, not a suffix such as `jpg`".to_owned())
        );
        let members = Members::new(Some(".Input.JPG"), None).unwrap();
        assert_eq!(members.kind("input.jpg"), MemberKind::Image);
        assert_eq!(members.kind("jpg"), MemberKind::Unused);
        assert_eq!(members.kind("txt"), MemberKind::Text);
    }
}
