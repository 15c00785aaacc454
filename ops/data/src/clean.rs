//! Caption cleaning as BLIP does it (salesforce/BLIP data/utils.py `pre_caption`).

/// Words kept of a caption, as in the official code.
pub const WORDS_MAX: usize = 30;

/// Lower case; each of `. ! " ( ) * # : ; ~` becomes a space; runs of two and more white spaces
/// become one space; spaces and line ends go at the edges; the first `words_max` words are kept.
///
/// A single tab or other white space inside the text stays and does not divide words, as in the
/// official code. The tokenizer takes it for a space.
pub fn caption(text: &str, words_max: usize) -> String {
    let spaced = text
        .to_lowercase()
        .chars()
        .map(|c| if ".!\"()*#:;~".contains(c) { ' ' } else { c })
        .collect::<String>();
    let joined = join_spaces(&spaced);
    let trimmed = joined.trim_end_matches('\n').trim_matches(' ');
    trimmed
        .split(' ')
        .take(words_max)
        .collect::<Vec<_>>()
        .join(" ")
}

fn join_spaces(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut run = 1;
        while is_space(character) && characters.next_if(|next| is_space(*next)).is_some() {
            run += 1;
        }
        joined.push(if run > 1 { ' ' } else { character });
    }
    joined
}

/// White space as Python's regular expressions know it: the separators 0x1c to 0x1f are among it.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_as_the_official_code() {
        assert_eq!(
            caption("  A Dog;  (running)\n on the \"beach\"!! ", WORDS_MAX),
            "a dog running on the beach"
        );
        assert_eq!(caption("it's a cat-like, thing", 3), "it's a cat-like,");
        assert_eq!(caption("...!!!", WORDS_MAX), "");
        assert_eq!(
            caption("one\ttwo\u{1c}\tthree\n", WORDS_MAX),
            "one\ttwo three"
        );
    }
}
