//! Signatures as cosign stores them beside an artifact: a manifest at the tag `sha256-DIGITS.sig`, whose layers are
//! payloads that name a digest, each with an ECDSA P-256 signature. One that fits is enough; who holds the key is trusted.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::Deserialize;

use super::artifact::{self, Descriptor};
use super::transfer::blob;
use super::{RegistryError, Store};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const TYPE: &str = "cosign container image signature";
/// Of a payload, which is some hundred bytes.
const MOST_PAYLOAD: u64 = 64 << 10;
/// Of signatures that are tried.
const MOST_SIGNATURES: usize = 64;
/// Of a key's file.
const MOST_KEY: u64 = 64 << 10;
/// What DER writes before the point of a P-256 key: the algorithm, the curve, and a bit string of 65 bytes.
const PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A public key of ECDSA on P-256.
#[derive(Clone, Debug)]
pub struct PublicKey {
    /// Uncompressed: 4 and two coordinates.
    point: Vec<u8>,
}

impl PublicKey {
    /// Reads a key from PEM.
    ///
    /// # Errors
    /// If the file is unreadable, or no such key.
    pub fn read(path: &Path) -> Result<Self, RegistryError> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MOST_KEY).read_to_string(&mut text));
        read.map_err(|source| RegistryError::File { what: "read", path: path.to_owned(), source })?;
        let refused = |reason| RegistryError::Key { path: path.to_owned(), reason };
        let inner = text.split_once("-----BEGIN PUBLIC KEY-----").and_then(|(_, rest)| rest.split_once("-----END"));
        let (inner, _) = inner.ok_or_else(|| refused("it does not begin with `-----BEGIN PUBLIC KEY-----`"))?;
        let inner: String = inner.split_ascii_whitespace().collect();
        let der = STANDARD.decode(inner).map_err(|_| refused("it is not base64"))?;
        let point = der.strip_prefix(&PREFIX).filter(|point| point.len() == 65);
        Ok(Self { point: point.ok_or_else(|| refused("it is not one of ECDSA on P-256"))?.to_owned() })
    }

    fn vouches(&self, payload: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point).verify(payload, signature).is_ok()
    }
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    r#type: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The signatures of a manifest, by whomever.
pub(super) struct Signatures {
    /// Where their own manifest lies.
    pub(super) tag: String,
    pub(super) manifest: Vec<u8>,
    /// What is signed, by its digest.
    pub(super) payloads: Vec<(String, Vec<u8>)>,
}

/// Where the signatures of a manifest lie.
fn tag_of(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

/// Every signature of this manifest, unlooked at; none if there are none.
pub(super) fn find(store: &dyn Store, digest: &str) -> Result<Option<Signatures>, RegistryError> {
    let tag = tag_of(digest);
    let Some(bytes) = store.manifest(&tag)? else { return Ok(None) };
    let manifest = artifact::manifest(&tag, &bytes)?;
    let signed = manifest.layers.iter().filter(|layer| layer.media_type == PAYLOAD).take(MOST_SIGNATURES);
    let payload =
        |layer: &Descriptor| Ok((layer.digest.clone(), blob(store, layer, "a signature's payload", MOST_PAYLOAD)?));
    let payloads = signed.map(payload).collect::<Result<_, RegistryError>>()?;
    Ok(Some(Signatures { tag, manifest: bytes, payloads }))
}

/// Finds a signature of this manifest by this key.
pub(super) fn check(store: &dyn Store, digest: &str, key: &PublicKey) -> Result<(), RegistryError> {
    let unsigned = |reason: String| RegistryError::Unsigned { digest: digest.to_owned(), reason };
    let tag = tag_of(digest);
    let Some(bytes) = store.manifest(&tag)? else {
        return Err(unsigned(format!("there is no `{tag}` beside it")));
    };
    let manifest = artifact::manifest(&tag, &bytes)?;
    if manifest.layers.len() > MOST_SIGNATURES {
        return Err(unsigned(format!("it has {} signatures, more than are tried", manifest.layers.len())));
    }
    let mut last = "its list of signatures is empty";
    for layer in &manifest.layers {
        match fits(store, layer, digest, key)? {
            Ok(()) => return Ok(()),
            Err(reason) => last = reason,
        }
    }
    Err(unsigned(last.to_owned()))
}

/// Whether one signature fits, or why it does not.
fn fits(
    store: &dyn Store,
    layer: &Descriptor,
    digest: &str,
    key: &PublicKey,
) -> Result<Result<(), &'static str>, RegistryError> {
    if layer.media_type != PAYLOAD {
        return Ok(Err("its signature is of an unknown type"));
    }
    let Some(signature) = layer.annotations.get(SIGNATURE).and_then(|text| STANDARD.decode(text).ok()) else {
        return Ok(Err("its signature is not base64"));
    };
    let payload = blob(store, layer, "a signature's payload", MOST_PAYLOAD)?;
    if !key.vouches(&payload, &signature) {
        return Ok(Err("its signature is by another key"));
    }
    // Only now: what nobody vouches for is not read.
    Ok(match serde_json::from_slice::<Payload>(&payload) {
        Err(_) => Err("what is signed is not cosign's payload"),
        Ok(payload) if payload.critical.r#type != TYPE => Err("what is signed is not cosign's payload"),
        Ok(payload) if payload.critical.image.digest != digest => Err("its signature is of another digest"),
        Ok(_) => Ok(()),
    })
}
