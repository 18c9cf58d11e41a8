//! Milliseconds since 1970 as S3 writes them: in headers and in lists.

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
    millis: i64,
}

/// Proleptic Gregorian, counted in years that start in March, so that the leap day is the last.
fn civil(unix_ms: i64) -> Civil {
    let (days, of_day) = (unix_ms.div_euclid(DAY_MS), unix_ms.rem_euclid(DAY_MS));
    let since_0000_03_01 = days + 719_468;
    let (era, of_era) =
        (since_0000_03_01.div_euclid(146_097), since_0000_03_01.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: month as usize,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        weekday: days.rem_euclid(7) as usize,
        hour: of_day / 3_600_000,
        minute: of_day / 60_000 % 60,
        second: of_day / 1000 % 60,
        millis: of_day % 1000,
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(crate) fn http(unix_ms: i64) -> String {
    let it = civil(unix_ms);
    let (weekday, month) = (WEEKDAYS[it.weekday], MONTHS[it.month - 1]);
    format!(
        "{weekday}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT",
        it.day, it.year, it.hour, it.minute, it.second
    )
}

/// `1994-11-06T08:49:37.000Z`
pub(crate) fn iso(unix_ms: i64) -> String {
    let it = civil(unix_ms);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        it.year, it.month, it.day, it.hour, it.minute, it.second, it.millis
    )
}

#[cfg(test)]
mod tests {
    use super::{http, iso};

    #[test]
    fn known_moments() {
        for (unix_ms, in_header, in_list) in [
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.000Z"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "Tue, 29 Feb 2000 12:34:56 GMT", "2000-02-29T12:34:56.789Z"),
            (1_767_225_599_999, "Wed, 31 Dec 2025 23:59:59 GMT", "2025-12-31T23:59:59.999Z"),
        ] {
            assert_eq!((http(unix_ms).as_str(), iso(unix_ms).as_str()), (in_header, in_list));
        }
    }
}
