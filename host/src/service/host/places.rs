//! Places in object stores that callers may name: those below the operator's.

use std::str::FromStr;

use super::HostError;
use crate::store::{BadUrl, StoreUrl};

/// What stands for the tenant's name in an operator's place.
const TENANT: &str = "{tenant}";

/// A place below which callers may read, or have outputs published: `s3://bucket/{tenant}` is another one for each tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceRoot(String);

/// Why a place is none that can be allowed.
#[derive(Debug, thiserror::Error)]
pub enum BadRoot {
    /// It is no place.
    #[error(transparent)]
    Place(#[from] BadUrl),
    /// A name in braces that stands for nothing, and would be looked for as it is written.
    #[error("`{0}` has braces\nhint: `{TENANT}` stands for a tenant's name, and nothing else for anything")]
    Braces(String),
}

impl FromStr for PlaceRoot {
    type Err = BadRoot;

    fn from_str(text: &str) -> Result<Self, BadRoot> {
        let root = Self(text.to_owned());
        root.of("tenant")?;
        if text.replace(TENANT, "").contains(['{', '}']) {
            return Err(BadRoot::Braces(text.to_owned()));
        }
        Ok(root)
    }
}

impl PlaceRoot {
    fn of(&self, tenant: &str) -> Result<StoreUrl, BadUrl> {
        self.0.replace(TENANT, tenant).parse()
    }
}

/// Refuses a place that is not below one of these.
pub(super) fn allowed(roots: &[PlaceRoot], tenant: &str, place: &StoreUrl, option: &str) -> Result<(), HostError> {
    if roots.iter().any(|root| root.of(tenant).is_ok_and(|root| place.is_within(&root))) {
        return Ok(());
    }
    Err(HostError::Refused(format!(
        "`{place}` is not below a place that this host's operator named with {option}\nhint: look for a slip in its name; \
         send files and download outputs; or have the operator start the host with {option} for it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_place_is_below_its_own_root() {
        let roots = ["s3://bucket/{tenant}/in".parse().unwrap(), "gs://all".parse().unwrap()];
        let is = |tenant: &str, place: &str| allowed(&roots, tenant, &place.parse().unwrap(), "--allow-input").is_ok();
        assert!(is("a", "s3://bucket/a/in/x") && is("a", "s3://bucket/a/in") && is("b", "gs://all/b"));
        assert!(!is("b", "s3://bucket/a/in/x") && !is("a", "s3://bucket/a/inner") && !is("a", "s3://bucket/a"));
        assert!(!is("a", "s3://bucket/%7Btenant%7D/in"));
        assert!("bucket/{tenant}".parse::<PlaceRoot>().is_err());
        let error = "s3://bucket/{tenent}".parse::<PlaceRoot>().unwrap_err().to_string();
        assert!(error.contains("`{tenant}` stands for"), "{error}");
    }
}
