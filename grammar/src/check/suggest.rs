//! Finds the known name that was probably meant by a misspelt one.

/// Of longer names only so many characters are compared: time is quadratic in their length.
const COMPARED_MAX: usize = 64;

/// The known name nearest to `name`, if one is near enough: at most a third of the characters, and
/// at most four, may differ. The first in alphabetical order of those equally near.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let name: Vec<char> = name.chars().take(COMPARED_MAX).collect();
    let limit = ((name.len() + 1) / 3).min(4);
    let similar_length = known.filter(|other| other.chars().count().abs_diff(name.len()) <= limit);
    let ranked = similar_length.map(|other| (distance(&name, other), other));
    let near = ranked.filter(|(distance, _)| *distance <= limit);
    let (_, nearest) = near.min()?;
    Some(nearest)
}

/// The Damerau-Levenshtein distance (optimal string alignment): how many insertions, deletions,
/// substitutions and swaps of neighbours turn one text into the other.
fn distance(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.chars().take(COMPARED_MAX).collect();
    // Rows of the table of costs: column `j` is for the first `j` characters of `right`; `row` is
    // for the characters of `left` before the current one, `before` for one less, as swaps need.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let replaced = cost(&row, j) + usize::from(l != r);
            let mut best = replaced.min(cost(&row, j + 1) + 1).min(cost(&next, j) + 1);
            if i > 0 && j > 0 && left.get(i - 1) == Some(r) && right.get(j - 1) == Some(l) {
                best = best.min(cost(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    cost(&row, right.len())
}

/// An entry of a row; far more than any other cost outside of it.
fn cost(row: &[usize], at: usize) -> usize {
    row.get(at).copied().unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["captioner", "caption", "merge"];
        assert_eq!(nearest("captionr", known.into_iter()), Some("caption"));
        assert_eq!(nearest("captioneer", known.into_iter()), Some("captioner"));
        assert_eq!(nearest("megre", known.into_iter()), Some("merge"));
        assert_eq!(nearest("filter", known.into_iter()), None);
        assert_eq!(nearest("x", ["a", "b"].into_iter()), None);
        assert_eq!(nearest("ba", ["ab"].into_iter()), Some("ab"));
    }
}
