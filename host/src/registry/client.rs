//! A registry's repository, over HTTP as the OCI distribution specification has it: https, or http on this machine.
//!
//! Written here and not taken from a library, since what a hostile registry answers has to be bounded before it is kept,
//! and where it leads has to be looked at before it is followed.

use std::io::Read;
use std::sync::Mutex;
use std::time::Duration;

use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::artifact::MANIFEST;
use super::credentials::{self, Credentials};
use super::transfer::read_bounded;
use super::{MOST_MANIFEST, RegistryError, Store};
use crate::tls;

const CONNECT: Duration = Duration::from_secs(10);
/// With nothing read for so long, the connection is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// A registry sends on to its blobs' store once or twice.
const MOST_REDIRECTS: usize = 5;
/// Of a token's JSON: tokens of whole organisations are some kilobytes.
const MOST_TOKEN: u64 = 64 << 10;
/// Of what an error says.
const MOST_MESSAGE: u64 = 4 << 10;

pub(super) struct Client {
    http: Http,
    registry: String,
    /// Ends with `/`.
    base: Url,
    credentials: Option<Credentials>,
    /// What the last challenge was answered with, for the next request.
    answer: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Problems {
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    message: Option<String>,
    code: Option<String>,
}

impl Client {
    /// A repository's client; nothing is asked yet. Plain HTTP is for this machine only.
    pub(super) fn new(registry: &str, repository: &str, is_plain: bool) -> Result<Self, RegistryError> {
        let scheme = if is_plain { "http" } else { "https" };
        let odd = |_| RegistryError::Reference { text: registry.to_owned(), reason: "it names no registry" };
        let base = Url::parse(&format!("{scheme}://{registry}/v2/{repository}/")).map_err(odd)?;
        if is_plain && !is_here(&base) {
            return Err(RegistryError::Plain(registry.to_owned()));
        }
        tls::install();
        let first = base.clone();
        let mut http = Http::builder()
            .redirect(Policy::custom(move |attempt| followed(&first, attempt)))
            .connect_timeout(CONNECT)
            .timeout(SILENCE)
            .user_agent(concat!("scorehost/", env!("CARGO_PKG_VERSION")));
        if is_here(&base) {
            http = http.no_proxy();
        }
        if is_plain {
            // To read the system's authorities takes a while, and nobody would ask them.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|source| failed(registry, source))?;
        let credentials = credentials::find(registry)?;
        Ok(Self { http, registry: registry.to_owned(), base, credentials, answer: Mutex::new(None) })
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.base.join(path).map_err(|_| self.odd(format!("`{path:.100}` is no address")))
    }

    fn odd(&self, reason: impl Into<String>) -> RegistryError {
        RegistryError::Protocol { registry: self.registry.clone(), reason: reason.into() }
    }

    /// Sends what `make` makes; once more with an answer where the registry asks who it is.
    fn send(&self, make: impl Fn() -> RequestBuilder) -> Result<Response, RegistryError> {
        let failed = |source| failed(&self.registry, source);
        let known = self.answer.lock().ok().and_then(|answer| answer.clone());
        let request = match known {
            Some(answer) => make().header(AUTHORIZATION, answer),
            None => make(),
        };
        let response = request.send().map_err(failed)?;
        if response.status() != StatusCode::UNAUTHORIZED || !is_same(response.url(), &self.base) {
            return Ok(response);
        }
        let Some(answer) = self.answer(&response)? else { return Ok(response) };
        if let Ok(mut kept) = self.answer.lock() {
            *kept = Some(answer.clone());
        }
        make().header(AUTHORIZATION, answer).send().map_err(failed)
    }

    /// What a challenge is answered with; none if it is none, or nobody asks who would need a name.
    fn answer(&self, response: &Response) -> Result<Option<HeaderValue>, RegistryError> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = headers.filter_map(Challenge::read).next() else { return Ok(None) };
        let text = match (challenge.scheme, &self.credentials) {
            (Scheme::Basic, None) => return Ok(None),
            (Scheme::Basic, Some(who)) => basic(who),
            (Scheme::Bearer, who) => format!("Bearer {}", self.token(&challenge, who.as_ref())?),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| self.odd("its token is no text"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn token(&self, challenge: &Challenge, who: Option<&Credentials>) -> Result<String, RegistryError> {
        let realm = challenge.get("realm").and_then(|realm| Url::parse(realm).ok());
        let mut realm = realm.ok_or_else(|| self.odd("it does not say where tokens are given"))?;
        if !is_allowed(&self.base, &realm) {
            return Err(self.odd("it would have tokens fetched unencrypted, or inside this network"));
        }
        for name in ["service", "scope"] {
            if let Some(value) = challenge.get(name) {
                realm.query_pairs_mut().append_pair(name, value);
            }
        }
        let mut request = self.http.get(realm);
        if let Some(who) = who {
            request = request.basic_auth(&who.user, Some(&who.password));
        }
        let response = self.expect(request.send().map_err(|source| failed(&self.registry, source))?)?;
        let bytes = read_bounded(response, "the registry's token", MOST_TOKEN)?;
        // Not why: serde would quote from it.
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| self.odd("its token is not JSON"))?;
        token.token.or(token.access_token).ok_or_else(|| self.odd("it gives no token"))
    }

    /// The response, if it is a success.
    fn expect(&self, response: Response) -> Result<Response, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let registry = self.registry.clone();
        let message = message(response);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied { registry, message },
            _ => RegistryError::Status { registry, status: status.as_u16(), message },
        })
    }
}

impl Store for Client {
    fn manifest(&self, tag_or_digest: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let url = self.url(&format!("manifests/{tag_or_digest}"))?;
        let response = self.send(|| self.http.get(url.clone()).header(ACCEPT, MANIFEST))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read_bounded(self.expect(response)?, "the manifest", MOST_MANIFEST).map(Some)
    }

    fn blob(&self, digest: &str) -> Result<Box<dyn Read>, RegistryError> {
        // A digest begins as a scheme does, so that it never stands first.
        let url = self.url(&format!("blobs/{digest}"))?;
        let response = self.send(|| self.http.get(url.clone()))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(RegistryError::Missing(self.place(digest)));
        }
        Ok(Box::new(self.expect(response)?))
    }

    fn place(&self, digest: &str) -> String {
        format!("{} at {}", digest, self.registry)
    }

    fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        if self.send(|| self.http.request(Method::HEAD, url.clone()))?.status().is_success() {
            return Ok(());
        }
        let begin = self.url("blobs/uploads/")?;
        let begun = self.expect(self.send(|| self.http.post(begin.clone()).body(Vec::new()))?)?;
        let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        let location = location.and_then(|location| begun.url().join(location).ok());
        let mut location = location.ok_or_else(|| self.odd("it does not say where a blob is sent to"))?;
        if !is_same(&location, &self.base) {
            return Err(self.odd("it would have a blob sent elsewhere"));
        }
        location.query_pairs_mut().append_pair("digest", digest);
        let put = || {
            let request = self.http.put(location.clone()).header(CONTENT_TYPE, "application/octet-stream");
            request.timeout(SILENCE * 10).body(bytes.to_vec())
        };
        self.expect(self.send(put)?).map(drop)
    }

    fn put_manifest(&self, tag: &str, digest: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{tag}"))?;
        let put = || self.http.put(url.clone()).header(CONTENT_TYPE, MANIFEST).body(bytes.to_vec());
        let response = self.expect(self.send(put)?)?;
        let told = response.headers().get("docker-content-digest").and_then(|told| told.to_str().ok());
        match told.filter(|told| *told != digest) {
            Some(told) => Err(self.odd(format!("it keeps `{digest}` as {told:.100?}"))),
            None => Ok(()),
        }
    }
}

fn failed(registry: &str, source: reqwest::Error) -> RegistryError {
    // An address may have a blob store's signature in it.
    RegistryError::Http { registry: registry.to_owned(), source: source.without_url() }
}

fn basic(who: &Credentials) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", who.user, who.password)))
}

/// What an error says, made harmless for a terminal.
fn message(response: Response) -> String {
    let mut bytes = Vec::new();
    // What is there of it is enough.
    let _ = response.take(MOST_MESSAGE).read_to_end(&mut bytes);
    let problems = serde_json::from_slice::<Problems>(&bytes).ok();
    let first = problems.and_then(|problems| problems.errors.into_iter().next());
    let text = first.and_then(|problem| problem.message.or(problem.code)).unwrap_or_else(|| "no reason".to_owned());
    text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn is_same(a: &Url, b: &Url) -> bool {
    a.origin() == b.origin()
}

/// Whether an address is of this machine by how it is written.
fn is_here(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether an address is inside of a network by how it is written; what a name resolves to is not looked at.
fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(a)) => a.is_loopback() || a.is_private() || a.is_link_local() || a.is_unspecified(),
        Some(url::Host::Ipv6(a)) => {
            let mapped = a.to_ipv4_mapped().is_some();
            mapped || a.is_loopback() || a.is_unspecified() || a.is_unique_local() || a.is_unicast_link_local()
        }
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => true,
    }
}

/// A registry may send on to other hosts, encrypted; nobody outside may send into the network that asks.
fn is_allowed(first: &Url, next: &Url) -> bool {
    is_same(first, next) || next.scheme() == "https" && (!is_inside(next) || is_here(first))
}

fn followed(first: &Url, attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > MOST_REDIRECTS {
        return attempt.error("it sends on without end");
    }
    if is_allowed(first, attempt.url()) {
        return attempt.follow();
    }
    attempt.error("it sends on to where it must not: unencrypted, or into this network")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer,
}

/// What a registry wants to know.
struct Challenge {
    scheme: Scheme,
    values: Vec<(String, String)>,
}

impl Challenge {
    /// A challenge's header: a scheme, then `name="value"` with commas between.
    fn read(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "basic" => Scheme::Basic,
            "bearer" => Scheme::Bearer,
            _ => return None,
        };
        let mut values = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, left) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').map_or((after, ""), |(value, _)| (value, &after[value.len()..])),
            };
            values.push((name.trim().to_ascii_lowercase(), value.to_owned()));
            rest = left.trim_start().trim_start_matches(',');
        }
        Some(Self { scheme, values })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text =
            r#"Bearer realm="https://a.example/token",service="a b",scope="repository:x/y:pull,push", error=odd"#;
        let read = Challenge::read(text).unwrap();
        assert_eq!(read.scheme, Scheme::Bearer);
        assert_eq!(read.get("realm"), Some("https://a.example/token"));
        assert_eq!(read.get("scope"), Some("repository:x/y:pull,push"));
        assert_eq!(read.get("error"), Some("odd"));
        assert_eq!(Challenge::read("basic realm=\"x\"").unwrap().scheme, Scheme::Basic);
        assert_eq!(Challenge::read("Basic").unwrap().scheme, Scheme::Basic);
        assert!(Challenge::read("Negotiate").is_none());
        assert!(Challenge::read("Bearer realm=\"torn").is_none());
    }

    #[test]
    fn nobody_outside_sends_into_this_network() {
        let url = |text: &str| Url::parse(text).unwrap();
        let outside = url("https://registry.example/v2/");
        let cases = [
            ("https://blobs.example/x", true),
            ("https://93.184.215.14/x", true),
            ("http://blobs.example/x", false),
            ("http://registry.example/x", false),
            ("https://localhost/x", false),
            ("https://127.0.0.1/x", false),
            ("https://[::1]/x", false),
            ("https://[::ffff:127.0.0.1]/x", false),
            ("https://10.0.0.1/x", false),
            ("https://169.254.169.254/x", false),
            ("https://registry.example/y", true),
        ];
        for (text, allowed) in cases {
            assert_eq!(is_allowed(&outside, &url(text)), allowed, "{text}");
        }
        let here = url("http://127.0.0.1:5000/v2/");
        assert!(is_allowed(&here, &url("http://127.0.0.1:5000/blob")));
        assert!(!is_allowed(&here, &url("http://127.0.0.1:6000/blob")));
        assert!(!is_allowed(&here, &url("http://other.example/blob")));
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        assert!(matches!(Client::new("registry.example", "a", true), Err(RegistryError::Plain(_))));
        assert!(matches!(Client::new("127.0.0.1.example:5000", "a", true), Err(RegistryError::Plain(_))));
        assert!(Client::new("127.0.0.1:5000", "a", true).is_ok());
    }
}
