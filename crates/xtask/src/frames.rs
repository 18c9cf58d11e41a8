//! Hostile frames over raw sockets: whatever arrives, the broker lives, keeps its memory and serves others.
//!
//! Owns: the frames and the verdict. The frames are written out here by hand, on purpose without the broker's own
//! codec, which could share its mistakes.
//! Does not own: the broker.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use crate::broker;
use crate::control::Shared;
use crate::report::Row;

/// What hostile input may cost in resident memory over the whole attack. Allocators keep pages, so this is
/// generous; the lengths that the frames announce add up to terabytes.
const GROWTH_BYTES_MAX: u64 = 256 * 1024 * 1024;
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Connections that send half a frame and stay.
const IDLE_CONNECTIONS: usize = 200;
const RANDOM_FRAMES: u64 = 3000;
/// Highest request key that the random frames try, and a bit more.
const KEYS: u64 = 95;

pub(crate) fn attack(broker: &Shared, row: &mut Row) -> Result<()> {
    let address = broker.lock().address;
    warm_up(address);
    let before = broker.lock().resident_bytes()?;
    for (name, bytes) in frames() {
        send(address, &bytes);
        row.check(&format!("survives {name}"), alive(broker, address));
    }
    let mut held = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWER_LIMIT) {
            // The largest length that Kafka's default still takes, and then nothing.
            let _ = stream.write_all(&104_857_600_u32.to_be_bytes());
            held.push(stream);
        }
    }
    row.check("serves others while connections hold half frames", alive(broker, address));
    row.check("half frames of 100 MiB reserve no memory", bounded(broker, before));
    drop(held);
    random_frames(address);
    row.check("survives random bodies for every request", alive(broker, address));
    row.check("memory stays bounded", bounded(broker, before));
    Ok(())
}

fn alive(broker: &Shared, address: SocketAddr) -> Result<(), String> {
    if !broker.lock().is_alive() {
        return Err("the broker died".to_owned());
    }
    if broker::answers_api_versions(address) { Ok(()) } else { Err("no answer".to_owned()) }
}

fn bounded(broker: &Shared, before: u64) -> Result<(), String> {
    let now = broker.lock().resident_bytes().map_err(|error| error.to_string())?;
    if now <= before + GROWTH_BYTES_MAX {
        return Ok(());
    }
    Err(format!("resident memory grew from {} to {} MiB", before >> 20, now >> 20))
}

/// Ordinary requests first, so that growth is measured from a broker that has served something.
fn warm_up(address: SocketAddr) {
    for _ in 0..50 {
        broker::answers_api_versions(address);
    }
}

/// Sends bytes, closes the sending side and reads what comes until the other side closes, for a while.
fn send(address: SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWER_LIMIT) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let _ = stream.set_write_timeout(Some(ANSWER_LIMIT));
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = [0; 4096];
    while matches!(stream.read(&mut answer), Ok(length) if length > 0) {}
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let huge = [0x7f, 0xff, 0xff, 0xff];
    let unsigned_huge = [0xff, 0xff, 0xff, 0xff, 0x0f];
    vec![
        ("an empty connection", vec![]),
        ("a length cut short", vec![0, 0]),
        ("a length of zero", vec![0; 4]),
        ("a negative length", vec![0xff; 4]),
        ("a length of two gigabytes", huge.to_vec()),
        ("a frame too short for a header", framed(&[0, 18])),
        ("an unknown request", request(999, 0, &[])),
        ("a negative request key", request(-1, 0, &[])),
        ("an unknown version of Produce", request(0, 999, &[])),
        ("an unknown version of ApiVersions", request(18, 999, &[])),
        ("a client id longer than the frame", framed(&[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, b'x'])),
        ("a client id that is not UTF-8", framed(&[0, 3, 0, 1, 0, 0, 0, 1, 0, 2, 0xff, 0xfe])),
        ("Metadata of two billion topics", request(3, 1, &huge)),
        ("Metadata of four billion topics, compact", request_flexible(3, 12, &unsigned_huge)),
        ("a varint that never ends", request_flexible(3, 12, &[0xff; 64])),
        ("two billion tagged fields", framed_tags(3, 12, &unsigned_huge)),
        // acks, timeout, then two billion topics.
        (
            "Produce of two billion topics",
            request(0, 3, &join(&[&[0xff, 0xff, 0, 1, 0, 0, 0, 1], &huge])),
        ),
        ("Produce whose records claim two gigabytes", produce(&huge, &[0; 32])),
        ("Produce of random bytes as records", produce(&64_u32.to_be_bytes(), &[0xa5; 64])),
        ("Produce of a batch with a lying length", produce(&61_u32.to_be_bytes(), &lying_batch())),
        (
            "Produce of a batch with two billion records",
            produce(&61_u32.to_be_bytes(), &crowded_batch()),
        ),
        ("a Fetch of two billion topics", request(1, 11, &join(&[&[0; 21], &huge]))),
        (
            "a JoinGroup of two billion protocols",
            request(11, 1, &join(&[&[0, 1, b'g'], &[0; 8], &[0, 0], &[0, 1, b'c'], &huge])),
        ),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a TLS hello", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03]),
        ("ten thousand requests at once", request(18, 0, &[]).repeat(10_000)),
    ]
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}

/// A request with header version 1: key, version, correlation id, client id.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    framed(&join(&[&header(key, version), body]))
}

/// A request with header version 2: the same and an empty set of tagged fields.
fn request_flexible(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    framed(&join(&[&header(key, version), &[0], body]))
}

fn framed_tags(key: i16, version: i16, tags: &[u8]) -> Vec<u8> {
    framed(&join(&[&header(key, version), tags]))
}

fn header(key: i16, version: i16) -> Vec<u8> {
    join(&[&key.to_be_bytes(), &version.to_be_bytes(), &[0, 0, 0, 7, 0, 1, b'h']])
}

/// Produce version 3 to partition 0 of one topic; `length` is what the frame says about the records.
fn produce(length: &[u8], records: &[u8]) -> Vec<u8> {
    let start = [0xff, 0xff, 0, 1, 0, 0, 0x10, 0, 0, 0, 0, 1, 0, 7];
    let partition = [0, 0, 0, 1, 0, 0, 0, 0];
    request(0, 3, &join(&[&start, b"hostile", &partition, length, records]))
}

/// A batch header of 61 bytes (format 2) that announces `length` more bytes and `count` records.
fn batch(length: u32, count: u32) -> Vec<u8> {
    let mut bytes = vec![0; 61];
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes
}

fn lying_batch() -> Vec<u8> {
    batch(0x7fff_fff0, 1)
}

fn crowded_batch() -> Vec<u8> {
    batch(49, 0x7fff_ffff)
}

/// Random bodies behind valid headers: every request, every version that may exist. Always the same ones.
fn random_frames(address: SocketAddr) {
    let mut state = 0x5eed_u64;
    let mut next = move || {
        // splitmix64, Steele and others 2014.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut stream = None;
    for _ in 0..RANDOM_FRAMES {
        let key = i16::try_from(next() % KEYS).unwrap_or(0);
        let version = i16::try_from(next() % 18).unwrap_or(0);
        let mut body = Vec::new();
        for _ in 0..next() % 24 {
            // Small numbers and runs of ones reach further into a decoder than plain noise.
            let word = match next() % 4 {
                0 => next().to_be_bytes(),
                1 => (next() % 4).to_be_bytes(),
                2 => [0xff; 8],
                _ => [0; 8],
            };
            body.extend_from_slice(&word[8 - usize::try_from(1 + next() % 8).unwrap_or(8)..]);
        }
        let flexible = next() % 2 == 0;
        let frame = if flexible {
            request_flexible(key, version, &body)
        } else {
            request(key, version, &body)
        };
        if stream.is_none() {
            stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT).ok();
        }
        // A broker may close at any frame; the next one then takes a new connection.
        let sent = stream.as_mut().is_some_and(|it| it.write_all(&frame).is_ok());
        if !sent || next() % 8 == 0 {
            stream = None;
        }
    }
}
