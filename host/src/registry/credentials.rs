//! Who asks a registry: from the environment, or from the file that `docker login` writes. Nothing here is ever shown,
//! and no program is started that would know more.

use std::collections::HashMap;
use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::RegistryError;

const USER: &str = "SCOREHOST_REGISTRY_USER";
const PASSWORD: &str = "SCOREHOST_REGISTRY_PASSWORD";
/// As podman and skopeo call it.
const FILE: &str = "REGISTRY_AUTH_FILE";
/// Of that file: thousands of registries.
const MOST_BYTES: u64 = 1 << 20;

/// A name and a password. It has no `Debug`, so that nothing shows it.
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: HashMap<String, Login>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    auth: String,
}

/// Who asks this registry; none asks as nobody.
pub(super) fn find(registry: &str) -> Result<Option<Credentials>, RegistryError> {
    let set = |name| env::var(name).ok().filter(|text| !text.is_empty());
    if let (Some(user), Some(password)) = (set(USER), set(PASSWORD)) {
        return Ok(Some(Credentials { user, password }));
    }
    match set(FILE) {
        Some(path) => of_file(Path::new(&path), registry, true),
        None => {
            let folder = set("DOCKER_CONFIG").map(PathBuf::from);
            let folder = folder.or_else(|| env::home_dir().map(|home| home.join(".docker")));
            folder.map_or(Ok(None), |folder| of_file(&folder.join("config.json"), registry, false))
        }
    }
}

fn of_file(path: &Path, registry: &str, is_named: bool) -> Result<Option<Credentials>, RegistryError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && !is_named => return Ok(None),
        opened => opened,
    };
    let mut bytes = Vec::new();
    let read = file.and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    read.map_err(|source| RegistryError::File { what: "read", path: path.to_owned(), source })?;
    // Not why: serde would quote from it.
    let refused = |reason| RegistryError::Credentials { path: path.to_owned(), reason };
    let logins: Logins = serde_json::from_slice(&bytes).map_err(|_| refused("it is not JSON as docker writes it"))?;
    let named = [registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/")];
    let login = named.iter().find_map(|name| logins.auths.get(name)).filter(|login| !login.auth.is_empty());
    let Some(login) = login else { return Ok(None) };
    let pair = STANDARD.decode(login.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let odd = || refused("its `auth` for this registry is not a name and a password in base64");
    let pair = pair.ok_or_else(odd)?;
    let (user, password) = pair.split_once(':').ok_or_else(odd)?;
    Ok(Some(Credentials { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_of_its_own_registry_only_and_what_is_odd_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let find = |text: &str, registry: &str| {
            std::fs::write(&path, text).unwrap();
            of_file(&path, registry, true).map(|found| found.map(|found| (found.user, found.password)))
        };
        let text = format!(r#"{{"auths": {{"r.example:5000": {{"auth": "{}"}}}}}}"#, STANDARD.encode("me:a:b"));
        assert_eq!(find(&text, "r.example:5000").unwrap(), Some(("me".into(), "a:b".into())));
        assert_eq!(find(&text, "r.example").unwrap(), None);
        // What a helper keeps is not asked for.
        assert_eq!(find(r#"{"auths": {"r": {}}, "credsStore": "x"}"#, "r").unwrap(), None);
        for odd in ["secret", r#"{"auths": {"r": {"auth": "secret!"}}}"#, r#"{"auths": {"r": {"auth": "c2VjcmV0"}}}"#] {
            let error = find(odd, "r").unwrap_err().to_string();
            assert!(error.contains("does not say who asks") && !error.contains("secret"), "{error}");
        }
        assert!(of_file(&folder.path().join("lost"), "r", false).unwrap().is_none());
        assert!(of_file(&folder.path().join("lost"), "r", true).is_err());
    }
}
