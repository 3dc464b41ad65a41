//! Why a verb was not done on a host.

use std::path::{Path, PathBuf};

use scorehost::fault::Fault;
use scorehost::tls::Unmet;

/// See the module. Texts of hosts are shown as [`plain`] leaves them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// The address is none.
    #[error("`{url}` is no address of a host: {reason}")]
    Url { url: String, reason: &'static str },
    /// Nothing says who asks.
    #[error("there is no token for `{url}`")]
    NoToken { url: String },
    /// The profile cannot be used.
    #[error("the profile `{}` cannot be used: {reason}", path.display())]
    Profile { path: PathBuf, reason: String },
    /// The profile is not the user's alone.
    #[error("the profile `{}` holds a token, and others can read it", path.display())]
    OpenProfile { path: PathBuf },
    /// The connection was not made, or broke.
    #[error("the host at `{url}` does not answer")]
    Unreachable {
        url: String,
        #[source]
        source: std::io::Error,
    },
    /// Somebody answers, and does not show to be that host.
    #[error("the certificate of `{url}` is not to be trusted")]
    Distrusted {
        url: String,
        why: Unmet,
        /// The file of those that are trusted in the place of the system's authorities.
        ca: Option<PathBuf>,
        #[source]
        source: std::io::Error,
    },
    /// Who answers was asked in TLS and speaks plain HTTP, or the other way round.
    #[error("`{url}` does not speak {}", if *is_plain { "TLS" } else { "plain HTTP, but TLS" })]
    OtherScheme { url: String, is_plain: bool },
    /// A file of authorities has none.
    #[error("`{}` has no certificate in PEM", .0.display())]
    NoAuthority(PathBuf),
    /// Nothing can be asked from here.
    #[error("cannot begin to ask")]
    Start {
        #[source]
        source: std::io::Error,
    },
    /// The host says no.
    #[error("{detail}")]
    Answer { status: u16, detail: String, hint: Option<String> },
    /// The host does not know the token.
    #[error("{detail}")]
    Stranger {
        detail: String,
        /// Where the token was found.
        found: String,
    },
    /// Something else answers, or another version.
    #[error("`{url}` does not answer as a scorehost does: {reason}")]
    Strange { url: String, reason: String },
    /// A file here cannot be read or written.
    #[error("cannot {what} `{}`", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file here has a name that no request can hold.
    #[error("the name of `{}` is not UTF-8", .0.display())]
    Name(PathBuf),
    /// There is nothing to send.
    #[error("`{}` holds no file", .0.display())]
    Empty(PathBuf),
    /// Some files were sent, and some not.
    #[error("upload `{upload}` broke off")]
    BrokeOff {
        upload: String,
        #[source]
        source: Box<RemoteError>,
    },
    /// All files were sent, and the job was not posted, or nobody saw it.
    #[error("upload `{upload}` is on the host, and its job is not known to be accepted")]
    Unposted {
        upload: String,
        #[source]
        source: Box<RemoteError>,
    },
    /// A file of the host's would leave the folder.
    #[error("the host names a file `{0}`, which is no path below a folder; nothing was written")]
    Path(String),
    /// A file would be replaced.
    #[error("`{}` is there already", .0.display())]
    Exists(PathBuf),
    /// What came is not as long as the host said.
    #[error("`{path}` came with {came} bytes in the place of {said}")]
    Length { path: String, said: u64, came: u64 },
    /// The connection broke within a file.
    #[error("`{path}` broke off on its way")]
    Lost {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// What was typed does not go together.
    #[error("{text}")]
    Use { text: String, hint: &'static str },
}

impl RemoteError {
    /// Whose fault it is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            RemoteError::Answer { status: 502..=504, .. }
            | RemoteError::Unreachable { .. }
            | RemoteError::Lost { .. } => Fault::Transient,
            RemoteError::Answer { status: 400..=499, .. } => Fault::Caller,
            RemoteError::Answer { .. }
            | RemoteError::Strange { .. }
            | RemoteError::Start { .. }
            | RemoteError::Path(_)
            | RemoteError::Length { .. } => Fault::Host,
            RemoteError::BrokeOff { source, .. } | RemoteError::Unposted { source, .. } => source.fault(),
            _ => Fault::Caller,
        }
    }

    /// Whether the same request may be answered another time. What the host refuses, it would refuse again.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        matches!(
            self,
            RemoteError::Unreachable { .. }
                | RemoteError::Answer { status: 502..=504, .. }
                | RemoteError::Lost { .. }
                | RemoteError::Length { .. }
        )
    }

    /// Whether the host said no to what was asked, and would again: nothing became of it.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, RemoteError::Answer { status: 400..=499, .. })
            && !matches!(self, RemoteError::Answer { status: 408 | 429, .. })
    }

    /// Whether files that were being sent may be sent at another time: once the network is back, there is room, or nobody
    /// else sends them. What the host has of them is of use then.
    pub(super) fn breaks_off(&self) -> bool {
        self.is_worth_a_retry() || matches!(self, RemoteError::Answer { status: 408 | 409 | 429, .. })
    }

    /// A known cure, for the `hint:` line.
    pub(crate) fn hint(&self) -> Option<String> {
        let text = match self {
            RemoteError::Url { .. } => "it has the form https://HOST:PORT or http://HOST:PORT",
            RemoteError::NoToken { .. } => {
                "set SCOREHOST_TOKEN, or write `url: …` and `token: …` to scorehost/config.yml in your config folder"
            }
            RemoteError::OpenProfile { path } => return Some(format!("chmod 600 '{}'", path.display())),
            RemoteError::Unreachable { .. } => "see whether `scorehost serve` runs there; --url names another host",
            RemoteError::Distrusted { why, ca, .. } => return Some(distrust_cure(*why, ca.as_deref())),
            RemoteError::OtherScheme { url, is_plain } => {
                let (from, to) = if *is_plain { ("https://", "http://") } else { ("http://", "https://") };
                return Some(format!("ask {}", url.replacen(from, to, 1)));
            }
            RemoteError::Stranger { found, .. } => {
                return Some(format!(
                    "the token came from {found}; an administrator of the host makes tokens: scorehost token create"
                ));
            }
            RemoteError::NoAuthority(_) => "it begins with `-----BEGIN CERTIFICATE-----`",
            RemoteError::Answer { hint, .. } => return hint.clone(),
            RemoteError::Empty(_) => "hidden files and links out of the folder are not taken",
            RemoteError::BrokeOff { upload, .. } => {
                return Some(format!("--upload {upload} sends the files that are missing"));
            }
            RemoteError::Unposted { upload, .. } => {
                return Some(format!(
                    "`job list` tells whether it is; if not, --upload {upload} posts it without sending the files again"
                ));
            }
            RemoteError::Exists(_) => "--overwrite replaces it, and -p names another folder",
            RemoteError::Use { hint, .. } => hint,
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// What is to be done about a certificate.
fn distrust_cure(why: Unmet, ca: Option<&Path>) -> String {
    match (why, ca) {
        (Unmet::Authority, _) => {
            "the host shows an authority's own certificate, or one that signs itself as one: have its \
             operator serve one that is signed by it and is no authority (basicConstraints CA:FALSE)"
                .to_owned()
        }
        (Unmet::Unknown, None) => {
            "no authority of this system has signed it: SCOREHOST_CA, or `ca: …` in the profile, names \
             the certificate of the one that has; of one that signs itself and is no authority, it itself"
                .to_owned()
        }
        (Unmet::Unknown, Some(ca)) => format!(
            "none of `{}` has signed it: name the authority's certificate there, not the host's; those in between belong \
             behind the host's own, in its --tls-cert",
            ca.display()
        ),
        (Unmet::OtherName, _) => {
            "--url has to say a name or an address that the certificate has (subjectAltName), or the \
             operator has to get one with this name"
                .to_owned()
        }
        (Unmet::Expired, _) => {
            "the host's operator has to renew it, which takes no restart; or the clock here is wrong".to_owned()
        }
        (Unmet::Early, _) => "it begins to be valid later: look at the clocks here and where it was made".to_owned(),
        (Unmet::NotTls | Unmet::Other, _) => {
            "the host's operator has to serve one that is for servers, whole and signed by an authority".to_owned()
        }
    }
}

/// What a host wrote, without what would move a terminal's cursor or colour it; lines stay lines.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_sent_breaks_off_where_it_may_go_on() {
        let answer = |status| RemoteError::Answer { status, detail: String::new(), hint: None };
        for (status, breaks_off) in
            [(400, false), (403, false), (404, false), (408, true), (409, true), (429, true), (500, false), (503, true)]
        {
            assert_eq!(answer(status).breaks_off(), breaks_off, "{status}");
        }
        // Of a request that sends no files, it is an answer for good.
        assert!(answer(409).is_refusal());
    }
}
