//! Zig-zag variable-length numbers, as records use them: 7 bits a byte, lowest first.
//!
//! An `i32` takes at most 5 bytes and an `i64` at most 10. Bits beyond the type are dropped and
//! longer-than-needed forms are accepted, both as Kafka does.

/// The longest encoding of an `i64`.
pub(super) const VARLONG_LEN_MAX: usize = 10;
const VARINT_LEN_MAX: usize = 5;

/// The number at the front and its length in bytes; `None` if it does not end within its type's
/// longest form or within the bytes.
#[inline]
pub(super) fn read_varint(bytes: &[u8]) -> Option<(i32, usize)> {
    // Most numbers of a record are one or two bytes: lengths, deltas, counts.
    let (raw, length) = match bytes {
        [first, ..] if *first < 0x80 => (u64::from(*first), 1),
        [first, second, ..] if *second < 0x80 => {
            (u64::from(first & 0x7f) | u64::from(*second) << 7, 2)
        }
        _ => read_raw(bytes, VARINT_LEN_MAX)?,
    };
    let raw = raw as u32; // Drops what a fifth byte carries beyond 32 bits.
    Some((((raw >> 1) as i32) ^ -((raw & 1) as i32), length))
}

/// As [`read_varint`], for 64 bits.
#[inline]
pub(super) fn read_varlong(bytes: &[u8]) -> Option<(i64, usize)> {
    let (raw, length) = match bytes {
        [first, ..] if *first < 0x80 => (u64::from(*first), 1),
        _ => read_raw(bytes, VARLONG_LEN_MAX)?,
    };
    Some((((raw >> 1) as i64) ^ -((raw & 1) as i64), length))
}

fn read_raw(bytes: &[u8], length_max: usize) -> Option<(u64, usize)> {
    let mut raw = 0u64;
    for (place, byte) in bytes.iter().take(length_max).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return Some((raw, place + 1));
        }
    }
    None
}

pub(super) fn write_varint(value: i32, out: &mut Vec<u8>) {
    write_raw(u64::from(((value << 1) ^ (value >> 31)) as u32), out);
}

pub(super) fn write_varlong(value: i64, out: &mut Vec<u8>) {
    write_raw(((value << 1) ^ (value >> 63)) as u64, out);
}

fn write_raw(mut raw: u64, out: &mut Vec<u8>) {
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Bytes that [`write_varint`] writes.
pub(super) fn varint_len(value: i32) -> usize {
    raw_len(u64::from(((value << 1) ^ (value >> 31)) as u32))
}

/// Bytes that [`write_varlong`] writes.
pub(super) fn varlong_len(value: i64) -> usize {
    raw_len(((value << 1) ^ (value >> 63)) as u64)
}

fn raw_len(raw: u64) -> usize {
    (70 - (raw | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_forms() {
        let check = |value: i64, bytes: &[u8]| {
            let mut out = Vec::new();
            write_varlong(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(read_varlong(bytes), Some((value, bytes.len())));
            if let Ok(value) = i32::try_from(value) {
                let mut out = Vec::new();
                write_varint(value, &mut out);
                assert_eq!(out, bytes, "{value}");
                assert_eq!(read_varint(bytes), Some((value, bytes.len())));
            }
        };
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(63, &[0x7e]);
        check(-64, &[0x7f]);
        check(64, &[0x80, 0x01]);
        check(8191, &[0xfe, 0x7f]);
        check(8192, &[0x80, 0x80, 0x01]);
        check(i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check(i64::from(i32::MIN), &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        check(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn endless_and_cut_numbers_are_none() {
        assert_eq!(read_varint(&[]), None);
        assert_eq!(read_varint(&[0x80]), None);
        assert_eq!(read_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
        assert_eq!(read_varlong(&[0x80; 11]), None);
        assert_eq!(read_varlong(&[]), None);
        // Longer than needed, but within the type's longest form: Kafka reads it.
        assert_eq!(read_varint(&[0x82, 0x80, 0x80, 0x80, 0x00]), Some((1, 5)));
    }

    proptest! {
        #[test]
        fn numbers_read_back(int: i32, long: i64, shift in 0u32..64) {
            let long = long >> shift;
            let mut out = Vec::new();
            write_varint(int, &mut out);
            prop_assert_eq!(out.len(), varint_len(int));
            prop_assert_eq!(read_varint(&out), Some((int, out.len())));
            out.clear();
            write_varlong(long, &mut out);
            prop_assert_eq!(out.len(), varlong_len(long));
            prop_assert_eq!(read_varlong(&out), Some((long, out.len())));
        }
    }
}
