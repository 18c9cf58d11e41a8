//! Other implementations as witnesses: bytes that Apache Kafka's own classes and franz-go wrote and read
//! (`tests/vectors`; the heads of the files name what made them).

use std::collections::BTreeSet;

use super::*;

const KAFKA: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/kafka.txt"));
const FRANZ: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/franz.txt"));

/// Versions that came after Kafka 4.3.1, which wrote the file. Franz-go has them.
const YOUNGER: [(&str, i16); 6] = [
    ("ApiVersionsRequest", 5),
    ("ApiVersionsResponse", 5),
    ("DeleteGroupsRequest", 3),
    ("DeleteGroupsResponse", 3),
    ("TxnOffsetCommitRequest", 6),
    ("TxnOffsetCommitResponse", 6),
];

/// What Kafka's generic schemas, which `Vectors.java` goes through, cannot write: structures that may be null.
/// Franz-go's bytes and the crate kafka-protocol stand in for the responses; `coordinator` has bytes of the value.
const UNWRITTEN: [&str; 3] = [
    "ConsumerGroupHeartbeatResponse",
    "ConsumerGroupMemberMetadataValue",
    "ShareGroupHeartbeatResponse",
];

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Decodes and encodes every line of a file; says which messages and versions there were.
fn recode(file: &'static str) -> BTreeSet<(&'static str, i16)> {
    let mut seen = BTreeSet::new();
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let [name, version, hex] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let (version, bytes) = (version.parse().expect("a version"), unhex(hex));
        let recoded = (Probe::find(name).recode)(&bytes, version)
            .unwrap_or_else(|error| panic!("{name} {version}: {error}"));
        assert_eq!((recoded.remaining, &recoded.bytes[..]), (0, &bytes[..]), "{name} {version}");
        seen.insert((name, version));
    }
    seen
}

#[test]
fn kafkas_own_bytes_survive_a_round_trip() {
    let seen = recode(KAFKA);
    each(|message, probe, version| {
        if UNWRITTEN.contains(&probe.name) {
            return;
        }
        let younger = YOUNGER.contains(&(&message.name, version));
        assert_eq!(seen.contains(&(probe.name, version)), !younger, "{} {version}", message.name);
    });
}

// The APIs in every version; headers, and what lies inside of bytes, are no messages of franz-go's list.
#[test]
fn franz_gos_bytes_survive_a_round_trip() {
    let seen = recode(FRANZ);
    for key in ApiKey::ALL {
        for version in key.valid_versions() {
            for role in ["Request", "Response"] {
                let name = format!("{}{role}", key.name());
                assert!(seen.contains(&(name.as_str(), version)), "{name} {version}");
            }
        }
    }
}

// Goal: fields are where their names say. Method: values Kafka was told to write under those names.
#[test]
fn a_fetch_request_of_kafkas_reads_as_it_was_written() {
    let line = KAFKA.lines().find(|it| it.starts_with("FetchRequest 18 ")).expect("it is there");
    let bytes = unhex(line.rsplit(' ').next().expect("a line has words"));
    let mut source = Decoder::new(BytesMut::from(&bytes[..]));
    let request = fetch::Request::decode(&mut source, 18).expect("Kafka wrote it");
    // Kafka's writer counts: each field is the number before it plus one, in every byte.
    let repeated = |count: i32| count * 0x0101_0101;
    assert_eq!(request.max_wait_ms, repeated(20));
    assert_eq!(request.min_bytes, repeated(21));
    assert_eq!(request.max_bytes, repeated(22));
    assert_eq!(request.isolation_level, 23);
    assert_eq!(request.session_id, repeated(24));
    assert_eq!(request.session_epoch, repeated(25));
}
