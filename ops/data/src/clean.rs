//! Caption cleaning as BLIP does it (salesforce/BLIP data/utils.py `pre_caption`).

/// The number of words that the official code keeps.
pub const WORDS_MAX: usize = 30;

/// Cleans a caption: to lower case; each of `. ! " ( ) * # : ; ~` to a space; runs of two or more
/// white spaces to one space; trimmed; at most `words_max` words.
///
/// ```
/// let cleaned = blip_data::clean::caption("A DOG (small)  runs!", 30);
/// assert_eq!(cleaned, "a dog small runs");
/// ```
///
/// As in the official code, a single tab or other white space inside the text is kept and does not
/// separate words. The tokenizer treats it as a space.
pub fn caption(text: &str, words_max: usize) -> String {
    let lower_case = text.to_lowercase();
    let spaced: String = lower_case
        .chars()
        .map(|c| if ".!\"()*#:;~".contains(c) { ' ' } else { c })
        .collect();
    let collapsed = collapse_spaces(&spaced);
    let trimmed = collapsed.trim_end_matches('\n').trim_matches(' ');
    let words: Vec<&str> = trimmed.split(' ').take(words_max).collect();
    words.join(" ")
}

fn collapse_spaces(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let mut run = 1;
        while is_space(character) && characters.next_if(|next| is_space(*next)).is_some() {
            run += 1;
        }
        collapsed.push(if run > 1 { ' ' } else { character });
    }
    collapsed
}

/// `\s` of Python's regular expressions, which includes the separators 0x1c to 0x1f.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_cleaned_like_in_the_official_code() {
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
