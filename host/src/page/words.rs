//! Numbers and times as people read them, and paths as addresses hold them.

use std::fmt::Write;

/// A count, its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of things: `1 file`, `2 files`.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A duration, to two units: `1 h 20 min`.
pub(super) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    if seconds > 0.0 && seconds < 0.9995 {
        return format!("{:.0} ms", (seconds * 1000.0).max(1.0));
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    // Saturates, which is long enough.
    let seconds = seconds.round() as u64;
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{} d {hours} h", count(days)),
    }
}

/// A rate.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 99.95 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

/// A size, in the largest unit that leaves a number of at least one.
pub(super) fn bytes(number: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| number >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", number as f64 / unit as f64),
        None => counted(number, "byte", "bytes"),
    }
}

/// Seconds between two times as the state writes them.
pub(super) fn between(from: &str, to: &str) -> Option<f64> {
    let (from, to) = (humantime::parse_rfc3339(from).ok()?, humantime::parse_rfc3339(to).ok()?);
    Some(to.duration_since(from).ok()?.as_secs_f64())
}

/// A time as it is without the reader's clock: to the second, in UTC.
pub(super) fn time(rfc3339: &str) -> String {
    match rfc3339.split_once('T') {
        Some((day, time)) => format!("{day} {} UTC", time.chars().take(8).collect::<String>()),
        None => rfc3339.to_owned(),
    }
}

/// The path of a file, as addresses hold it: each part by itself, with `/` between.
pub(super) fn address(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(byte)),
            _ => write!(text, "%{byte:02X}").expect("strings take all that is written; this is a bug"),
        }
    }
    text
}

/// Text of strangers: what could move the cursor or turn the direction of writing is shown as a mark, and what is over
/// `most` characters is cut.
pub(super) fn plain(text: &str, most: usize) -> String {
    let is_odd = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown: String = text.chars().take(most).map(|c| if is_odd(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let spans = [0.0, 0.04, 1.0, 9.96, 61.0, 3600.0, 90061.0, f64::INFINITY, -1.0].map(duration);
        assert_eq!(
            spans,
            ["0.0 s", "40 ms", "1.0 s", "10 s", "1 min 1 s", "1 h 0 min", "1 d 1 h", "unknown", "unknown"]
        );
        assert_eq!([0.0, 12.34, 1690.5].map(rate), ["0.0", "12.3", "1,691"]);
        assert_eq!([1, 1023, 1024, 5 << 30].map(bytes), ["1 byte", "1,023 bytes", "1.0 KiB", "5.0 GiB"]);
        assert_eq!(between("2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.500Z"), Some(60.5));
        assert_eq!(between("2026-01-01T00:00:00.000Z", "yesterday"), None);
        assert_eq!(time("2026-01-02T03:04:05.678Z"), "2026-01-02 03:04:05 UTC");
    }

    #[test]
    fn strangers_text_is_marked_and_cut() {
        assert_eq!(plain("a\x1b[31m\u{202e}b\n", 20), "a\u{fffd}[31m\u{fffd}b\n");
        assert_eq!(plain("abcdef", 3), "abc…");
        assert_eq!(address("a b/<ü>?#.png"), "a%20b/%3C%C3%BC%3E%3F%23.png");
    }
}
