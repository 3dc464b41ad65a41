//! Names of places in object stores: `s3://BUCKET/PREFIX`, and as other stores have it.
//!
//! Goes in: text from a caller or an operator. Comes out: a place that is known to be one, which can be compared with
//! others. Nothing is asked over the network.

use std::fmt;
use std::str::FromStr;

use object_store::ObjectStoreScheme;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use url::Url;

/// Bytes of a place's text: a key has at most 1,024.
const MOST: usize = 2048;

/// Schemes of stores. A store of one's own that speaks S3 is `s3://` with `AWS_ENDPOINT_URL`.
const SCHEMES: [&str; 8] = ["s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"];

/// A place in an object store: what begins with a prefix, or one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct StoreUrl(Parts);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    url: Url,
    path: Path,
}

/// Text that names no place in a store that is known.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{shown}` is no place in an object store: {reason}\nhint: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
)]
pub struct BadUrl {
    shown: String,
    reason: String,
}

impl StoreUrl {
    /// Whether text looks like a place in a store and not like a path of this machine.
    pub fn is_meant(text: &str) -> bool {
        text.split_once("://").is_some_and(|(scheme, _)| scheme != "file" && !scheme.contains(['/', '\\']))
    }

    /// Whether this is `root` or lies below it.
    pub fn is_within(&self, root: &StoreUrl) -> bool {
        let same_store = |a: &Url, b: &Url| {
            (a.scheme(), a.username(), a.host_str(), a.port()) == (b.scheme(), b.username(), b.host_str(), b.port())
        };
        // By whole parts of the key: `photos-2` is not below `photos`.
        same_store(self.url(), root.url()) && self.0.path.prefix_matches(&root.0.path)
    }

    pub(super) fn url(&self) -> &Url {
        &self.0.url
    }
}

impl FromStr for StoreUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let refuse = |reason: String| {
            let shown = text.chars().take(256).map(|c| if c.is_control() { '�' } else { c }).collect();
            BadUrl { shown, reason }
        };
        if text.len() > MOST {
            return Err(refuse(format!("it is over {MOST} bytes")));
        }
        if !text.contains("://") {
            return Err(refuse("it does not begin with a store's `s3://` or the like".into()));
        }
        let url = Url::parse(text).map_err(|e| refuse(e.to_string()))?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(refuse(format!("`{}:` is no store that is known", url.scheme())));
        }
        // `abfss://CONTAINER@ACCOUNT` has the container there; secrets come from the environment alone.
        if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("it has a password, a query or a fragment".into()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(refuse("it names no bucket".into()));
        }
        let (_, path) = ObjectStoreScheme::parse(&url).map_err(|e| refuse(e.to_string()))?;
        Ok(Self(Parts { url, path }))
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = BadUrl;

    fn try_from(text: String) -> Result<Self, BadUrl> {
        text.parse()
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> StoreUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_place_is_below_another_by_whole_parts_of_the_key() {
        let root = place("s3://bucket/photos");
        for below in ["s3://bucket/photos", "s3://bucket/photos/", "s3://bucket/photos/2026/a.jpg"] {
            assert!(place(below).is_within(&root), "{below}");
        }
        let outside = [
            "s3://bucket/photos-2",
            "s3://bucket",
            "s3://other/photos",
            "gs://bucket/photos",
            "s3://bucket/photos/../secrets",
            "s3://bucket:8080/photos",
            "s3://photos@bucket/photos",
        ];
        for outside in outside {
            assert!(!outside.parse().is_ok_and(|place: StoreUrl| place.is_within(&root)), "{outside}");
        }
        assert!(place("s3://bucket/a").is_within(&place("s3://bucket")));
    }

    #[test]
    fn what_is_no_place_is_refused_in_words() {
        let long = format!("s3://bucket/{}", "x".repeat(MOST));
        for (text, reason) in [
            ("photos", "does not begin"),
            ("/data/photos", "does not begin"),
            ("https://example.com/photos", "`https:` is no store"),
            ("file:///etc", "`file:` is no store"),
            ("memory:///a", "`memory:` is no store"),
            ("s3://user:word@bucket/a", "a password"),
            ("s3://bucket/a?versionId=1", "a query"),
            ("s3:///a", "no bucket"),
            ("s3://bucket/a%2F%2e%2e%2Fb", ".."),
            (&long, "over 2048 bytes"),
        ] {
            let error = text.parse::<StoreUrl>().unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains("hint: "), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_of_this_machine_is_not_taken_for_a_place() {
        assert!(StoreUrl::is_meant("s3://bucket/a") && StoreUrl::is_meant("http://bucket"));
        for path in ["photos", "/data/photos", "a/b://c", "C:\\photos", "file:///data"] {
            assert!(!StoreUrl::is_meant(path), "{path}");
        }
    }
}
