//! Pushing and pulling, wherever to and from: in which order things are asked for, and how much is taken of them.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::artifact::{self, Artifact, Descriptor, Interfaces};
use super::client::Client;
use super::layout::Layout;
use super::reference::Place;
use super::{PublicKey, Reference, RegistryError, Store, signature};
use crate::cache::hex;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;
/// How long anything may take to come, before its size is looked at,
const PATIENCE: Duration = Duration::from_secs(60);
/// and how many bytes have to come in each second after that.
const SLOWEST: u64 = 64 << 10;

/// Pushes an artifact; what comes out is the reference that pins it. `is_plain` asks a registry of this machine by HTTP.
///
/// # Errors
/// If the reference is one by digest, or its place does not take it.
pub fn push(reference: &Reference, artifact: &Artifact<'_>, is_plain: bool) -> Result<Reference, RegistryError> {
    if reference.digest.is_some() {
        return Err(RegistryError::PushByDigest(reference.to_string()));
    }
    let store: Box<dyn Store> = match &reference.place {
        Place::Layout(folder) => Box::new(Layout::make(folder)?),
        Place::Repository { registry, name } => Box::new(Client::new(registry, name, is_plain)?),
    };
    let (bytes, config, manifest) = artifact.documents();
    let digest = artifact::digest_of(&bytes);
    for layer in &manifest.layers {
        store.put_blob(&layer.digest, artifact.component)?;
    }
    store.put_blob(&manifest.config.digest, &config)?;
    // Last: a manifest is never there without what it names.
    store.put_manifest(&reference.tag, &digest, &bytes)?;
    Ok(reference.pinned(&digest))
}

/// The tag that names a manifest in the folder of [`Offer::vouch`].
const VOUCHED: &str = "script";

/// A script that is there, before its component is fetched.
pub struct Offer {
    store: Box<dyn Store>,
    layer: Descriptor,
    /// The manifest, and the config that it names.
    documents: [(String, Vec<u8>); 2],
    /// Its reference, with the digest that a tag named.
    pub reference: Reference,
    /// What its config says that it exports and imports, which its component may not keep to.
    pub interfaces: Interfaces,
}

/// Looks at an artifact: its manifest, its signature where a key is given, and its config. `most` is the largest
/// component that is taken, in bytes; `is_plain` as for [`push`].
///
/// # Errors
/// If it is not there, is not what its digest says, is not signed, or is no script.
pub fn look(reference: &Reference, key: Option<&PublicKey>, most: u64, is_plain: bool) -> Result<Offer, RegistryError> {
    let store: Box<dyn Store> = match &reference.place {
        Place::Layout(folder) => Box::new(Layout::open(folder)?),
        Place::Repository { registry, name } => Box::new(Client::new(registry, name, is_plain)?),
    };
    let bytes = store.manifest(reference.wanted())?.ok_or_else(|| RegistryError::NotFound(reference.to_string()))?;
    let digest = artifact::digest_of(&bytes);
    if let Some(wanted) = reference.digest.as_ref().filter(|wanted| **wanted != digest) {
        let reason = format!("it digests to `{digest}`");
        return Err(RegistryError::Mismatch { what: store.place(wanted), reason });
    }
    if let Some(key) = key {
        signature::check(&*store, &digest, key)?;
    }
    let manifest = artifact::manifest(&digest, &bytes)?;
    let layer = artifact::layer(&digest, &manifest, most)?;
    let config = blob(&*store, &manifest.config, "its config", manifest.config.size)?;
    let interfaces = artifact::interfaces(&digest, &layer, &config)?;
    let documents = [(digest.clone(), bytes), (manifest.config.digest, config)];
    Ok(Offer { store, layer, documents, reference: reference.pinned(&digest), interfaces })
}

/// Looks for a signature by this key in what [`Offer::vouch`] wrote; what comes out is the digest of the component that it
/// vouches for.
///
/// # Errors
/// If there is none, or the folder is not what `vouch` writes: it may be a stranger's.
pub fn vouched(folder: &Path, key: &PublicKey, most: u64) -> Result<String, RegistryError> {
    let offer = look(&Reference::in_layout(folder, VOUCHED), Some(key), most, false)?;
    Ok(offer.layer.digest)
}

impl Offer {
    /// The component's size in bytes.
    pub fn size(&self) -> u64 {
        self.layer.size
    }

    /// The component's digest.
    pub fn digest(&self) -> &str {
        &self.layer.digest
    }

    /// Writes what vouches for the component, without it, to a new layout folder: its manifest, its config, and the
    /// signatures that lie beside it. False if there are none, and then nothing is written.
    ///
    /// # Errors
    /// If the signatures do not come or are too many, or the folder cannot be made.
    pub fn vouch(&self, folder: &Path) -> Result<bool, RegistryError> {
        let [(digest, manifest), (config_digest, config)] = &self.documents;
        let Some(signatures) = signature::find(&*self.store, digest)? else { return Ok(false) };
        let layout = Layout::make(folder)?;
        layout.put_blob(config_digest, config)?;
        layout.put_manifest(VOUCHED, digest, manifest)?;
        for (digest, payload) in &signatures.payloads {
            layout.put_blob(digest, payload)?;
        }
        layout.put_manifest(&signatures.tag, &artifact::digest_of(&signatures.manifest), &signatures.manifest)?;
        Ok(true)
    }

    /// Fetches the component. What was written is to be thrown away if this fails.
    ///
    /// # Errors
    /// If it does not come, is not what its digest says, or cannot be written.
    pub fn fetch(&self, into: &mut dyn Write) -> Result<(), RegistryError> {
        let digest = &self.layer.digest;
        verified(self.store.blob(digest)?, (&self.layer, &self.store.place(digest)), into)
    }
}

/// A small blob, if it is what its descriptor says.
pub(super) fn blob(
    store: &dyn Store,
    descriptor: &Descriptor,
    what: &str,
    most: u64,
) -> Result<Vec<u8>, RegistryError> {
    if descriptor.size > most {
        return Err(RegistryError::TooLarge { what: what.to_owned(), most });
    }
    let mut bytes = Vec::new();
    verified(store.blob(&descriptor.digest)?, (descriptor, &store.place(&descriptor.digest)), &mut bytes)?;
    Ok(bytes)
}

/// Passes on as many bytes as the descriptor says, and tells whether they are those; `what` is where they come from.
fn verified(
    from: impl Read,
    (descriptor, what): (&Descriptor, &str),
    into: &mut dyn Write,
) -> Result<(), RegistryError> {
    let mut sha = Sha256::new();
    let mut write = |bytes: &[u8]| {
        sha.update(bytes);
        into.write_all(bytes)
    };
    // One byte more tells that there is more.
    let bytes = copy(from.take(descriptor.size.saturating_add(1)), what, &mut write)?;
    if bytes != descriptor.size {
        let is = if bytes > descriptor.size { "more" } else { "fewer" };
        let reason = format!("it has {is} than {} bytes", descriptor.size);
        return Err(RegistryError::Mismatch { what: what.to_owned(), reason });
    }
    let found = format!("sha256:{}", hex(&sha.finalize()));
    if found == descriptor.digest {
        return Ok(());
    }
    Err(RegistryError::Mismatch { what: what.to_owned(), reason: format!("it digests to `{found}`") })
}

/// Everything there is, if it is not more than this.
pub(super) fn read_bounded(from: impl Read, what: &str, most: u64) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    let mut keep = |part: &[u8]| {
        bytes.extend_from_slice(part);
        Ok(())
    };
    if copy(from.take(most + 1), what, &mut keep)? > most {
        return Err(RegistryError::TooLarge { what: what.to_owned(), most });
    }
    Ok(bytes)
}

/// Passes bytes on, as long as they come fast enough; how many they were.
fn copy(
    mut from: impl Read,
    what: &str,
    write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<u64, RegistryError> {
    let broken = |source| RegistryError::Broken { what: what.to_owned(), source };
    let began = Instant::now();
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(broken)?,
        };
        if read == 0 {
            return Ok(bytes);
        }
        bytes += read as u64;
        write(&buffer[..read]).map_err(broken)?;
        if is_too_slow(began.elapsed(), bytes) {
            return Err(broken(std::io::Error::other("it comes too slowly")));
        }
    }
}

fn is_too_slow(elapsed: Duration, bytes: u64) -> bool {
    elapsed > PATIENCE + Duration::from_secs(bytes / SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drip_is_not_waited_for() {
        assert!(!is_too_slow(Duration::from_secs(60), 1));
        assert!(is_too_slow(Duration::from_secs(61), 1));
        assert!(!is_too_slow(Duration::from_secs(600), 256 << 20));
    }

    #[test]
    fn no_more_is_taken_than_was_told() {
        let descriptor = |bytes: &[u8], size| Descriptor {
            media_type: String::new(),
            digest: artifact::digest_of(bytes),
            size,
            annotations: Default::default(),
        };
        let check = |descriptor: &Descriptor, from: &mut dyn Read| {
            let mut taken = Vec::new();
            let done = verified(from, (descriptor, "x"), &mut taken);
            (done.err().map(|e| e.to_string()).unwrap_or_default(), taken.len())
        };
        assert_eq!(check(&descriptor(b"abc", 3), &mut &b"abc"[..]), (String::new(), 3));
        let (error, taken) = check(&descriptor(b"abc", 3), &mut std::io::repeat(b'a'));
        assert!(error.contains("more than 3 bytes") && taken == 4, "{error}");
        assert!(check(&descriptor(b"abc", 3), &mut &b"ab"[..]).0.contains("fewer"));
        assert!(check(&descriptor(b"abc", 3), &mut &b"abd"[..]).0.contains("digests to"));
        assert!(read_bounded(std::io::repeat(0), "x", 1 << 20).is_err());
        assert_eq!(read_bounded(&b"abc"[..], "x", 3).unwrap(), b"abc");
    }
}
