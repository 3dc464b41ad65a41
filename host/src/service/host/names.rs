//! Names that people give, and paths of files that they send: what they may be.

use std::path::{Component, Path, PathBuf};

/// As Azure's endpoints have it.
const MOST_NAME: usize = 32;
/// As long as file systems have it.
const MOST_PATH: usize = 1024;

/// A name that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has other characters, or is too long.
    #[error("{what} `{name}` is no name\nhint: a letter, then letters, digits and `-`, at most {MOST_NAME}")]
    Name {
        /// Of what.
        what: &'static str,
        /// What was given, cut.
        name: String,
    },
    /// No number.
    #[error("`{0}` is no version\nhint: `NAME:NUMBER`, or `NAME` for the latest")]
    Version(String),
    /// It could leave its folder.
    #[error(
        "`{0}` is no path of a file below a folder\nhint: parts with `/` between, none of them hidden or `..`, at most {MOST_PATH} bytes"
    )]
    Path(String),
}

/// Checks a name: a letter, then letters, digits and `-`, not at the end.
pub(super) fn name<'a>(what: &'static str, name: &'a str) -> Result<&'a str, NameError> {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphabetic());
    let fits = name.len() <= MOST_NAME
        && is_letter(name.chars().next())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !name.ends_with('-');
    if fits { Ok(name) } else { Err(NameError::Name { what, name: shown(name) }) }
}

/// A deployment's name, perhaps with `:` and a version behind it.
pub(super) fn versioned(text: &str) -> Result<(String, Option<u32>), NameError> {
    let (before, version) = match text.split_once(':') {
        None => (text, None),
        Some((before, number)) => {
            let wrong = |_| NameError::Version(shown(number));
            (before, Some(number.parse().map_err(wrong)?))
        }
    };
    Ok((name("deployment", before)?.to_owned(), version))
}

/// Checks the path of a file that is to lie below a folder.
pub(super) fn path(path: &str) -> Result<PathBuf, NameError> {
    let parts = || Path::new(path).components();
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    // What is hidden is scored by no job and in no digest.
    let fits = !path.is_empty()
        && path.len() <= MOST_PATH
        && !path.ends_with('/')
        && !path.contains("//")
        && !path.contains('\\')
        && !path.contains('\0')
        && parts().all(is_plain)
        && !path.split('/').any(|part| part.starts_with('.') || part.len() > 255);
    if fits { Ok(PathBuf::from(path)) } else { Err(NameError::Path(shown(path))) }
}

/// What a stranger wrote, as messages repeat it.
fn shown(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '�' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_azure_has_them() {
        for good in ["a", "imagenet-classifier-batch", "A1", &"a".repeat(32)] {
            assert!(name("endpoint", good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "a_b", "a/b", "..", "a b", "ä", "a\n", &"a".repeat(33)] {
            assert!(name("endpoint", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_stay_below_their_folder() {
        for good in ["a.jpg", "a/b c/ü.png", "a..b"] {
            assert_eq!(path(good), Ok(PathBuf::from(good)), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "..",
            "a/../b",
            "./a",
            "a/./b",
            "a//b",
            "a\\b",
            "a\0b",
            ".scorehost/x",
            ".hidden",
            "a/.b/c",
            &"a/".repeat(600),
        ] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(path(&"a".repeat(256)).is_err());
    }
}
