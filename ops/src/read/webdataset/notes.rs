//! What a user should know of shards that were read.

use super::shard_reader::ShardContent;

/// How many there were of something, and the name of the first.
#[derive(Default)]
pub(super) struct Counted {
    count: u64,
    first: Option<String>,
}

impl Counted {
    pub(super) fn add(&mut self, count: u64, name: Option<&str>) {
        self.count += count;
        if self.first.is_none() && count > 0 {
            self.first = name.map(ToOwned::to_owned);
        }
    }

    /// As in `3 files (the first: README.md)`; `None` when there were none.
    fn line(&self, what: &str, rest: &str) -> Option<String> {
        let first = self.first.as_deref().unwrap_or_default().escape_debug();
        (self.count > 0).then(|| format!("{} {what} (the first: {first}) {rest}", self.count))
    }
}

#[derive(Default)]
pub(super) struct Notes {
    pub(super) same_shards: usize,
    pub(super) same_images: usize,
    pub(super) skipped_files: Counted,
    skipped_members: Counted,
    several_archives: Counted,
    unreadable_json: Counted,
    repeated_keys: Counted,
}

impl Notes {
    pub(super) fn add_shard(&mut self, name: &str, content: &ShardContent) {
        let member = content.skipped_first.as_deref().unwrap_or_default();
        let member = format!("{name}: {member}");
        self.skipped_members.add(content.skipped, Some(&member));
        self.several_archives
            .add(u64::from(content.further_archives > 0), Some(name));
        self.unreadable_json
            .add(content.unreadable_json, Some(name));
        self.repeated_keys.add(content.repeated_keys, Some(name));
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.same_shards > 0 {
            lines.push(format!(
                "{} duplicate shards were read once",
                self.same_shards
            ));
        }
        if self.same_images > 0 {
            lines.push(format!(
                "{} samples have the image of another sample: their texts were merged",
                self.same_images
            ));
        }
        lines.extend(self.skipped_files.line("files", "are no shards: skipped"));
        lines.extend(
            self.skipped_members
                .line("members", "are no samples: skipped"),
        );
        let several = "are several tar files in one: all were read";
        lines.extend(self.several_archives.line("shards", several));
        let json = "have a .json that cannot be read: their .txt was used";
        lines.extend(self.unreadable_json.line("samples", json));
        let keys = "have the key of an earlier sample of their shard: all were read";
        lines.extend(self.repeated_keys.line("samples", keys));
        lines
    }
}
