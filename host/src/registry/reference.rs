//! A reference as it is typed → where the artifact lies, and which it is. Nothing is asked or opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::RegistryError;

/// What a reference begins with that names a layout folder,
const LAYOUT: &str = "oci:";
/// and what it may begin with that names a registry: where a path might stand, it has to.
const REGISTRY: &str = "oci://";
/// What is meant where neither tag nor digest is written.
const LATEST: &str = "latest";
/// What a tag may be.
const TAG: &str = "a tag is at most 128 letters, digits, `_`, `.` and `-`, and does not begin with `.` or `-`";
/// Longer than any registry takes.
const MOST_BYTES: usize = 4096;

/// An artifact: `oci:FOLDER[:TAG][@sha256:…]`, or `REGISTRY/REPOSITORY[:TAG][@sha256:…]`, with or without `oci://` before
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub(super) place: Place,
    pub(super) tag: String,
    /// The manifest's digest, which pins it: the tag is then not looked at.
    pub(super) digest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Layout(PathBuf),
    Repository { registry: String, name: String },
}

impl Reference {
    /// What a store is asked for.
    pub(super) fn wanted(&self) -> &str {
        self.digest.as_deref().unwrap_or(&self.tag)
    }

    /// The reference as it stands in a file of this folder: a layout folder is looked for from there.
    #[must_use]
    pub fn seen_from(self, folder: &Path) -> Self {
        match self.place {
            Place::Layout(layout) => Self { place: Place::Layout(folder.join(layout)), ..self },
            Place::Repository { .. } => self,
        }
    }

    /// What lies in a layout folder under this tag.
    pub(super) fn in_layout(folder: &Path, tag: &str) -> Self {
        Self { place: Place::Layout(folder.to_owned()), tag: tag.to_owned(), digest: None }
    }

    /// The reference with this digest in place of its own.
    pub(super) fn pinned(&self, digest: &str) -> Self {
        Self { digest: Some(digest.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Layout(folder) => write!(f, "{LAYOUT}{}:{}", folder.display(), self.tag)?,
            Place::Repository { registry, name } => write!(f, "{registry}/{name}:{}", self.tag)?,
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let refused = |reason| RegistryError::Reference { text: text.to_owned(), reason };
        if text.len() > MOST_BYTES {
            return Err(RegistryError::Reference { text: "…".to_owned(), reason: "it is too long" });
        }
        let text = text.strip_prefix(REGISTRY).unwrap_or(text);
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            // A folder's name may have it.
            Some((_, digest)) if digest.starts_with("sha") || !text.starts_with(LAYOUT) => {
                return Err(refused("a digest is `sha256:` and 64 digits of 0-9 and a-f"));
            }
            _ => (text, None),
        };
        if let Some(folder) = rest.strip_prefix(LAYOUT) {
            // A colon may be part of a path, and a tag never has what parts paths.
            let (folder, tag) = match folder.rsplit_once(':') {
                Some((folder, tag)) if is_tag(tag) => (folder, tag),
                Some((_, path)) if path.contains(['/', '\\']) => (folder, LATEST),
                Some(_) => return Err(refused(TAG)),
                None => (folder, LATEST),
            };
            if folder.is_empty() {
                return Err(refused("it names no folder"));
            }
            return Ok(Self { place: Place::Layout(folder.into()), tag: tag.to_owned(), digest });
        }
        let (registry, rest) = rest.split_once('/').ok_or_else(|| refused("it names no registry"))?;
        if !is_registry(registry) {
            return Err(refused(
                "before the first `/` stands the registry: a host with a dot or a port, or `localhost`",
            ));
        }
        let (name, tag) = rest.rsplit_once(':').unwrap_or((rest, LATEST));
        if !is_tag(tag) {
            return Err(refused(TAG));
        }
        if !is_repository(name) {
            return Err(refused("a repository is small letters, digits, `.`, `_` and `-`, in parts with `/` between"));
        }
        let place = Place::Repository { registry: registry.to_owned(), name: name.to_owned() };
        Ok(Self { place, tag: tag.to_owned(), digest })
    }
}

/// Whether this is `sha256:` and its digits: only then may it become part of a path or an address.
pub(super) fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

pub(super) fn is_tag(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    begins_well && text.len() <= 128 && text.bytes().all(is_inner)
}

fn is_repository(text: &str) -> bool {
    let is_end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let is_part = |part: &str| {
        // `..` would climb out of the repository's address.
        is_end(part.bytes().next()) && is_end(part.bytes().last()) && part.bytes().all(is_inner) && !part.contains("..")
    };
    text.len() <= 255 && text.split('/').all(is_part)
}

/// As docker tells registries from its own repositories; a host's name or address, and a port.
fn is_registry(text: &str) -> bool {
    let is_told = text == "localhost" || text.contains(['.', ':']);
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
    is_told && is_plain && text.len() <= 255 && url::Url::parse(&format!("https://{text}/")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_they_are_written() {
        let digest = format!("sha256:{}", "0f".repeat(32));
        let pinned = |text: &str| format!("{text}@{digest}");
        let cases = [
            ("oci:store", "oci:store:latest"),
            ("oci:/a b/store:1.2", "oci:/a b/store:1.2"),
            // A drive's colon is not a tag's.
            ("oci:C:\\store", "oci:C:\\store:latest"),
            ("oci:a@b:x", "oci:a@b:x"),
            ("registry.example/team/score", "registry.example/team/score:latest"),
            ("localhost:5000/score:v1", "localhost:5000/score:v1"),
            ("[::1]:5000/score:v1", "[::1]:5000/score:v1"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), shown);
            assert_eq!(pinned(text).parse::<Reference>().unwrap().to_string(), pinned(shown));
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        let cases = [
            ("", "no registry"),
            ("score:v1", "no registry"),
            ("oci:", "no folder"),
            ("oci:store:v 1", "a tag"),
            ("oci:store:", "a tag"),
            ("oci:a/store:-v", "a tag"),
            ("team/score:v1", "the registry"),
            ("registry.example/../v2", "a repository"),
            ("registry.example/a..b", "a repository"),
            ("registry.example/a/%2e%2e:v1", "a repository"),
            ("registry.example/Score:v1", "a repository"),
            ("registry.example/a:../b", "a tag"),
            ("user:word@registry.example/a", "a digest"),
            ("registry.example:99999/a", "the registry"),
            ("registry.example?x/a", "the registry"),
            ("registry.example/a@sha256:00", "a digest"),
            ("registry.example/a@sha512:00", "a digest"),
            ("oci:a@sha256:../../x", "a digest"),
        ];
        for (text, reason) in cases {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(!is_digest(&format!("sha256:{}", "0F".repeat(32))));
    }
}
