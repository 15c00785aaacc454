//! The names of the shards of an export: `{shard:05}` is replaced by 00000, 00001, …

use blip_engine::OpError;

const PLACEHOLDER: &str = "{shard";
/// More digits than any number of shards has.
const DIGITS_MAX: usize = 12;

/// What stands before and after the number, and its digits. Without a number there is one shard.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct ShardNames {
    before: String,
    digits: Option<usize>,
    after: String,
}

impl ShardNames {
    pub(super) fn parse(name: &str) -> Result<Self, OpError> {
        Self::try_parse(name).ok_or_else(|| {
            OpError::failed(
                format!("`{name}` is not a valid name pattern for shards"),
                "write the shard number as `{shard:05}`, as in \"out/{shard:05}.tar\"",
            )
        })
    }

    fn try_parse(name: &str) -> Option<Self> {
        let Some((before, rest)) = name.split_once(PLACEHOLDER) else {
            return Some(Self {
                before: without_braces(name)?,
                digits: None,
                after: String::new(),
            });
        };
        let (format, after) = rest.split_once('}')?;
        Some(Self {
            before: without_braces(before)?,
            digits: Some(parse_digits(format)?),
            after: without_braces(after)?,
        })
    }

    pub(super) fn are_numbered(&self) -> bool {
        self.digits.is_some()
    }

    pub(super) fn name(&self, number: u64) -> String {
        match self.digits {
            Some(digits) => format!("{}{number:0digits$}{}", self.before, self.after),
            None => self.before.clone(),
        }
    }
}

fn without_braces(text: &str) -> Option<String> {
    (!text.contains(['{', '}'])).then(|| text.to_owned())
}

/// Nothing or `:05`, as in Python's format strings.
fn parse_digits(format: &str) -> Option<usize> {
    if format.is_empty() {
        return Some(1);
    }
    let digits = format.strip_prefix(":0")?.parse().ok()?;
    (1..=DIGITS_MAX).contains(&digits).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(pattern: &str, number: u64) -> Result<String, String> {
        ShardNames::parse(pattern)
            .map(|names| names.name(number))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn shards_are_numbered_as_the_pattern_says() {
        assert_eq!(name("{shard:05}.tar", 7), Ok("00007.tar".to_owned()));
        assert_eq!(name("web-{shard}.tar", 12), Ok("web-12.tar".to_owned()));
        assert_eq!(name("web.tar", 0), Ok("web.tar".to_owned()));
    }

    #[test]
    fn other_braces_are_refused() {
        for pattern in [
            "{shard:5}.tar",
            "{n}.tar",
            "{shard:05.tar",
            "{shard}{shard}.tar",
            "a}.tar",
            "{shard:099}.tar",
        ] {
            assert_eq!(
                name(pattern, 0),
                Err(format!(
                    "`{pattern}` is not a valid name pattern for shards"
                ))
            );
        }
    }
}
