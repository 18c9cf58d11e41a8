//! Fuzz targets: short and random under `cargo test` (a failure prints its seed), as long as one
//! likes under `cargo bolero test messages::tests::fuzz::…`.

use super::*;

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

#[test]
fn frames_never_panic() {
    bolero::check!().for_each(request);
}

// As above, but with a header that leads somewhere.
#[test]
fn bodies_of_every_request_never_panic() {
    bolero::check!().with_type::<(u8, u8, Vec<u8>)>().for_each(|(key, version, body)| {
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
    });
}

// Responses and records: a peer's bytes, and our own from a bucket.
#[test]
fn all_messages_never_panic() {
    bolero::check!().with_type::<(u8, u8, Vec<u8>)>().for_each(|(place, version, body)| {
        let probe = &PROBES[usize::from(*place) % PROBES.len()];
        let _ = (probe.recode)(body, i16::from(*version % 20));
    });
}
