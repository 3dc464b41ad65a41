//! Scripts in registries and layout folders, as OCI artifacts of the WebAssembly community's format: a manifest, a config
//! that tells what the component imports and exports, and one layer, which is the component.
//!
//! What goes in: a reference, a component's bytes and its interfaces. What comes out: a digest; or, of a reference, an
//! [`Offer`]: what the config says, before the layer is asked for, and then the layer's bytes. Sizes and waits are bounded,
//! and no byte is passed on that its digest does not vouch for. Whether the interfaces fit is asked elsewhere, and so
//! whether the component keeps to what its config says.

mod artifact;
mod client;
mod credentials;
mod layout;
mod reference;
mod signature;
mod transfer;

pub use artifact::{Artifact, Interfaces};
pub use reference::Reference;
pub use signature::PublicKey;
pub use transfer::{Offer, look, push, vouched};

use std::io::Read;
use std::path::PathBuf;

use crate::fault::Fault;

/// Of a manifest or a layout's index, which is what registries take.
const MOST_MANIFEST: u64 = 4 << 20;

/// Where artifacts lie: a registry's repository, or a layout folder.
trait Store {
    /// The manifest of a tag or a digest, at most [`MOST_MANIFEST`] bytes; none if there is no such.
    fn manifest(&self, tag_or_digest: &str) -> Result<Option<Vec<u8>>, RegistryError>;
    /// A blob's bytes, whatever they are: the caller counts and digests them.
    fn blob(&self, digest: &str) -> Result<Box<dyn Read>, RegistryError>;
    /// Where a blob or a manifest lies, for people.
    fn place(&self, digest: &str) -> String;
    /// Puts a blob there, if it is not.
    fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), RegistryError>;
    /// Puts a manifest there, and lets the tag mean it.
    fn put_manifest(&self, tag: &str, digest: &str, bytes: &[u8]) -> Result<(), RegistryError>;
}

/// What is done about a place that has not kept what was put there.
const PUSH_AGAIN: &str = "nothing of it was used; whoever has the script puts it there again: scorehost push";

/// Why an artifact is not pushed or pulled.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A reference is none.
    #[error(
        "`{text}` names no artifact: {reason}\nhint: write REGISTRY/REPOSITORY:TAG or oci:FOLDER:TAG, with @sha256:DIGEST to pin it"
    )]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What is pushed is named by a digest.
    #[error("`{0}` names what is pushed by its digest\nhint: name a tag; the digest is computed and printed")]
    PushByDigest(String),
    /// Plain HTTP leaves the machine.
    #[error(
        "`{0}` is not this machine, and is asked over https only\nhint: --plain-http is for a registry on localhost"
    )]
    Plain(String),
    /// A file or a folder of this machine cannot be used.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder is no layout.
    #[error("`{}` is no OCI image layout: {reason}", path.display())]
    Layout {
        /// Which.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is no such artifact.
    #[error("there is no `{0}`\nhint: look at its name, its tag and its digest; `scorehost push` puts a script there")]
    NotFound(String),
    /// There is no such blob, though a manifest or an index names it.
    #[error("there is no `{0}`, which belongs to what was asked for\nhint: {PUSH_AGAIN}")]
    Missing(String),
    /// The registry cannot be asked, or breaks off.
    #[error("`{registry}` cannot be asked")]
    Http {
        /// Which.
        registry: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// What comes breaks off, or comes too slowly.
    #[error("`{what}` broke off")]
    Broken {
        /// Which blob or manifest.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The registry wants to know who asks, and does not let this one.
    #[error(
        "`{registry}` denies it: {message}\nhint: `docker login` or SCOREHOST_REGISTRY_USER and SCOREHOST_REGISTRY_PASSWORD tell who asks"
    )]
    Denied {
        /// Which.
        registry: String,
        /// What it says.
        message: String,
    },
    /// The registry answers with an error.
    #[error("`{registry}` answers {status}: {message}")]
    Status {
        /// Which.
        registry: String,
        /// The status code.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The registry's answer is none of its protocol.
    #[error("`{registry}` does not speak as registries do: {reason}")]
    Protocol {
        /// Which.
        registry: String,
        /// What is odd.
        reason: String,
    },
    /// Something is larger than is taken.
    #[error("{what} is larger than {most} bytes, which is the most that is taken")]
    TooLarge {
        /// What.
        what: String,
        /// The bound.
        most: u64,
    },
    /// Bytes are not those that were named.
    #[error(
        "`{what}` is damaged, or was changed: it is not what its digest and length say, {reason}\nhint: {PUSH_AGAIN}"
    )]
    Mismatch {
        /// Which.
        what: String,
        /// What differs.
        reason: String,
    },
    /// A manifest or a config is not a script's.
    #[error("`{digest}` is not a script: {reason}")]
    NotScript {
        /// The manifest.
        digest: String,
        /// Why not.
        reason: String,
    },
    /// There is no signature by the key.
    #[error(
        "`{digest}` is not signed with the required key: {reason}\nhint: `cosign sign --key` signs it; without --require-signature nobody looks"
    )]
    Unsigned {
        /// The manifest.
        digest: String,
        /// What was found.
        reason: String,
    },
    /// The key is none.
    #[error("`{}` is no public key: {reason}\nhint: `cosign generate-key-pair` or `openssl ec -pubout` writes one of ECDSA P-256 as PEM", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// The file that says who asks is unreadable.
    #[error("`{}` does not say who asks: {reason}", path.display())]
    Credentials {
        /// Which.
        path: PathBuf,
        /// Why not; never what is in it.
        reason: &'static str,
    },
}

impl RegistryError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            RegistryError::Http { .. } | RegistryError::Broken { .. } => Fault::Transient,
            RegistryError::Status { status, .. } if *status == 429 || *status >= 500 => Fault::Transient,
            RegistryError::File { what: "write", .. } => Fault::Host,
            _ => Fault::Caller,
        }
    }
}
