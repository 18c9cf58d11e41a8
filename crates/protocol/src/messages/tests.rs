//! Every message in every version, through one list of probes and one generator driven by the
//! definitions, which shares no code with what it tests.

mod fuzz;
mod hostile;
mod oracle;
mod sample;
mod vectors;

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::schema::Versions;
use crate::wire::Encoder;
use sample::{Random, Sampler, Shape};

/// One message type behind functions, so that a test can go through all of them.
struct Probe {
    /// Kafka's name.
    name: &'static str,
    recode: fn(&[u8], i16) -> Result<Recoded, DecodeError>,
    default: fn(i16) -> Bytes,
}

/// What comes out when bytes are decoded and encoded again.
#[derive(Debug)]
struct Recoded {
    bytes: Bytes,
    /// Bytes nobody read.
    remaining: usize,
}

impl Probe {
    const fn of<M: Message + Default + PartialEq + Debug>(name: &'static str) -> Probe {
        Probe {
            name,
            recode: |bytes, version| {
                let mut source = Decoder::new(BytesMut::from(bytes));
                let message = M::decode(&mut source, version)?;
                let recoded = encoded(&message, version);
                match M::decode(&mut Decoder::new(recoded.clone().into()), version) {
                    // Only bytes that are skipped make a budget larger than the message needs.
                    Err(DecodeError::OverBudget { .. }) if recoded.len() < bytes.len() => (),
                    again => assert_eq!(again, Ok(message), "version {version}"),
                }
                Ok(Recoded { bytes: recoded, remaining: source.remaining() })
            },
            default: |version| encoded(&M::default(), version),
        }
    }

    fn find(name: &str) -> &'static Probe {
        PROBES.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no probe for {name}"))
    }
}

fn encoded(message: &impl Message, version: i16) -> Bytes {
    let mut sink = Encoder::new();
    message.encode(&mut sink, version);
    let frame = sink.finish();
    assert_eq!(frame.length, frame.chunks.iter().map(Bytes::len).sum::<usize>());
    frame.to_bytes()
}

const PROBES: &[Probe] = include!(concat!(env!("OUT_DIR"), "/probes.rs"));

/// Calls `check` for every version of every message.
fn each(mut check: impl FnMut(&schema::Message, &'static Probe, i16)) {
    let definitions = definitions();
    let messages: Vec<_> = definitions.iter().flat_map(|it| &it.messages).collect();
    assert_eq!(messages.len(), PROBES.len());
    for message in messages {
        let (first, last) = message.range();
        for version in first..=last {
            check(message, Probe::find(&message.name), version);
        }
    }
}

const SEEDS: u64 = 24;

// Goal: what we read is what is there, and what we write is what we read.
// Method: bytes the definitions call canonical, decoded and encoded by the generated code.
#[test]
fn every_message_survives_a_round_trip() {
    each(|message, probe, version| {
        for seed in 0..SEEDS {
            let shape = Shape::random(seed);
            let bytes = Sampler::new(message, version, seed, shape).canonical();
            let recoded = (probe.recode)(&bytes, version)
                .unwrap_or_else(|error| panic!("{} {version} {seed}: {error}", message.name));
            assert_eq!(recoded.remaining, 0, "{} {version} {seed}", message.name);
            assert_eq!(recoded.bytes, bytes, "{} {version} {seed}", message.name);
        }
    });
}

#[test]
fn defaults_are_kafkas() {
    each(|message, probe, version| {
        let bytes = Sampler::new(message, version, 0, Shape::Default).canonical();
        assert_eq!((probe.default)(version), bytes, "{} {version}", message.name);
    });
}

// Goal: a client of the future is understood (KIP-482).
// Method: unknown tagged fields, before, between and behind the known ones, at every depth.
#[test]
fn unknown_tagged_fields_are_skipped() {
    let mut decorated_count = 0;
    each(|message, probe, version| {
        for seed in 0..SEEDS {
            let sampler = Sampler::new(message, version, seed, Shape::random(seed));
            let (canonical, decorated) = (sampler.canonical(), sampler.decorated());
            decorated_count += usize::from(canonical != decorated);
            let recoded = (probe.recode)(&decorated, version).expect("tags are skipped");
            assert_eq!(recoded.remaining, 0);
            assert_eq!(recoded.bytes, canonical, "{} {version} {seed}", message.name);
        }
    });
    assert!(1000 < decorated_count, "{decorated_count}");
}

// Goal: no legal message is refused for its memory.
// Method: the leanest ones, a thousand elements of nothing but empty values, at each depth in turn.
#[test]
fn the_budget_suffices_for_every_lean_message() {
    each(|message, probe, version| {
        for depth in 0..3 {
            let shape = Shape::Lean { depth, count: 1000 };
            let bytes = Sampler::new(message, version, 1, shape).canonical();
            let recoded = (probe.recode)(&bytes, version);
            assert!(recoded.is_ok(), "{} {version} {depth}: {recoded:?}", message.name);
        }
    });
}

#[test]
fn headers_are_versioned_by_their_api() {
    assert_eq!(ApiKey::Produce.advertised_versions(), 0..=13);
    assert_eq!(ApiKey::Produce.valid_versions(), 3..=13);
    assert_eq!(ApiKey::InitProducerId.valid_versions(), 0..=5);
    assert_eq!(ApiKey::InitProducerId.advertised_versions(), 0..=5);
    assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
    assert_eq!(ApiKey::ApiVersions.request_header_version(99), 2);
    assert_eq!(ApiKey::ApiVersions.response_header_version(3), 0);
    assert_eq!(ApiKey::OffsetDelete.request_header_version(0), 1);
    assert_eq!(ApiKey::OffsetDelete.response_header_version(0), 0);
    assert_eq!(ApiKey::Fetch.request_header_version(11), 1);
    assert_eq!(ApiKey::Fetch.response_header_version(12), 1);
    for key in ApiKey::ALL {
        assert_eq!(ApiKey::from_i16(*key as i16), Some(*key));
        assert!(key.advertised_versions().contains(key.valid_versions().end()));
    }
}

#[test]
fn a_request_header_is_read_by_what_it_says() {
    // ApiVersions 99, correlation 7, client "me", one unknown tagged field, then the body.
    let bytes = b"\0\x12\0\x63\0\0\0\x07\0\x02me\x01\x05\x01zbody";
    let mut source = Decoder::new(BytesMut::from(&bytes[..]));
    let (key, head) = header::RequestHeader::read(&mut source).expect("a good header");
    assert_eq!(key, ApiKey::ApiVersions);
    let client_id = Some("me".to_owned());
    let (request_api_key, request_api_version, correlation_id) = (18, 99, 7);
    let expected =
        header::RequestHeader { request_api_key, request_api_version, correlation_id, client_id };
    assert_eq!(head, expected);
    assert_eq!(source.remaining(), 4);

    let mut source = Decoder::new(BytesMut::from(&b"\x7f\xff\0\0\0\0\0\x01\xff\xff"[..]));
    assert_eq!(
        header::RequestHeader::read(&mut source).map(|_| ()),
        Err(DecodeError::UnknownApi { key: 0x7fff })
    );
}
