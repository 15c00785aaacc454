//! The paths of images in a list: where they may lead, and how else they may be written on disk.

use unicode_normalization::UnicodeNormalization;

/// The path without `.` and `..`, or why it is no path to an image. An absolute path is one, since
/// lists such as BLIP's have them; a list of the images' folder may not lead out of it by `..`.
pub(super) fn normalize(path: &str) -> Result<String, &'static str> {
    const LEADS_OUT: &str = "its path leads out of the folder of images";
    if path.is_empty() {
        return Err("its path is empty");
    }
    if path.contains('\0') {
        return Err("its path has a NUL character");
    }
    if ["http://", "https://", "s3://", "gs://"]
        .iter()
        .any(|scheme| path.starts_with(scheme))
    {
        return Err("its image is a URL: fetch it, for example with img2dataset");
    }
    // A part such as `..\x` is a name here, and leads out elsewhere: see `spellings`.
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or(LEADS_OUT)?),
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    Ok(format!("{root}{}", parts.join("/")))
}

/// How a file of this path may be named on disk, the most likely one first: as it is written, with
/// `/` for the `\` of Windows, and with accents as one character or, as on macOS, as two.
pub fn spellings(path: &str) -> Vec<String> {
    let mut spellings = vec![path.to_owned()];
    if path.contains('\\')
        && let Ok(path) = normalize(&path.replace('\\', "/"))
    {
        spellings.push(path);
    }
    for path in spellings.clone() {
        for other in [path.nfc().collect(), path.nfd().collect()] {
            if !spellings.contains(&other) {
                spellings.push(other);
            }
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalized_or_refused() {
        let path = |path: &str| normalize(path);
        assert_eq!(path("./a//b/../c.jpg").unwrap(), "a/c.jpg");
        assert_eq!(path("/data/a.jpg").unwrap(), "/data/a.jpg");
        for leading_out in ["../a.jpg", "a/../../a.jpg"] {
            let reason = path(leading_out).unwrap_err();
            assert_eq!(reason, "its path leads out of the folder of images");
        }
        assert!(path("https://example.org/a.jpg").is_err());
        assert!(path("").is_err() && path("a\0.jpg").is_err());
    }

    #[test]
    fn other_spellings_stay_in_the_folder() {
        assert_eq!(spellings("a.jpg"), ["a.jpg"]);
        assert_eq!(spellings("x\\a.jpg"), ["x\\a.jpg", "x/a.jpg"]);
        assert_eq!(spellings("..\\a.jpg"), ["..\\a.jpg"]);
        assert_eq!(spellings("\u{e9}.jpg"), ["\u{e9}.jpg", "e\u{301}.jpg"]);
        assert_eq!(spellings("e\u{301}.jpg"), ["e\u{301}.jpg", "\u{e9}.jpg"]);
    }
}
