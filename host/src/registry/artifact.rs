//! The artifact's JSON: a component → manifest and config, the same bytes for the same component; and back, with
//! everything refused that is not a script's.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RegistryError;
use super::reference::is_digest;
use crate::cache::hex;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
/// Of a config: thousands of interfaces.
const MOST_CONFIG: u64 = 1 << 20;
/// Of the names in a config that anybody would read.
const MOST_NAMES: usize = 10_000;

/// What a component says of itself, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interfaces {
    /// What it offers.
    pub exports: Vec<String>,
    /// What it needs.
    pub imports: Vec<String>,
}

/// What a manifest names, by its digest and its length.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    fn of(media_type: &str, bytes: &[u8]) -> Self {
        let (digest, size) = (digest_of(bytes), bytes.len() as u64);
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new() }
    }
}

/// A manifest of any artifact.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    created: String,
    architecture: String,
    os: String,
    layer_digests: Vec<String>,
    component: Option<Interfaces>,
}

/// `sha256:` and the digits of these bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// What is pushed.
pub struct Artifact<'a> {
    /// The component's bytes.
    pub component: &'a [u8],
    /// What it exports and imports.
    pub interfaces: Interfaces,
    /// Seconds since 1970 that the config tells as its time; 0 where nobody wants another, so that nothing but the
    /// component decides the digest.
    pub created: u64,
}

impl Artifact<'_> {
    /// The manifest and the config, as they are stored.
    pub(super) fn documents(&self) -> (Vec<u8>, Vec<u8>, Manifest) {
        let layer = Descriptor::of(LAYER, self.component);
        // Far beyond year 9999 nothing is written; nobody means it.
        let created = UNIX_EPOCH + Duration::from_secs(self.created.min(253_402_300_799));
        let config = Config {
            created: humantime::format_rfc3339_seconds(created).to_string(),
            architecture: "wasm".to_owned(),
            os: "wasip2".to_owned(),
            layer_digests: vec![layer.digest.clone()],
            component: Some(self.interfaces.clone()),
        };
        let config = json(&config);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config: Descriptor::of(CONFIG, &config),
            layers: vec![layer],
        };
        (json(&manifest), config, manifest)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("names and numbers are JSON; this is a bug")
}

/// A manifest of any kind, its descriptors fit to ask for.
pub(super) fn manifest(digest: &str, bytes: &[u8]) -> Result<Manifest, RegistryError> {
    let refused = |reason: String| RegistryError::NotScript { digest: digest.to_owned(), reason };
    // An index has neither config nor layers, and is told by its type.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let typed: Typed = serde_json::from_slice(bytes).map_err(|e| refused(format!("its manifest is not one: {e}")))?;
    if let Some(other) = typed.media_type.filter(|media_type| media_type != MANIFEST) {
        return Err(refused(format!("its manifest is of type {other:.100?}, not `{MANIFEST}`")));
    }
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|e| refused(format!("its manifest is not one: {e}")))?;
    if manifest.schema_version != 2 {
        return Err(refused(format!("its manifest is of schema {}, not 2", manifest.schema_version)));
    }
    let named = std::iter::once(&manifest.config).chain(&manifest.layers);
    match named.map(|descriptor| &descriptor.digest).find(|digest| !is_digest(digest)) {
        Some(odd) => Err(refused(format!("its manifest names {odd:.100?}, which is no SHA-256 digest"))),
        None => Ok(manifest),
    }
}

/// The only layer of a script, if its manifest is one's; `most` is the largest component that is taken, in bytes.
pub(super) fn layer(digest: &str, manifest: &Manifest, most: u64) -> Result<Descriptor, RegistryError> {
    let refused = |reason: String| Err(RegistryError::NotScript { digest: digest.to_owned(), reason });
    if manifest.config.media_type != CONFIG {
        return refused(format!("its config is of type {:.100?}, not `{CONFIG}`", manifest.config.media_type));
    }
    let [layer] = manifest.layers.as_slice() else {
        return refused(format!("it has {} layers, and a component is one", manifest.layers.len()));
    };
    if layer.media_type != LAYER {
        return refused(format!("its layer is of type {:.100?}, not `{LAYER}`", layer.media_type));
    }
    let bounded = [("its config", &manifest.config, MOST_CONFIG), ("the script", layer, most)];
    match bounded.into_iter().find(|(_, descriptor, most)| descriptor.size > *most) {
        Some((what, _, most)) => Err(RegistryError::TooLarge { what: what.to_owned(), most }),
        None => Ok(layer.clone()),
    }
}

/// What the config says of the component that is this layer.
pub(super) fn interfaces(digest: &str, layer: &Descriptor, bytes: &[u8]) -> Result<Interfaces, RegistryError> {
    let refused = |reason: String| RegistryError::NotScript { digest: digest.to_owned(), reason };
    let config: Config = serde_json::from_slice(bytes).map_err(|e| refused(format!("its config is none: {e}")))?;
    if (config.architecture.as_str(), config.os.as_str()) != ("wasm", "wasip2") {
        return Err(refused(format!(
            "it is for {:.100?} on {:.100?}, not a component, which is for `wasm` on `wasip2`",
            config.architecture, config.os
        )));
    }
    if config.layer_digests != [layer.digest.as_str()] {
        return Err(refused("its config speaks of another layer than its manifest".into()));
    }
    let interfaces = config.component.ok_or_else(|| refused("its config does not say what it imports".into()))?;
    if interfaces.imports.len() + interfaces.exports.len() > MOST_NAMES {
        return Err(refused(format!("its config names more than {MOST_NAMES} interfaces")));
    }
    // They are shown to people.
    let names = || interfaces.imports.iter().chain(&interfaces.exports);
    if names().any(|name| name.len() > 1024 || name.chars().any(char::is_control)) {
        return Err(refused("its config names what no interface is called".into()));
    }
    Ok(interfaces)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact() -> Artifact<'static> {
        let interfaces = Interfaces { exports: vec!["a:b/c@1.0.0".into()], imports: vec![] };
        Artifact { component: b"component", interfaces, created: 0 }
    }

    #[test]
    fn what_is_pushed_is_read_again_and_is_always_the_same() {
        let (manifest_bytes, config, _) = artifact().documents();
        assert_eq!((&manifest_bytes, &config), (&artifact().documents().0, &artifact().documents().1));
        let read = manifest("m", &manifest_bytes).unwrap();
        let layer = layer("m", &read, 9).unwrap();
        assert_eq!(layer.digest, digest_of(b"component"));
        assert_eq!(interfaces("m", &layer, &config).unwrap(), artifact().interfaces);
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        assert_eq!(config["layerDigests"], json!([layer.digest]));
    }

    #[test]
    fn manifests_that_are_not_a_scripts_are_refused() {
        let whole: serde_json::Value = serde_json::from_slice(&artifact().documents().0).unwrap();
        let cases = [
            ("/mediaType", json!("application/vnd.oci.image.index.v1+json"), "image.index"),
            ("/schemaVersion", json!(1), "schema 1"),
            ("/config/digest", json!("sha256:../../secret"), "no SHA-256 digest"),
            ("/layers/0/digest", json!("sha512:00"), "no SHA-256 digest"),
            ("/layers/0/size", json!(-1), "not one"),
            ("/layers/0/size", json!(10), "larger than 9"),
            ("/config/size", json!(MOST_CONFIG + 1), "its config is larger"),
            ("/layers", json!([]), "0 layers"),
            ("/layers", json!([whole["layers"][0], whole["layers"][0]]), "2 layers"),
            ("/layers/0/mediaType", json!("application/octet-stream"), "its layer is of type"),
            ("/config/mediaType", json!("application/vnd.oci.image.config.v1+json"), "its config is of type"),
        ];
        for (at, value, reason) in cases {
            let mut odd = whole.clone();
            *odd.pointer_mut(at).unwrap() = value;
            let read = manifest("m", odd.to_string().as_bytes()).and_then(|m| layer("m", &m, 9));
            let error = read.unwrap_err().to_string();
            assert!(error.contains(reason), "{at}: {error}");
        }
    }

    #[test]
    fn configs_that_are_not_a_components_are_refused() {
        let (_, config, read) = artifact().documents();
        let whole: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let many: Vec<_> = (0..=MOST_NAMES).map(|_| "a:b/c").collect();
        let cases = [
            ("/architecture", json!("amd64"), "not a component"),
            ("/os", json!("wasip1"), "not a component"),
            ("/layerDigests", json!([digest_of(b"other")]), "another layer"),
            ("/component", json!(null), "does not say"),
            ("/component/imports", json!(["\u{1b}[2J"]), "no interface is called"),
            ("/component/imports", json!(many), "more than"),
        ];
        for (at, value, reason) in cases {
            let mut odd = whole.clone();
            *odd.pointer_mut(at).unwrap() = value;
            let error = interfaces("m", &read.layers[0], odd.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{at}: {error}");
        }
    }
}
