//! The forms of time that OpenStack's bodies mix. All take and give µs since the epoch, UTC.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

fn civil(micros: i64) -> DateTime {
    let at = Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH);
    TimeZone::UTC.to_datetime(at)
}

/// `2026-11-22T20:31:00Z`.
pub fn iso8601_z(micros: i64) -> String {
    let d = civil(micros);
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", d.year(), d.month(), d.day(), d.hour(), d.minute(), d.second())
}

/// `2026-11-22T20:31:00.000123Z`.
pub fn iso8601_micros(micros: i64) -> String {
    format!("{}Z", naive_micros(micros))
}

/// `2026-11-22T20:31:00.000123`, as Compute writes it in some places.
pub fn naive_micros(micros: i64) -> String {
    let d = civil(micros);
    let fraction = d.subsec_nanosecond() / 1000;
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{fraction:06}", d.year(), d.month(), d.day(), d.hour(), d.minute(), d.second())
}

/// Reads an ISO 8601 time: with `Z`, with an offset, or without either (then UTC); with a `T` or a space; also a bare date.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_microsecond());
    }
    let at: DateTime = text.parse().ok().or_else(|| text.parse::<jiff::civil::Date>().ok().map(|d| d.at(0, 0, 0, 0)))?;
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back() {
        let at = 1_795_379_460_000_123;
        assert_eq!(iso8601_z(at), "2026-11-22T20:31:00Z");
        assert_eq!(iso8601_micros(at), "2026-11-22T20:31:00.000123Z");
        assert_eq!(parse(&iso8601_micros(at)), Some(at));
        assert_eq!(parse("2026-11-22T20:31:00.000123"), Some(at));
        assert_eq!(parse("2026-11-22 20:31:00"), Some(at - 123));
        assert_eq!(parse("2026-11-22T21:31:00+01:00"), Some(at - 123));
        assert_eq!(parse("2026-11-22"), Some(at - 123 - 20 * 3_600_000_000 - 31 * 60_000_000));
        assert_eq!(parse("yesterday"), None);
    }
}
