//! Reads one shard: this thread parses the tar, others decode the images.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blip_data::decode::decode;
use blip_data::shard::{self, Members, RawSample, RejectedSample, ShardNotes};
use blip_data::{Caption, TextSource};
use blip_engine::{Digest, InputFile, OpError, StageCtx};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ordered_pool::{OrderedPool, cores};
use crate::row::{self, Row};

/// Images in flight between parsing and decoding hold at most this many bytes together. A single
/// image may be larger.
const IN_FLIGHT_BYTES_MAX: usize = 128 << 20;
/// And are at most this many.
const IN_FLIGHT_MAX: usize = 1024;

/// The content of a shard, as it is cached. Without the shard's name, which may change while the
/// content stays.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct ShardContent {
    pub(super) samples: Vec<ShardSample>,
    /// Keys and reasons of the samples that cannot be used.
    #[serde(rename = "faults")]
    pub(super) rejected: Vec<(String, String)>,
    /// Why the shard itself is at fault.
    pub(super) shard_faults: Vec<String>,
    // What `ShardNotes` has.
    pub(super) skipped: u64,
    pub(super) skipped_first: Option<String>,
    pub(super) further_archives: u64,
    pub(super) unreadable_json: u64,
    pub(super) repeated_keys: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ShardSample {
    pub(super) image: Digest,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) text: Caption,
    pub(super) truth: Option<Value>,
}

/// `progress` is called with the offset reached.
pub(super) fn read_shard(
    ctx: &StageCtx,
    file: &InputFile,
    members: &Members,
    source: TextSource,
    progress: &mut dyn FnMut(u64),
) -> Result<ShardContent, OpError> {
    let mut decoding = Decoding {
        pool: OrderedPool::new(cores(), move |sample: RawSample| Ok(check(sample, source)))?,
        in_flight: VecDeque::new(),
        keys: Vec::new(),
        content: ShardContent::default(),
    };
    let mut unparsed = Vec::new();
    let mut bytes = file.open()?;
    let read = shard::read_members(&mut bytes, members, |sample| {
        ctx.check_interrupted()?;
        match sample {
            Ok(sample) => {
                progress(sample.offset);
                decoding.push(sample)
            }
            Err(rejected) => {
                unparsed.push(rejected);
                Ok(())
            }
        }
    });
    // The outer error is the file's, the inner one comes from the closure.
    let notes = read.map_err(|error| {
        let what = format!("could not read {}: {error}", file.path.display());
        OpError::failed(what, "check the file and the disk it is on")
    })??;
    // The content is cached under the file's digest, so it must come from exactly those bytes:
    // a shard that was replaced or short for a moment would be wrong for good.
    bytes.finish()?;
    decoding.drain(ctx)?;
    Ok(decoding.into_content(unparsed, notes))
}

/// The samples of a shard that are being decoded, and those that are done.
struct Decoding {
    pool: OrderedPool<RawSample, Checked>,
    /// The bytes of each image in flight, oldest first.
    in_flight: VecDeque<usize>,
    /// The key of each sample of the content.
    keys: Vec<String>,
    content: ShardContent,
}

impl Decoding {
    /// Takes a sample; waits while too much is in flight.
    fn push(&mut self, sample: RawSample) -> Result<(), OpError> {
        let bytes = sample.image.len();
        while !self.in_flight.is_empty()
            && self.in_flight.iter().sum::<usize>() + bytes > IN_FLIGHT_BYTES_MAX
        {
            self.pop()?;
        }
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            self.pop()?;
        }
        self.in_flight.push_back(bytes);
        self.pool.push(sample);
        Ok(())
    }

    fn pop(&mut self) -> Result<(), OpError> {
        self.in_flight.pop_front();
        match self.pool.pop().transpose()? {
            Some(Ok((key, sample))) => {
                self.keys.push(key);
                self.content.samples.push(sample);
            }
            Some(Err(rejected)) => self.content.rejected.push(rejected),
            None => {}
        }
        Ok(())
    }

    fn drain(&mut self, ctx: &StageCtx) -> Result<(), OpError> {
        while self.pool.in_flight() > 0 {
            ctx.check_interrupted()?;
            self.pop()?;
        }
        Ok(())
    }

    /// The content, with what could not be read of the shard.
    fn into_content(self, unparsed: Vec<RejectedSample>, notes: ShardNotes) -> ShardContent {
        let mut content = self.content;
        let mut retracted = BTreeSet::new();
        for rejected in unparsed {
            if rejected.key.is_empty() {
                content.shard_faults.push(rejected.reason);
                continue;
            }
            if rejected.retracts {
                retracted.insert(rejected.key.clone());
            }
            content.rejected.push((rejected.key, rejected.reason));
        }
        if !retracted.is_empty() {
            let mut keys = self.keys.iter();
            content
                .samples
                .retain(|_| keys.next().is_none_or(|key| !retracted.contains(key)));
        }
        let ShardNotes {
            skipped,
            skipped_first,
            further_archives,
            unreadable_json,
            repeated_keys,
        } = notes;
        ShardContent {
            skipped,
            skipped_first,
            further_archives,
            unreadable_json,
            repeated_keys,
            ..content
        }
    }
}

/// The key of a sample, and it if it can be used, or why it cannot.
type Checked = Result<(String, ShardSample), (String, String)>;

fn check(sample: RawSample, source: TextSource) -> Checked {
    let RawSample {
        key,
        offset,
        image,
        text,
        json,
    } = sample;
    if let Err(error) = decode(&image) {
        return Err((key, format!("its image is {error}")));
    }
    let row = match json.as_ref().and_then(Row::recognize).transpose() {
        Ok(row) => row,
        Err(reason) => return Err((key, reason)),
    };
    // A row has the provenance of its own caption. When the `.txt` was edited since, that
    // provenance does not hold for the new text; the ground truth of the image still does.
    let with_meta = |text| Caption {
        meta: json.as_ref().map_or(BTreeMap::new(), row::meta),
        ..Caption::new(text, source, key.clone())
    };
    let (text, truth) = match row {
        Some(row) if row.caption == text => row.into_caption(),
        Some(row) => (with_meta(text), row.truth),
        None => (with_meta(text), None),
    };
    let sample = ShardSample {
        image: Digest::of(&image),
        offset,
        len: image.len() as u64,
        text,
        truth,
    };
    Ok((key, sample))
}
