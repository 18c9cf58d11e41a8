//! Bytes nobody should send: never a panic, never more memory than the budget.

use super::*;
use crate::wire::BUDGET_PER_BYTE;

// Goal: a message cut anywhere is an error, and never a wait, a panic or half a message.
// Method: every prefix of samples of every version.
#[test]
fn every_truncation_is_an_error() {
    each(|message, probe, version| {
        for seed in 0..3 {
            let shape = Shape::Random { elements_max: 2, tag_one_in: 1 };
            let mut bytes = Sampler::new(message, version, seed, shape).canonical();
            if 3000 < bytes.len() {
                continue; // Nothing new in the middle of a large value.
            }
            while !bytes.is_empty() {
                bytes.truncate(bytes.len() - 1);
                let recoded = (probe.recode)(&bytes, version);
                assert!(recoded.is_err(), "{} {version} {seed}: {recoded:?}", message.name);
            }
        }
    });
}

// Goal: no byte of a message can be changed into a crash.
// Method: samples with a few places overwritten by the values that hurt, lengths above all.
#[test]
fn mutations_never_panic() {
    const HURTFUL: [&[u8]; 8] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xff],
        &[0],
        &[0x80],
    ];
    each(|message, probe, version| {
        let mut random = Random(version as u64);
        for seed in 0..8 {
            let shape = Shape::Random { elements_max: 2, tag_one_in: 2 };
            let sample = Sampler::new(message, version, seed, shape).canonical();
            for _ in 0..16 {
                let mut bytes = sample.clone();
                for _ in 0..=random.below(2) {
                    let start = random.below(bytes.len().max(1)).min(bytes.len());
                    let hurtful = HURTFUL[random.below(HURTFUL.len())];
                    let length = hurtful.len().min(bytes.len() - start);
                    bytes[start..start + length].copy_from_slice(&hurtful[..length]);
                }
                let _ = (probe.recode)(&bytes, version); // Any answer will do.
            }
        }
    });
}

#[test]
fn a_count_is_bounded_by_the_bytes_present() {
    // Produce 3: no transactional id, acks, timeout, and 2147483647 topics in no bytes at all.
    let bytes = b"\xff\xff\0\x01\0\0\0\x01\x7f\xff\xff\xff";
    let error = (Probe::find("ProduceRequest").recode)(bytes, 3).unwrap_err();
    assert_eq!(error, DecodeError::Truncated { wanted: 0x7fff_ffff, present: 0 });
}

// Goal: bytes that are present cannot be made into many times the memory.
// Method: counts that fill the frame, of elements that are large in memory and small on the wire.
#[test]
fn amplification_ends_at_the_budget() {
    const COUNT: usize = 1_000_000;
    let mut bytes = BytesMut::from(&b"\xff\xff\0\x01\0\0\0\x01"[..]);
    bytes.extend_from_slice(&(COUNT as i32).to_be_bytes());
    bytes.resize(bytes.len() + COUNT, 0);
    let error = (Probe::find("ProduceRequest").recode)(&bytes, 3).unwrap_err();
    let DecodeError::OverBudget { wanted, left } = error else { panic!("{error}") };
    assert_eq!(left, bytes.len() * BUDGET_PER_BYTE);
    assert!(left < wanted);
}

// Goal: nothing amplifies by parts what it may not at once.
// Method: duplicates of a known tagged field, each with an array that alone is within the budget.
#[test]
fn repeated_tagged_fields_share_one_budget() {
    let field: Vec<u8> = {
        let elements = 2000;
        let mut bytes = vec![0xd1, 0x0f]; // 2001: a compact count of 2000.
        bytes.extend([1, 0, 0, 0, 0, 0].repeat(elements)); // An empty name, versions 0 and 0, no tags.
        bytes
    };
    // ApiVersions response 3: no error, no APIs, throttle 0, and the field 40 times.
    let mut bytes = vec![0, 0, 1, 0, 0, 0, 0, 40];
    for _ in 0..40 {
        bytes.extend([0, 0xe2, 0x5d]); // Tag 0 and the size 12002.
        bytes.extend(&field);
    }
    let probe = Probe::find("ApiVersionsResponse");
    let recoded = (probe.recode)(&bytes, 3).expect("6 bytes for 32 of memory");
    assert!(recoded.bytes.len() < 13_000, "the last one stays");
}
