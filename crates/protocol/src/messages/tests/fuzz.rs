//! Fuzz targets. Under `cargo test` each takes the same inputs in every run (`docs/testing.md` says how
//! to have more or others); under `cargo bolero test` coverage leads, for as long as one likes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Inputs of each target under `cargo test`.
const CASES: u32 = 5000;

/// What an input is taken from and cut to.
const BYTES_MAX: usize = 2000;

/// Decodes the body of a request as a connection does, after its header.
fn request(frame: &[u8]) {
    let mut source = Decoder::new(BytesMut::from(frame));
    let Ok((key, header)) = header::RequestHeader::read(&mut source) else { return };
    let version = header.request_api_version;
    if key.valid_versions().contains(&version) {
        let body = &frame[frame.len() - source.remaining()..];
        let _ = (Probe::find(&format!("{}Request", key.name())).recode)(body, version);
    }
}

/// The input as a body behind a header that leads somewhere, chosen by its first two bytes.
fn body(input: &[u8]) {
    let [key, version, body @ ..] = input else { return };
    let key = ApiKey::ALL[usize::from(*key) % ApiKey::ALL.len()];
    let versions = key.valid_versions();
    let count = i16::from(*version) % (versions.end() - versions.start() + 1);
    let mut frame = Vec::new();
    frame.extend((key as i16).to_be_bytes());
    frame.extend((versions.start() + count).to_be_bytes());
    frame.extend([0, 0, 0, 1, 0xff, 0xff]);
    if key.is_flexible(versions.start() + count) {
        frame.push(0);
    }
    frame.extend(body);
    request(&frame);
}

/// Any message: responses and records too, a peer's bytes and our own from a bucket.
fn message(input: &[u8]) {
    let [place, version, bytes @ ..] = input else { return };
    let probe = &PROBES[usize::from(*place) % PROBES.len()];
    let _ = (probe.recode)(bytes, i16::from(*version % 20));
}

/// PROPTEST_CASES may ask for more.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig { cases: asked.cases.max(CASES), ..asked }
}

#[test]
fn frames_never_panic() {
    if cfg!(fuzzing) {
        return bolero::check!().with_max_len(BYTES_MAX).for_each(request);
    }
    proptest!(config(), |(input in vec(any::<u8>(), 0..BYTES_MAX))| request(&input));
}

#[test]
fn bodies_of_every_request_never_panic() {
    if cfg!(fuzzing) {
        return bolero::check!().with_max_len(BYTES_MAX).for_each(body);
    }
    proptest!(config(), |(input in vec(any::<u8>(), 0..BYTES_MAX))| body(&input));
}

#[test]
fn all_messages_never_panic() {
    if cfg!(fuzzing) {
        return bolero::check!().with_max_len(BYTES_MAX).for_each(message);
    }
    proptest!(config(), |(input in vec(any::<u8>(), 0..BYTES_MAX))| message(&input));
}
