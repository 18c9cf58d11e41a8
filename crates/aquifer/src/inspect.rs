//! `aquifer inspect`: prints what is in a bucket, a write-ahead log or the metadata.
//!
//! Exit codes: 0 all of it could be read, 3 something is broken and it is said where, 1 there is no such
//! thing or the bucket does not answer.

use std::io;
use std::path::Path;

use bucket::Key;
use doctor::{InspectError, Inspected, RowWriter, Subject};
use partition_log::segment_key;
use vocabulary::SegmentName;

use crate::arguments::{InspectArguments, InspectWhat};
use crate::doctor::{FOUND, printed};
use crate::failure::Failure;
use crate::place::{self, Opened};

/// Hexadecimal digits of a data segment's id.
const ID_DIGITS: usize = 32;

/// Returns the exit code.
pub(crate) fn run(arguments: &InspectArguments) -> Result<u8, Failure> {
    if let InspectWhat::Segment { segment, batches } = &arguments.what
        && Path::new(segment).is_file()
    {
        return file(Path::new(segment), *batches, arguments.json);
    }
    let subject = subject(&arguments.what)?;
    let outcome = place::block_on(async {
        let opened = Opened::open(&arguments.place).await?;
        // Rows are printed as they are read; nothing else runs on this thread meanwhile.
        let mut out = io::BufWriter::new(io::stdout());
        let mut writer = RowWriter::new(&mut out, arguments.json);
        let inspected = Box::pin(doctor::inspect(&opened.place(), &subject, &mut writer)).await;
        let written = writer.finish();
        opened.close().await;
        Ok((inspected, written))
    })?;
    printed(outcome.1)?;
    exit_code(outcome.0)
}

fn file(path: &Path, with_batches: bool, is_json: bool) -> Result<u8, Failure> {
    let mut out = io::BufWriter::new(io::stdout());
    let mut writer = RowWriter::new(&mut out, is_json);
    let inspected = doctor::inspect_volume_file(path, with_batches, &mut writer);
    printed(writer.finish())?;
    exit_code(inspected)
}

fn exit_code(inspected: Result<Inspected, InspectError>) -> Result<u8, Failure> {
    match inspected {
        Ok(Inspected { is_broken: true }) => Ok(FOUND),
        Ok(Inspected { is_broken: false }) => Ok(0),
        Err(InspectError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(InspectError::Metadata(error)) => Err(place::unreadable(&error)),
        Err(error) => Err(Failure::open(error.to_string())),
    }
}

fn subject(what: &InspectWhat) -> Result<Subject, Failure> {
    Ok(match what {
        InspectWhat::Cluster => Subject::Cluster,
        InspectWhat::Topics => Subject::Topics,
        InspectWhat::Wal => Subject::Wal,
        InspectWhat::Partition { partition } => {
            let parts = partition.rsplit_once('-').filter(|it| !it.0.is_empty());
            let parsed = parts.and_then(|(topic, index)| Some((topic, index.parse().ok()?)));
            let (topic, index) = parsed.ok_or_else(|| {
                Failure::start(format!("{partition}: it must be TOPIC-INDEX, as in orders-0"))
            })?;
            Subject::Partition { topic: topic.to_owned(), index }
        }
        InspectWhat::Segment { segment, batches } => {
            let key = key(segment).ok_or_else(|| {
                Failure::start(format!("{segment}: neither a file, a key of the bucket nor an id"))
            })?;
            Subject::Segment { key, with_batches: *batches }
        }
        InspectWhat::Metadata { prefix } => {
            let bytes = prefix.as_deref().map_or(Some(Vec::new()), cluster::metadata_prefix);
            let prefix = bytes.ok_or_else(|| {
                Failure::start("a prefix is a kind's letter, as in r, and digits, as in r/0a1b")
            })?;
            Subject::Metadata { prefix }
        }
    })
}

/// A key, or the id of a data segment.
fn key(text: &str) -> Option<Key> {
    let is_id = text.len() == ID_DIGITS && text.bytes().all(|it| it.is_ascii_hexdigit());
    if is_id {
        let id = u128::from_str_radix(text, 16).ok()?;
        return Some(segment_key(SegmentName::data(id)));
    }
    Key::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_by_key_or_id() {
        let id = "ab000000000000000000000000000007";
        assert_eq!(key(id), Some(Key::new(format!("data/ab/{id}"))));
        assert_eq!(key("wal/1/2/3"), Some(Key::new("wal/1/2/3")));
        assert_eq!(key("../etc"), None);
    }

    #[test]
    fn a_partition_is_named_as_kafka_names_it() {
        let named = |text: &str| subject(&InspectWhat::Partition { partition: text.to_owned() });
        let expected = Subject::Partition { topic: "a-b".to_owned(), index: 12 };
        assert_eq!(named("a-b-12"), Ok(expected));
        assert!(named("a").is_err() && named("-1").is_err() && named("a-b").is_err());
    }
}
