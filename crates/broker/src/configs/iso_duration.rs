//! Durations as ISO 8601 writes them and Java reads them: `P2DT3H4M5.6S`.
//!
//! Owns: the grammar of Java's `Duration.parse`. Does not own: which configs have such a value.

use std::time::Duration;

/// Units in the order they must come in, with their seconds; behind the `T` from hours on.
const UNITS: [(u8, bool, i128); 4] =
    [(b'D', false, 86_400), (b'H', true, 3_600), (b'M', true, 60), (b'S', true, 1)];

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// `None` for what is no duration, for a negative one, and for one of more seconds than 64 bits hold. Years and months
/// are no durations: they are not always as long.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.as_bytes();
    let is_negative = take_sign(&mut rest);
    take(&mut rest, b'P').then_some(())?;
    let (mut total, mut is_timed, mut units) = (0_i128, false, UNITS.iter());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if !is_timed && take(&mut rest, b'T') {
            is_timed = true;
            if rest.is_empty() {
                return None;
            }
        }
        let (amount, has_fraction) = take_amount(&mut rest)?;
        let (unit, (_, _, seconds)) = {
            let (first, after) = rest.split_first()?;
            rest = after;
            let unit = first.to_ascii_uppercase();
            // Those passed over may not come any more.
            (unit, units.find(|(it, behind, _)| *it == unit && *behind == is_timed)?)
        };
        if has_fraction && unit != b'S' {
            return None;
        }
        total = total.checked_add(amount.checked_mul(*seconds)?)?;
    }
    let total = if is_negative { total.checked_neg()? } else { total };
    let seconds = u64::try_from(total.div_euclid(NANOS_PER_SECOND)).ok()?;
    let nanos = u32::try_from(total.rem_euclid(NANOS_PER_SECOND)).ok()?;
    Some(Duration::new(seconds, nanos))
}

/// Whether a minus was there.
fn take_sign(rest: &mut &[u8]) -> bool {
    match rest.first() {
        Some(sign @ (b'-' | b'+')) => {
            let is_negative = *sign == b'-';
            *rest = &rest[1..];
            is_negative
        }
        _ => false,
    }
}

fn take(rest: &mut &[u8], letter: u8) -> bool {
    let is_there = rest.first().is_some_and(|it| it.eq_ignore_ascii_case(&letter));
    if is_there {
        *rest = &rest[1..];
    }
    is_there
}

/// In billionths, and whether there was a decimal sign.
fn take_amount(rest: &mut &[u8]) -> Option<(i128, bool)> {
    const DIGITS_MAX: usize = 19;
    let is_negative = take_sign(rest);
    let whole = take_digits(rest);
    if whole.is_empty() || DIGITS_MAX < whole.len() {
        return None;
    }
    let mut amount = number(whole) * NANOS_PER_SECOND;
    let has_fraction = take(rest, b'.') || take(rest, b',');
    if has_fraction {
        let fraction = take_digits(rest);
        let missing = 9_usize.checked_sub(fraction.len())?;
        amount += number(fraction) * 10_i128.pow(u32::try_from(missing).ok()?);
    }
    Some((if is_negative { -amount } else { amount }, has_fraction))
}

fn take_digits<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let count = rest.iter().take_while(|it| it.is_ascii_digit()).count();
    let (digits, after) = rest.split_at(count);
    *rest = after;
    digits
}

fn number(digits: &[u8]) -> i128 {
    digits.iter().fold(0, |number, digit| number * 10 + i128::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected_ms: Option<u64>) {
        assert_eq!(parse(text), expected_ms.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn what_java_reads_is_read() {
        const DAY: u64 = 86_400_000;
        check("P1D", Some(DAY));
        check("PT1H", Some(3_600_000));
        check("P2DT3H4M5.6S", Some(2 * DAY + 11_045_600));
        check("pt20.345s", Some(20_345));
        check("PT15M", Some(900_000));
        check("PT10H-30M", Some(34_200_000));
        check("-PT-6H", Some(21_600_000));
        check("+P1DT1,5S", Some(DAY + 1_500));
        check("PT0S", Some(0));
        check("PT1.S", Some(1_000));
    }

    #[test]
    fn what_java_does_not_read_is_refused() {
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "1D",
            "P1Y",
            "P1M",
            "P1H",
            "PT1D",
            "PT1M1H",
            "PT1S1S",
            "PT1.5H",
            "PT.5S",
            "PT1",
            "PT1S ",
            "P-1D",
            "-PT1H",
            "PT1.1234567890S",
            "PT99999999999999999999S",
            "PTT1S",
            "PT1HT1S",
        ] {
            check(text, None);
        }
    }
}
