//! Braces in file patterns, as in webdataset and in shells: `{a,b}`, `{00000..00009}`.

/// The most names that a pattern stands for.
const NAMES_MAX: usize = 1_000_000;

/// The patterns that a pattern with braces stands for; `None` when they are too many. Braces
/// without a comma or a range between them stand for themselves, as do those in `[…]`.
pub(crate) fn expand(pattern: &str) -> Option<Vec<String>> {
    let Some((start, end, alternatives)) = first_group(pattern)? else {
        return Some(vec![pattern.to_owned()]);
    };
    let (before, after) = (pattern.get(..start)?, pattern.get(end..)?);
    let rests = expand(after)?;
    let mut names = Vec::new();
    for alternative in alternatives {
        for middle in expand(&alternative)? {
            for rest in &rests {
                if names.len() == NAMES_MAX {
                    return None;
                }
                names.push(format!("{before}{middle}{rest}"));
            }
        }
    }
    Some(names)
}

/// The bytes of the first group of alternatives, from its brace to after the other one.
type Group = (usize, usize, Vec<String>);

/// `None` when there are too many alternatives.
fn first_group(pattern: &str) -> Option<Option<Group>> {
    let mut in_class = false;
    for (start, c) in pattern.char_indices() {
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            '{' if !in_class => {
                if let Some((end, content)) = content(pattern, start)
                    && let Some(alternatives) = alternatives(content)
                {
                    let fits = alternatives.len() <= NAMES_MAX;
                    return fits.then_some(Some((start, end, alternatives)));
                }
            }
            _ => {}
        }
    }
    Some(None)
}

/// What is between the brace at `start` and its partner, and where the partner ends.
fn content(pattern: &str, start: usize) -> Option<(usize, &str)> {
    let mut depth = 0_u32;
    for (at, c) in pattern.get(start..)?.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((start + at + 1, pattern.get(start + 1..start + at)?));
        }
    }
    None
}

fn alternatives(content: &str) -> Option<Vec<String>> {
    if let Some((first, last)) = content.split_once("..") {
        return range(first, last);
    }
    let mut parts = vec![String::new()];
    let mut depth = 0_u32;
    for c in content.chars() {
        match c {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        parts.last_mut()?.push(c);
    }
    (parts.len() > 1).then_some(parts)
}

/// The numbers of a range, as wide as the wider end if one is padded with zeros. One more than
/// [`NAMES_MAX`] stand for all that are too many.
fn range(first: &str, last: &str) -> Option<Vec<String>> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    let is_padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let width = if is_padded(first) || is_padded(last) {
        first.len().max(last.len())
    } else {
        0
    };
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let name = |number: u64| format!("{number:0width$}");
    Some(if first <= last {
        (first..=last).take(NAMES_MAX + 1).map(name).collect()
    } else {
        (last..=first).rev().take(NAMES_MAX + 1).map(name).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_expanded_as_in_webdataset() {
        let names = |pattern: &str| expand(pattern).unwrap();
        assert_eq!(names("a.tar"), ["a.tar"]);
        assert_eq!(names("{008..011}"), ["008", "009", "010", "011"]);
        assert_eq!(names("x{9..11}.tar"), ["x9.tar", "x10.tar", "x11.tar"]);
        assert_eq!(names("{2..1}"), ["2", "1"]);
        assert_eq!(names("{a,b}/{1..2}*"), ["a/1*", "a/2*", "b/1*", "b/2*"]);
        assert_eq!(names("{a,{b,c}d}"), ["a", "bd", "cd"]);
        for literal in ["{a}", "{", "}", "{a..b", "[{]a,b}", "{x..y}"] {
            assert_eq!(names(literal), [literal]);
        }
        assert_eq!(expand("{0..1000000}"), None);
        assert_eq!(expand("{0..999}{0..999}{0..999}"), None);
    }
}
