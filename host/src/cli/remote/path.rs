//! Names and paths, as requests hold them and as folders here may take them.

use std::fmt::Write;
use std::path::PathBuf;

/// As hosts have it.
const MOST_PATH: usize = 1024;
const MOST_PART: usize = 255;

/// One part of an address: every byte but letters, digits, `-`, `.`, `_` and `~` becomes `%` and two digits.
pub(super) fn encoded(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => write!(text, "%{byte:02X}").expect("strings take all that is written; this is a bug"),
        }
    }
    text
}

/// The path of a file: each part by itself, with `/` between.
pub(super) fn encoded_path(path: &str) -> String {
    path.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// Where a host's file may lie below a folder here, on every system; none for a path that could leave it, or means
/// something else to a file system.
pub(super) fn local(path: &str) -> Option<PathBuf> {
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.len() <= MOST_PART
            && !part.contains(|c: char| c.is_control() || matches!(c, '\\' | ':'))
    };
    let fits = path.len() <= MOST_PATH && path.split('/').all(is_plain);
    fits.then(|| path.split('/').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_nothing_that_an_address_gives_a_meaning_to() {
        for (part, expected) in [
            ("a-b.c_d~9", "a-b.c_d~9"),
            ("a b", "a%20b"),
            ("100%", "100%25"),
            ("a/b?c#d&e=f", "a%2Fb%3Fc%23d%26e%3Df"),
            ("ü\n", "%C3%BC%0A"),
            ("", ""),
        ] {
            assert_eq!(encoded(part), expected, "{part:?}");
        }
        assert_eq!(encoded_path("a b/c?.jpg"), "a%20b/c%3F.jpg");
    }

    #[test]
    fn paths_that_could_leave_the_folder_are_refused() {
        for good in ["predictions.csv", "logs/0/1.txt", "a b/ü.png", "a..b"] {
            assert_eq!(local(good), Some(PathBuf::from(good)), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../a",
            "a/../../b",
            "a//b",
            "a/",
            "./a",
            "a\\..\\b",
            "C:x",
            "a\0b",
            "a\nb",
            &"a/".repeat(600),
            &"a".repeat(256),
        ] {
            assert_eq!(local(bad), None, "{bad:?}");
        }
    }
}
