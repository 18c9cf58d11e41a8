//! Every variant clients write, every way to lie, and the limits on what comes out.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 8 << 20;
const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn packed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&b"before"[..]);
    compress(codec, None, bytes, &mut out);
    assert!(out.starts_with(b"before"), "compression appends");
    out[6..].to_vec()
}

/// Text that compresses a little: words by a counter.
fn text(length: usize) -> Vec<u8> {
    let words = (0u64..).flat_map(|it| format!("{:x},", it.wrapping_mul(0x9e37_79b9)).into_bytes());
    words.take(length).collect()
}

#[track_caller]
fn refused(codec: Compression, bytes: &[u8]) {
    match decompress(codec, bytes, LIMIT) {
        Err(BatchError::Decompression { .. }) => (),
        other => panic!("{codec}: {:?}", other.map(|it| it.len())),
    }
}

#[test]
fn sizes_around_the_block_sizes() {
    for codec in CODECS {
        for length in [1, 2, 1000, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 300_000] {
            let bytes = text(length);
            let packed = packed(codec, &bytes);
            assert_eq!(decompress(codec, &packed, length).as_ref(), Ok(&bytes), "{codec}");
            let limit = length - 1;
            let error = BatchError::TooLarge { limit };
            assert_eq!(decompress(codec, &packed, limit), Err(error), "{codec}, {length}");
        }
    }
}

#[test]
fn the_java_clients_framing_is_written() {
    let lz4 = packed(Compression::Lz4, &text(100_000));
    assert_eq!(lz4[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert_eq!(lz4[lz4.len() - 4..], [0; 4], "end mark, no checksum");
    let snappy = packed(Compression::Snappy, &text(100_000));
    assert_eq!(snappy[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    assert_eq!(packed(Compression::Gzip, b"x")[..4], [0x1f, 0x8b, 8, 0]);
    assert_eq!(packed(Compression::Zstd, b"x")[..4], [0x28, 0xb5, 0x2f, 0xfd]);
}

#[test]
fn levels_beyond_the_range_are_brought_into_it() {
    let bytes = text(10_000);
    for codec in CODECS {
        for level in [i32::MIN, -1, 0, 1, 9, 22, i32::MAX] {
            let mut out = BytesMut::new();
            compress(codec, Some(level), &bytes, &mut out);
            assert_eq!(decompress(codec, &out, LIMIT).as_ref(), Ok(&bytes), "{codec} {level}");
        }
    }
}

fn lz4_frame(info: FrameInfo, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn lz4_frame_variants() {
    let bytes = text(200_000);
    for block_size in
        [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB]
    {
        for flags in 0..8 {
            let info = FrameInfo::new()
                .block_size(block_size)
                .block_checksums(flags & 1 != 0)
                .content_checksum(flags & 2 != 0)
                .content_size((flags & 4 != 0).then_some(bytes.len() as u64));
            let frame = lz4_frame(info, &bytes);
            assert_eq!(decompress(Compression::Lz4, &frame, LIMIT).as_ref(), Ok(&bytes));
            // Any changed byte is noticed if the frame has checksums, and never panics.
            for at in (0..frame.len()).step_by(frame.len() / 4) {
                let mut bad = frame.clone();
                bad[at] ^= 0x10;
                let result = decompress(Compression::Lz4, &bad, LIMIT);
                assert!(result.is_err() || flags & 3 == 0, "byte {at}, flags {flags}");
            }
        }
    }
}

#[test]
fn lz4_frames_that_consumers_could_not_read() {
    let bytes = text(200_000);
    let plain = lz4_frame(FrameInfo::new().block_size(BlockSize::Max64KB), &bytes);
    refused(Compression::Lz4, &plain[..plain.len() - 4]); // No end mark.
    refused(Compression::Lz4, &[&plain[..], &[0]].concat());
    refused(Compression::Lz4, &lz4_frame(FrameInfo::new().block_mode(BlockMode::Linked), &bytes));
    refused(Compression::Lz4, &[&0x184c_2102_u32.to_le_bytes(), &plain[4..]].concat()); // Legacy.
    for (at, flag) in [(4, 0x80), (4, DICTIONARY_FLAG), (4, 0x02), (5, 0x80), (6, 1)] {
        let mut bad = plain.clone();
        bad[at] ^= flag;
        refused(Compression::Lz4, &bad);
    }
    let info = FrameInfo::new().content_size(Some(200_000)).content_checksum(true);
    let checked = lz4_frame(info, &bytes);
    let mut bad = checked.clone();
    *bad.last_mut().unwrap() ^= 1;
    refused(Compression::Lz4, &bad);
}

const DICTIONARY_FLAG: u8 = 0x01;

#[test]
fn snappy_variants() {
    let bytes = text(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, LIMIT).as_ref(), Ok(&bytes));
    // Streams one after the other, as a flushed and reopened Java stream makes them.
    let framed = packed(Compression::Snappy, &bytes);
    let twice = [&framed[..], &framed[..]].concat();
    let expected = [&bytes[..], &bytes[..]].concat();
    assert_eq!(decompress(Compression::Snappy, &twice, LIMIT), Ok(expected));
    // A later version that is compatible with the first.
    let mut later = framed.clone();
    later[11] = 2;
    later[15] = 1;
    assert_eq!(decompress(Compression::Snappy, &later, LIMIT).as_ref(), Ok(&bytes));
    let mut unknown = framed.clone();
    unknown[11] = 0;
    refused(Compression::Snappy, &unknown);
    refused(Compression::Snappy, &[]);
    refused(Compression::Snappy, &framed[..framed.len() - 1]);
    refused(Compression::Snappy, &[&framed[..], &[0, 0]].concat());
    refused(Compression::Snappy, &[&framed[..], &[0xff; 4]].concat());
}

#[test]
fn gzip_members_and_zstd_frames_follow_each_other() {
    let (one, two) = (text(70_000), text(10));
    for codec in [Compression::Gzip, Compression::Zstd] {
        let both = [packed(codec, &one), packed(codec, &two)].concat();
        assert_eq!(decompress(codec, &both, LIMIT), Ok([&one[..], &two[..]].concat()));
        refused(codec, &[&both[..], b"garbage"].concat());
    }
    // As the Java client streams it: no content size, with a checksum.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&one).unwrap();
    let mut streamed = encoder.finish().unwrap();
    assert_eq!(decompress(Compression::Zstd, &streamed, LIMIT).as_ref(), Ok(&one));
    *streamed.last_mut().unwrap() ^= 1;
    refused(Compression::Zstd, &streamed);
    // The largest window consumers accept without being asked.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&one).unwrap();
    let wide = encoder.finish().unwrap();
    assert_eq!(decompress(Compression::Zstd, &wide, LIMIT).as_ref(), Ok(&one));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = text(500);
    for codec in CODECS {
        let packed = packed(codec, &bytes);
        for cut in 0..packed.len() {
            match decompress(codec, &packed[..cut], LIMIT) {
                Err(_) => (),
                // Snappy has no end mark, and nothing at all is no stream to be cut: the count of
                // records decides there.
                Ok(out) => {
                    assert!(codec == Compression::Snappy || cut == 0, "{codec} cut at {cut}");
                    assert!(out.len() < bytes.len());
                }
            }
        }
    }
}

#[test]
fn lies_about_sizes_cost_nothing() {
    // Raw snappy that claims 4 GiB, framed snappy that claims more than a block can make.
    refused(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    let mut framed = packed(Compression::Snappy, b"x")[..16].to_vec();
    framed.extend_from_slice(&[0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    refused(Compression::Snappy, &framed);
    // An LZ4 frame of 4 MiB blocks with a few bytes in it gets room for those few.
    let frame = lz4_frame(FrameInfo::new().block_size(BlockSize::Max4MB), b"tiny");
    let mut window = Window::default();
    let mut decompressor = Decompressor::new(Compression::Lz4, &frame, LIMIT).unwrap();
    while decompressor.fill(&mut window).unwrap() {}
    assert_eq!(window.unread(), b"tiny");
    assert!(window.bytes.capacity() < 64 * 1024, "{}", window.bytes.capacity());
}

#[test]
fn bombs_stop_at_the_limit() {
    const LIMIT: usize = 1 << 20;
    let zeros = vec![0; 64 << 20];
    for codec in CODECS {
        let bomb = packed(codec, &zeros);
        assert!(bomb.len() < zeros.len() / 20, "{codec} is a bomb");
        let error = BatchError::TooLarge { limit: LIMIT };
        assert_eq!(decompress(codec, &bomb, LIMIT), Err(error.clone()));
        // A consumer that keeps up holds a piece at a time.
        let mut decompressor = Decompressor::new(codec, &bomb, LIMIT).unwrap();
        let mut window = Window::default();
        let stopped = loop {
            match decompressor.fill(&mut window) {
                Ok(true) => window.consume(window.unread().len()),
                Ok(false) => panic!("{codec}: the limit did not hold"),
                Err(stopped) => break stopped,
            }
        };
        assert_eq!(stopped, error);
        assert!(window.bytes.capacity() <= 128 * 1024, "{codec}: {}", window.bytes.capacity());
    }
}

proptest! {
    #[test]
    fn bytes_come_back(
        codec in prop::sample::select(&CODECS),
        seed in prop::collection::vec(any::<u8>(), 1..300),
        times in 1usize..600,
    ) {
        let bytes = seed.repeat(times);
        prop_assert_eq!(decompress(codec, &packed(codec, &bytes), bytes.len()), Ok(bytes));
    }

    #[test]
    fn no_bytes_panic(
        codec in prop::sample::select(&CODECS),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        garbage in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut bytes = packed(codec, &text(2000));
        let at = at.index(bytes.len());
        bytes[at] = with;
        for input in [&bytes[..], &garbage[..], &[&bytes[..at], &garbage[..]].concat()[..]] {
            if let Ok(out) = decompress(codec, input, 1 << 16) {
                prop_assert!(out.len() <= 1 << 16);
            }
        }
    }
}
