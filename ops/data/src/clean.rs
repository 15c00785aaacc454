//! Caption cleaning as BLIP does it (salesforce/BLIP data/utils.py `pre_caption`).

/// Words kept of a caption, as in the official code.
pub const WORDS_MAX: usize = 30;

/// Lower case; each of `. ! " ( ) * # : ; ~` becomes a space; runs of white space become one space; the first `words_max`
/// words are kept.
pub fn caption(text: &str, words_max: usize) -> String {
    let spaced: String = text.to_lowercase().chars().map(|c| if ".!\"()*#:;~".contains(c) { ' ' } else { c }).collect();
    spaced.split_whitespace().take(words_max).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_the_official_code() {
        assert_eq!(caption("  A Dog;  (running)\n on the \"beach\"!! ", WORDS_MAX), "a dog running on the beach");
        assert_eq!(caption("it's a cat-like, thing", 3), "it's a cat-like,");
        assert_eq!(caption("...!!!", WORDS_MAX), "");
    }
}
