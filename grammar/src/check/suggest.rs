//! The name that was probably meant.

/// The known name nearest to `name`, if one is near enough: about a third of its characters may
/// differ, swaps counting once.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let name: Vec<char> = name.chars().take(64).collect();
    let limit = ((name.len() + 1) / 3).min(4);
    let near = known.filter(|other| other.chars().count().abs_diff(name.len()) <= limit);
    let ranked = near.map(|other| (distance(&name, other), other));
    ranked
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, other)| other)
}

/// Edits that turn one text into the other: insert, remove, replace, swap neighbours.
fn distance(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    // By length of the right side: the costs for what is left of the current character, of the one
    // before, and so on.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let cost = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
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
