//! The journal: one line for how the output was begun, then one for each committed group of mini-batches.
//!
//! A line is the CRC-32 of the rest in hexadecimal, a space, and JSON. The first line that does not check, or does not
//! follow from the one before, ends the journal: it was being written when the machine stopped, and what it speaks of
//! is done again.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::OutputError;
use super::format::{Format, Schema};

/// The longest line: a schema's names (1 MiB, six bytes each when escaped) and the rest.
const MAX_LINE: u64 = 8 << 20;
/// Raised when a journal of before cannot be continued.
pub(super) const VERSION: u32 = 2;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) version: u32,
    pub(super) format: Format,
    pub(super) file_name: String,
    pub(super) keep_rows: bool,
    /// CRC-32 of the files `plan` and `header.json`.
    pub(super) plan: u32,
    pub(super) header: u32,
}

/// What of the first line is asked before the rest, which another version may write otherwise.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// How long each part is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lengths {
    pub(super) predictions: u64,
    pub(super) errors: u64,
    pub(super) mini_batches: u64,
}

/// What has been committed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Mini-batches.
    pub mini_batches: u64,
    /// Their files.
    pub files: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Rows, kept or dropped.
    pub rows: u64,
    /// Attempts.
    pub attempts: u64,
}

/// The line of one group of mini-batches; all but `first` is cumulative. One line, so that a group is committed whole or
/// not at all: the schema is known after the group, and not after each of its mini-batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The first mini-batch of the group, and the one after its last.
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) lengths: Lengths,
    pub(super) counts: Counts,
    /// Where the format holds all to one schema, and accepting the group's rows has settled or changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<Schema>,
}

/// What a journal says.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) start: Start,
    /// The last group that is committed.
    pub(super) last: Option<Record>,
    /// As the last line that has one says.
    pub(super) schema: Option<Schema>,
    /// How many bytes of the journal are true.
    pub(super) len: u64,
}

/// Appends one line.
pub(super) fn write_line(value: &impl Serialize, out: &mut Vec<u8>) {
    let json = serde_json::to_vec(value).expect("records are plain structs; this is a bug");
    out.extend_from_slice(format!("{:08x} ", crc32fast::hash(&json)).as_bytes());
    out.extend_from_slice(&json);
    out.push(b'\n');
}

fn read_line<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let (crc, json) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc.strip_suffix(b" ")?).ok()?, 16).ok()?;
    if crc32fast::hash(json) == crc { serde_json::from_slice(json).ok() } else { None }
}

/// Reads the journal at `path`.
///
/// # Errors
/// If it cannot be read, another version wrote it, or its first line is not whole: that line was durable before the job
/// began.
pub(super) fn read(path: &Path) -> Result<Journal, OutputError> {
    let fail = |source| OutputError::from_io("read", path, source);
    let damaged = |reason: &str| OutputError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
    let mut file = BufReader::new(File::open(path).map_err(fail)?);
    let mut line = Vec::new();
    let mut next_line = |line: &mut Vec<u8>| {
        line.clear();
        (&mut file).take(MAX_LINE).read_until(b'\n', line).map_err(fail)
    };
    next_line(&mut line)?;
    let broken = || damaged("its first line does not check");
    let Version { version } = read_line(&line).ok_or_else(broken)?;
    if version != VERSION {
        return Err(OutputError::Version { path: path.to_owned(), version });
    }
    let start: Start = read_line(&line).ok_or_else(broken)?;
    let mut read = Journal { start, last: None, schema: None, len: line.len() as u64 };
    loop {
        next_line(&mut line)?;
        let Some(mut record) = read_line::<Record>(&line).filter(|record| follows(record, read.last.as_ref())) else {
            return Ok(read);
        };
        read.len += line.len() as u64;
        read.schema = record.schema.take().or(read.schema);
        read.last = Some(record);
    }
}

fn follows(record: &Record, last: Option<&Record>) -> bool {
    if record.first != last.map_or(0, |last| last.next) || record.next <= record.first {
        return false;
    }
    let Some(last) = last else { return true };
    let (now, before) = (&record.lengths, &last.lengths);
    now.predictions >= before.predictions && now.errors >= before.errors && now.mini_batches >= before.mini_batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_happens_to_the_tail_only_whole_lines_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut bytes = Vec::new();
        write_line(&start(), &mut bytes);
        let mut ends = vec![bytes.len()];
        for index in 0..4 {
            let lengths = Lengths { predictions: index * 10, errors: 5, mini_batches: index * 20 };
            let (first, next) = (index * 2, index * 2 + 2);
            write_line(&Record { first, next, lengths, counts: Counts::default(), schema: None }, &mut bytes);
            ends.push(bytes.len());
        }
        for len in ends[0]..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= len).count();
            for tail in [&b""[..], b"\0\0\0\0", b"00000000 {}\n"] {
                std::fs::write(&path, [&bytes[..len], tail].concat()).unwrap();
                let read = read(&path).unwrap();
                assert_eq!(read.len as usize, ends[whole - 1], "cut at {len}");
                assert_eq!(read.last.map_or(0, |r| r.next), (whole as u64 - 1) * 2, "cut at {len}");
            }
        }
        for position in ends[2]..bytes.len() {
            let mut garbled = bytes.clone();
            garbled[position] ^= 1;
            std::fs::write(&path, &garbled).unwrap();
            assert!(
                read(&path).unwrap().len as usize <= ends.iter().copied().filter(|e| *e <= position).max().unwrap()
            );
        }
        std::fs::write(&path, &bytes[..ends[0] - 1]).unwrap();
        assert!(matches!(read(&path), Err(OutputError::Damaged { .. })));
    }

    fn start() -> Start {
        Start { version: VERSION, format: Format::Csv, file_name: "p.csv".into(), keep_rows: true, plan: 1, header: 2 }
    }

    #[test]
    fn lines_that_do_not_follow_end_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let record = |first, next, length| {
            let lengths = Lengths { predictions: length, errors: length, mini_batches: length };
            Record { first, next, lengths, counts: Counts::default(), schema: None }
        };
        for (second, follows) in [
            (record(3, 4, 10), true),
            (record(3, u64::MAX, 11), true),
            (record(2, 4, 10), false),
            (record(4, 5, 10), false),
            (record(3, 3, 10), false),
            (record(3, 4, 9), false),
        ] {
            let mut bytes = Vec::new();
            write_line(&start(), &mut bytes);
            write_line(&record(0, 3, 10), &mut bytes);
            write_line(&second, &mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let expected = if follows { second.first } else { 0 };
            assert_eq!(read(&path).unwrap().last.unwrap().first, expected, "{second:?}");
        }
    }

    #[test]
    fn another_version_is_refused_by_name_whatever_else_its_line_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let earlier = serde_json::to_value(Start { version: 1, ..start() }).unwrap();
        for (line, expected) in [
            (earlier, Some(1)),
            (serde_json::json!({"version": 3, "shape": "unheard of"}), Some(3)),
            (serde_json::json!({"version": VERSION}), None),
        ] {
            let mut bytes = Vec::new();
            write_line(&line, &mut bytes);
            std::fs::write(&path, bytes).unwrap();
            let error = read(&path).unwrap_err();
            let given = if let OutputError::Version { version, .. } = error { Some(version) } else { None };
            assert_eq!(given, expected, "{error}");
        }
    }
}
