//! The name that was probably meant.

/// The known name nearest to `name`, if one is near enough: a third of its characters may differ, swaps counting once.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let limit = name.chars().count().div_ceil(3).min(4);
    let ranked = known.map(|other| (distance(name, other), other));
    ranked.filter(|(distance, _)| *distance <= limit).min().map(|(_, other)| other)
}

/// Edits that turn one text into the other: insert, remove, replace, swap neighbours.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().take(64).collect(), right.chars().take(64).collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let at = |back: usize, j: usize| {
                rows.get(rows.len() - back).and_then(|row| row.get(j)).copied().unwrap_or(usize::MAX / 2)
            };
            let mut best = (at(1, j) + usize::from(l != r))
                .min(at(1, j + 1) + 1)
                .min(row.get(j).map_or(usize::MAX / 2, |n| n + 1));
            let swapped = i > 0 && j > 0 && left.get(i - 1) == Some(r) && right.get(j - 1) == Some(l);
            if swapped {
                best = best.min(at(2, j - 1) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(0)
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
    }
}
