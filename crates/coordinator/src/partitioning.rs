//! Which partition of `__consumer_offsets` keeps a group.

/// Kafka's rule: the absolute value of Java's `String.hashCode` of the group id, modulo the number
/// of partitions. Java hashes UTF-16 code units; its absolute value of the smallest integer is 0.
/// `partitions` must be positive.
pub fn shard_of(group: &str, partitions: i32) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    hash.checked_abs().unwrap_or(0) % partitions
}

#[cfg(test)]
mod tests {
    use super::shard_of;

    #[test]
    fn groups_land_where_java_puts_them() {
        // What a JVM answers to `hashCode`.
        for (group, hash) in [
            ("", 0i64),
            ("a", 97),
            ("hello", 99162322),
            ("console-consumer-12345", 158455506),
            ("\u{1d11e}", 1772394),
        ] {
            assert_eq!(i64::from(shard_of(group, i32::MAX)), hash % i64::from(i32::MAX), "{group}");
        }
        assert_eq!(shard_of("hello", 50), 99162322 % 50);
        // "polygenelubricants" is the known string whose hashCode is the smallest integer.
        assert_eq!(shard_of("polygenelubricants", 50), 0);
    }
}
