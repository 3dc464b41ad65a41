//! TLS, by rustls with ring. What goes in: files of a certificate and its key, and connections. What comes out:
//! encrypted streams. Who calls is no matter of this: callers show tokens, not certificates.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, InvalidMessage, OtherError, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
pub use tokio_rustls::server::TlsStream;

/// Of a file of certificates or a key: a hundred times what a chain takes.
const MOST_BYTES: u64 = 1 << 20;
/// How often files are looked at for having changed.
const LOOK: Duration = Duration::from_secs(1);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not PEM.
    #[error("`{}` is not PEM", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// A file has no such thing.
    #[error("`{}` has no {what}\nhint: PEM that begins with `-----BEGIN {begins}`", path.display())]
    Lacking {
        /// Which.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
        /// How it would begin.
        begins: &'static str,
    },
    /// The key is of another certificate, or neither can be used.
    #[error("the certificate in `{}` cannot be served with the key in `{}`", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Makes ring what this process computes TLS with. Before the first connection of any kind; again is no harm.
pub fn install() {
    // Only that there is one already is told, and then it is this.
    let _ = ring::default_provider().install_default();
}

/// What a caller is told that speaks plain HTTP where TLS is spoken.
pub const SPEAKS_TLS: &str = "this port speaks https, not http";

/// Why no connection was made to who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// Whoever answers does not speak TLS: plain HTTP, mostly.
    NotTls,
    /// The certificate is an authority's own.
    Authority,
    /// No authority that is trusted has signed the certificate.
    Unknown,
    /// The certificate is for other names.
    OtherName,
    /// The certificate was for a time that is over.
    Expired,
    /// The certificate is for a time to come.
    Early,
    /// The certificate is not to be trusted for another reason.
    Other,
}

/// Whether a connection failed since the other side spoke no TLS, or showed a certificate that is not to be trusted.
pub fn unmet(error: &(dyn Error + 'static)) -> Option<Unmet> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(reason)) => return Some(reason_of(reason)),
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => return Some(Unmet::NotTls),
            _ => {}
        }
        // What an `io::Error` holds is not its source.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = held.map(|held| held as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

fn reason_of(reason: &CertificateError) -> Unmet {
    match reason {
        CertificateError::UnknownIssuer => Unmet::Unknown,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Unmet::OtherName,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Unmet::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Unmet::Early,
        // A name of a crate below rustls, which has none of its own for this.
        CertificateError::Other(OtherError(inner)) if format!("{inner:?}") == "CaUsedAsEndEntity" => Unmet::Authority,
        _ => Unmet::Other,
    }
}

/// Whether callers would take a host's certificate for one, whatever its names and whoever has signed it.
fn trouble(certificate: &CertificateDer<'_>) -> Option<Unmet> {
    // As a caller looks at it who trusts it: what is wrong then is wrong with itself.
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone().into_owned()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), Arc::new(ring::default_provider()))
        .build()
        .ok()?;
    let name = ServerName::try_from("host.invalid").ok()?;
    let verified = verifier.verify_server_cert(certificate, &[], &name, &[], UnixTime::now());
    let trouble = verified.err().and_then(|error| unmet(&error));
    trouble.filter(|trouble| matches!(trouble, Unmet::Authority | Unmet::Expired | Unmet::Early))
}

/// A certificate with its key, read again when the files change.
pub struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    latest: Mutex<Latest>,
}

struct Latest {
    config: Arc<ServerConfig>,
    trouble: Option<Unmet>,
    /// What the files were when they were last read, whether or not they could be used.
    seen: [Option<(SystemTime, u64)>; 2],
    looked: Instant,
}

impl Identity {
    /// Reads a certificate, with those that it leads to the authority by, and its key; both PEM.
    ///
    /// # Errors
    /// If one is not there, or they do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        // Before: what changes meanwhile is read again.
        let seen = [seen(certificate), seen(key)];
        let (config, trouble) = config(certificate, key)?;
        let latest = Mutex::new(Latest { config, trouble, seen, looked: Instant::now() });
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), latest })
    }

    /// Why callers will not take the certificate, whoever signed it: it is an authority's, or not of this time.
    pub fn trouble(&self) -> Option<Unmet> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).trouble
    }

    /// What the next connection is encrypted with. Files that have changed and cannot be used are told once, and what
    /// was read before stays.
    pub fn acceptor(&self) -> (TlsAcceptor, Option<Result<(), TlsError>>) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = None;
        if latest.looked.elapsed() >= LOOK {
            latest.looked = Instant::now();
            let seen = [seen(&self.certificate), seen(&self.key)];
            if seen != latest.seen {
                latest.seen = seen;
                let read = config(&self.certificate, &self.key);
                changed = Some(read.map(|(config, trouble)| (latest.config, latest.trouble) = (config, trouble)));
            }
        }
        (Arc::clone(&latest.config).into(), changed)
    }
}

fn seen(path: &Path) -> Option<(SystemTime, u64)> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.modified().ok()?, facts.len()))
}

fn config(certificate: &Path, key: &Path) -> Result<(Arc<ServerConfig>, Option<Unmet>), TlsError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { path, source }
    };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<_, _>>().map_err(pem(certificate))?;
    let Some(own) = chain.first() else {
        return Err(TlsError::Lacking { path: certificate.to_owned(), what: "certificate", begins: "CERTIFICATE" });
    };
    let trouble = trouble(own);
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|source| match source {
        pem::Error::NoItemsFound => {
            TlsError::Lacking { path: key.to_owned(), what: "private key", begins: "PRIVATE KEY" }
        }
        source => pem(key)(source),
    })?;
    let unfit = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().map_err(unfit)?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, secret).map_err(unfit)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), trouble))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let done = File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes));
    done.map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_certificate_and_key_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let empty = file("empty.pem", "");
        let torn = file("torn.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
        // Empty contents: PEM, but no certificate.
        let hollow = file("hollow.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let key = file("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let refused = |certificate: &Path, key: &Path| Identity::read(certificate, key).err().unwrap();
        assert!(matches!(refused(&folder.path().join("lost"), &key), TlsError::Read { .. }));
        assert!(matches!(refused(&empty, &key), TlsError::Lacking { what: "certificate", .. }));
        assert!(matches!(refused(&torn, &key), TlsError::Pem { .. }));
        assert!(matches!(refused(&hollow, &empty), TlsError::Lacking { what: "private key", .. }));
        assert!(matches!(refused(&hollow, &key), TlsError::Pair { .. }));
    }

    #[test]
    fn distrust_is_found_however_deep_it_lies() {
        let distrust = || rustls::Error::InvalidCertificate(CertificateError::Expired);
        assert_eq!(unmet(&std::io::Error::other(std::io::Error::other(distrust()))), Some(Unmet::Expired));
        assert_eq!(unmet(&std::io::Error::other(rustls::Error::DecryptError)), None);
    }
}
