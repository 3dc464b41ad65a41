//! Requests to a host. What goes in: a path below `/v1` and what is sent. What comes out: the answer as one of the
//! service's views, or why there is none. Every wait and every answer that is kept in memory has a bound.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use reqwest::header::{self, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Body, Certificate, Method, RequestBuilder, Response, StatusCode, Url};
use scorehost::tls::{self, SPEAKS_TLS, Unmet};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::error::{RemoteError, plain};
use super::path::encoded;
use super::profile::Profile;

/// A host in the next room answers in a millisecond, one abroad in a second.
const CONNECT: Duration = Duration::from_secs(10);
/// With nothing read or written for so long, the connection is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// A host closes what was silent for ten seconds; a request that it does not hear cannot be told from one that it did.
const IDLE: Duration = Duration::from_secs(5);
/// A deployment's script is compiled and its model opened, and a model of gigabytes read, before the answer comes.
const WORK: Duration = Duration::from_secs(20 * 60);
/// How often what is sent is looked at for having moved.
const LOOK: Duration = Duration::from_millis(500);
/// Of an answer in JSON.
const MOST_JSON: u64 = 16 << 20;
/// Of a list of files: a million, with long names.
const MOST_LIST: u64 = 512 << 20;
/// Of an error's text.
const MOST_PROBLEM: u64 = 256 << 10;
/// Of an answer that is a line of text.
const MOST_SAID: usize = 200;
/// Of a file of certificates: that of all public authorities has a quarter of this.
const MOST_CERTIFICATES: u64 = 1 << 20;
/// Of an address, which is what HTTP libraries take.
const MOST_ADDRESS: usize = 64 << 10;
/// Bytes of a file that are read and sent at once.
const CHUNK: usize = 64 << 10;
/// Things of a list that are asked for at once.
const PAGE: usize = 100;
/// Connections at once: uploads wait for the host's disk file by file, and hide that from each other.
pub(super) const CONNECTIONS: usize = 8;

/// A host, and who asks.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// One thread, on which all requests are made; those who ask wait on their own.
    runtime: Arc<Runtime>,
    profile: Profile,
}

/// A refusal, as RFC 9457 has it.
#[derive(Default, serde::Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
}

/// What is missing of a file.
pub(super) struct Rest {
    /// The first byte of it, from 0.
    pub(super) first: u64,
    /// Bytes of the whole file, above 0.
    pub(super) total: u64,
    /// SHA-256 of the whole file.
    pub(super) digest: Option<[u8; 32]>,
}

/// A list.
#[derive(serde::Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Where the next page begins.
    #[serde(default)]
    pub(super) next: Option<String>,
}

/// Tries for about ten seconds, which is what a network takes to come back.
pub(super) fn retried<T>(what: impl FnMut() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    let pauses = ExponentialBuilder::default().with_min_delay(Duration::from_millis(200)).with_max_times(6);
    what.retry(pauses).sleep(std::thread::sleep).when(RemoteError::is_worth_a_retry).call()
}

/// The first so many of a list that comes page by page; `path` may have a query already.
pub(super) fn pages<T: DeserializeOwned>(client: &Client, path: &str, most: usize) -> Result<Vec<T>, RemoteError> {
    let (mut all, mut before) = (Vec::new(), None);
    let with = if path.contains('?') { '&' } else { '?' };
    while all.len() < most {
        let limit = (most - all.len()).min(PAGE);
        let from = before.map(|id: String| format!("&before={}", encoded(&id))).unwrap_or_default();
        let page: Page<T> = client.get(&format!("{path}{with}limit={limit}{from}"))?;
        let is_last = page.items.is_empty();
        all.extend(page.items);
        before = page.next;
        if is_last || before.is_none() {
            break;
        }
    }
    all.truncate(most);
    Ok(all)
}

impl Client {
    pub(super) fn new(profile: Profile) -> Result<Self, RemoteError> {
        tls::install();
        let here = |source| RemoteError::Start { source };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(here)?;
        let http = reqwest::Client::builder()
            // The host is asked itself: nobody between is to see the token.
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(CONNECTIONS)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("scorehost/", env!("CARGO_PKG_VERSION")));
        let http = match &profile.ca {
            Some(path) => http.tls_certs_only(certificates(path)?),
            // To read the system's authorities takes a while, and nobody would ask them.
            None if profile.url.starts_with("http:") => http.tls_certs_only([]),
            None => http,
        };
        let http = http.build().map_err(|error| here(std::io::Error::other(error)))?;
        Ok(Self { http, runtime: Arc::new(runtime), profile })
    }

    /// Where the host is, without a `/` at the end.
    pub(super) fn url(&self) -> &str {
        &self.profile.url
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        let answer = self.send(self.request(Method::GET, path)?, SILENCE)?;
        self.json(answer, path, MOST_JSON)
    }

    /// As [`Client::get`], for answers that list files.
    pub(super) fn get_files<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        let answer = self.send(self.request(Method::GET, path)?, SILENCE)?;
        self.json(answer, path, MOST_LIST)
    }

    pub(super) fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, RemoteError> {
        self.get::<Page<T>>(path).map(|page| page.items)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, sent: &impl Serialize) -> Result<T, RemoteError> {
        self.json(self.change(Method::POST, path, sent, None)?, path, MOST_JSON)
    }

    /// Posts what is answered with nothing but that it is well.
    pub(super) fn tell(&self, path: &str, sent: &impl Serialize) -> Result<(), RemoteError> {
        self.change(Method::POST, path, sent, None).map(drop)
    }

    /// Posts what the host does once, however often it is asked with this key.
    pub(super) fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        sent: &impl Serialize,
        key: Option<&str>,
    ) -> Result<T, RemoteError> {
        let post = || self.json(self.change(Method::POST, path, sent, key)?, path, MOST_JSON);
        if key.is_some() { retried(post) } else { post() }
    }

    /// Posts what has nothing to say, and cares for no more than that it was done.
    pub(super) fn ask(&self, path: &str) -> Result<Answer, RemoteError> {
        self.send(self.request(Method::POST, path)?.body(Vec::new()), WORK)
    }

    /// As [`Client::ask`], for an answer.
    pub(super) fn ask_for<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        self.json(self.ask(path)?, path, MOST_JSON)
    }

    pub(super) fn patch<T: DeserializeOwned>(&self, path: &str, sent: &impl Serialize) -> Result<T, RemoteError> {
        self.json(self.change(Method::PATCH, path, sent, None)?, path, MOST_JSON)
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), RemoteError> {
        self.send(self.request(Method::DELETE, path)?, SILENCE).map(drop)
    }

    /// Puts a file of so many bytes.
    pub(super) fn put(&self, path: &str, bytes: u64, from: impl Read + Send + 'static) -> Result<(), RemoteError> {
        self.put_body(self.request(Method::PUT, path)?, bytes, from)
    }

    /// Puts a file so that it may go on from where it breaks off; or what is missing of one.
    pub(super) fn put_rest(
        &self,
        path: &str,
        rest: &Rest,
        from: impl Read + Send + 'static,
    ) -> Result<(), RemoteError> {
        let Rest { first, total, digest } = *rest;
        let range = format!("bytes {first}-{}/{total}", total.saturating_sub(1));
        let mut request = self.request(Method::PUT, path)?.header(header::CONTENT_RANGE, range);
        if let Some(digest) = digest {
            request = request.header("repr-digest", format!("sha-256=:{}:", STANDARD.encode(digest)));
        }
        self.put_body(request, total.saturating_sub(first), from)
    }

    fn put_body(
        &self,
        request: RequestBuilder,
        bytes: u64,
        from: impl Read + Send + 'static,
    ) -> Result<(), RemoteError> {
        let waits = Arc::new(Mutex::new(Waits { since: Instant::now(), most: SILENCE }));
        // With its length said, a file that was cut on its way is no file.
        let request = request.header(header::CONTENT_LENGTH, bytes);
        let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        self.send_watched(request.body(parts(bytes, from, &waits)), &waits).map(drop)
    }

    /// Opens a file of the host's, to be read up to where the caller expects its end.
    pub(super) fn open(&self, path: &str) -> Result<impl Read, RemoteError> {
        self.send(self.request(Method::GET, path)?, SILENCE)
    }

    fn change(
        &self,
        method: Method,
        path: &str,
        sent: &impl Serialize,
        key: Option<&str>,
    ) -> Result<Answer, RemoteError> {
        let bytes = serde_json::to_vec(sent).expect("requests are plain values; this is a bug");
        let mut request = self.request(method, path)?.body(bytes).header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            let key = HeaderValue::from_str(key).map_err(|_| RemoteError::Use {
                text: "the idempotency key has characters that no request can hold".to_owned(),
                hint: "letters, digits and `-` do",
            })?;
            request = request.header("idempotency-key", key);
        }
        self.send(request, WORK)
    }

    fn address(&self, path: &str) -> String {
        format!("{}/v1{path}", self.profile.url)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, RemoteError> {
        let url = self.address(path);
        let address = url.parse::<Url>().ok().filter(|address| {
            // A name of dots would be taken for a step up, and another address be asked.
            url.len() < MOST_ADDRESS && address.path().ends_with(path.split('?').next().unwrap_or_default())
        });
        let reason = "it cannot be sent; is a name or path too long?";
        let address = address.ok_or(RemoteError::Url { url, reason })?;
        let token = HeaderValue::from_str(&format!("Bearer {}", self.profile.token));
        let mut token = token.map_err(|_| RemoteError::Use {
            text: "the token has characters that no token has".to_owned(),
            hint: "copy it again from where `token create` showed it",
        })?;
        token.set_sensitive(true);
        Ok(self.http.request(method, address).header(header::AUTHORIZATION, token))
    }

    /// Sends a request; its answer begins within this time.
    fn send(&self, request: RequestBuilder, most: Duration) -> Result<Answer, RemoteError> {
        self.send_watched(request, &Mutex::new(Waits { since: Instant::now(), most }))
    }

    fn send_watched(&self, request: RequestBuilder, waits: &Mutex<Waits>) -> Result<Answer, RemoteError> {
        let response = self.runtime.block_on(async {
            let mut response = std::pin::pin!(request.send());
            loop {
                match tokio::time::timeout(LOOK, &mut response).await {
                    Ok(response) => break response.map_err(broken),
                    Err(_) => {
                        let waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
                        if waits.since.elapsed() > waits.most {
                            break Err(silent(waits.most));
                        }
                    }
                }
            }
        });
        let response = response.map_err(|source| self.lost(source))?;
        let status = response.status();
        let answer = Answer { response, runtime: Arc::clone(&self.runtime), rest: Bytes::new() };
        if status.is_success() {
            return Ok(answer);
        }
        let mut bytes = Vec::new();
        // Of what breaks off, the status is told all the same.
        let _ = answer.take(MOST_PROBLEM).read_to_end(&mut bytes);
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        // What stands between, or speaks another protocol there, says it in a line of text.
        let line = std::str::from_utf8(&bytes).ok().and_then(|text| text.lines().next()).unwrap_or_default().trim();
        if line == SPEAKS_TLS {
            return Err(RemoteError::OtherScheme { url: self.profile.url.clone(), is_plain: false });
        }
        let said = if line.is_empty() || line.starts_with(['<', '{', '[']) || line.len() > MOST_SAID {
            format!("the host answers {status}")
        } else {
            format!("the host answers {status}: {line}")
        };
        let detail = problem.detail.or(problem.title).unwrap_or(said);
        let (detail, hint) = (plain(&detail), problem.hint.as_deref().map(plain));
        if status == StatusCode::UNAUTHORIZED {
            return Err(RemoteError::Stranger { detail, found: self.profile.token_from.clone() });
        }
        Err(RemoteError::Answer { status: status.as_u16(), detail, hint })
    }

    fn lost(&self, source: std::io::Error) -> RemoteError {
        let url = self.profile.url.clone();
        match tls::unmet(&source) {
            Some(Unmet::NotTls) => RemoteError::OtherScheme { url, is_plain: true },
            Some(why) => RemoteError::Distrusted { url, why, ca: self.profile.ca.clone(), source },
            None => RemoteError::Unreachable { url, source },
        }
    }

    fn json<T: DeserializeOwned>(&self, answer: Answer, path: &str, most: u64) -> Result<T, RemoteError> {
        let mut bytes = Vec::new();
        answer.take(most + 1).read_to_end(&mut bytes).map_err(|source| self.lost(source))?;
        let strange = |reason| RemoteError::Strange { url: self.address(path), reason };
        if bytes.len() as u64 > most {
            return Err(strange(format!("its answer is over {most} bytes")));
        }
        serde_json::from_slice(&bytes).map_err(|e| strange(e.to_string()))
    }
}

/// How long is waited for something to move.
struct Waits {
    since: Instant,
    most: Duration,
}

/// A body of so many bytes, of which each part that goes shows that the connection lives. After the last, the host works.
fn parts(bytes: u64, from: impl Read + Send + 'static, waits: &Arc<Mutex<Waits>>) -> Body {
    let (mut from, waits, mut left) = (from.take(bytes), Arc::clone(waits), bytes);
    let next = move || {
        let mut part = vec![0; CHUNK];
        let read = match from.read(&mut part) {
            Ok(0) => return None,
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        part.truncate(read);
        left = left.saturating_sub(read as u64);
        let most = if left == 0 { WORK } else { SILENCE };
        *waits.lock().unwrap_or_else(PoisonError::into_inner) = Waits { since: Instant::now(), most };
        Some(Ok(Bytes::from(part)))
    };
    Body::wrap_stream(stream::iter(std::iter::from_fn(next)))
}

/// An answer whose body is read.
pub(super) struct Answer {
    response: Response,
    runtime: Arc<Runtime>,
    /// What has come and was not read.
    rest: Bytes,
}

impl Read for Answer {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            let next = self.runtime.block_on(async { tokio::time::timeout(SILENCE, self.response.chunk()).await });
            match next.map_err(|_| silent(SILENCE))?.map_err(broken)? {
                Some(part) => self.rest = part,
                None => return Ok(0),
            }
        }
        let part = self.rest.split_to(into.len().min(self.rest.len()));
        into[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

/// Without the address, which is told where this is.
fn broken(error: reqwest::Error) -> std::io::Error {
    std::io::Error::other(error.without_url())
}

fn silent(most: Duration) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("nothing moved for {} s", most.as_secs()))
}

/// The authorities that are trusted in the place of the system's.
fn certificates(path: &std::path::Path) -> Result<Vec<Certificate>, RemoteError> {
    let failed = |source| RemoteError::File { what: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MOST_CERTIFICATES).read_to_end(&mut bytes)).map_err(failed)?;
    let read = Certificate::from_pem_bundle(&bytes).ok().filter(|read| !read.is_empty());
    read.ok_or_else(|| RemoteError::NoAuthority(path.to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A host that gives these answers, one for each connection, and then tells what it was asked. An empty one breaks
    /// the connection off.
    pub(in super::super) fn host(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut request, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(text) = line.to_lowercase().strip_prefix("content-length:") {
                        length = text.trim().parse().unwrap();
                    }
                    request.push_str(&line);
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                request.push_str(&String::from_utf8(body).unwrap());
                asked.push(request);
                stream.write_all(answer.as_bytes()).unwrap();
            }
            asked
        };
        (Client::new(profile(url)).unwrap(), std::thread::spawn(serve))
    }

    fn profile(url: String) -> Profile {
        Profile { url, token: "sh_1".to_owned(), token_from: "SCOREHOST_TOKEN".to_owned(), ca: None }
    }

    /// An answer of this status.
    pub(in super::super) fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_refusal_is_told_in_the_hosts_words_and_with_its_cure() {
        let problem = r#"{"title":"Not Found","status":404,"detail":"there is no\u001b[2J job `x`","hint":"look"}"#;
        let moved =
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let answers = vec![
            answer("404 Not Found", problem),
            answer("500 Internal Server Error", "<html>"),
            answer("502 Bad Gateway", "no host behind me\nat all"),
            answer("400 Bad Request", &format!("{SPEAKS_TLS}\n")),
            answer("401 Unauthorized", r#"{"detail":"the token is unknown","hint":"send one"}"#),
            moved.to_owned(),
            answer("200 OK", "<html>"),
            answer("200 OK", "[1,2]"),
        ];
        let (client, asked) = host(answers);
        let refusals: Vec<_> = (0..7).map(|_| client.get::<Vec<u32>>("/jobs/x").unwrap_err()).collect();
        assert_eq!(refusals[0].to_string(), "there is no\u{fffd}[2J job `x`");
        assert_eq!(refusals[0].hint().as_deref(), Some("look"));
        assert_eq!(refusals[1].to_string(), "the host answers 500 Internal Server Error");
        assert_eq!(refusals[2].to_string(), "the host answers 502 Bad Gateway: no host behind me");
        let (scheme, stranger) = (refusals[3].hint().unwrap(), refusals[4].hint().unwrap());
        assert!(scheme.starts_with("ask https://127.0.0.1:"), "{scheme}");
        assert!(stranger.starts_with("the token came from SCOREHOST_TOKEN"), "{stranger}");
        assert!(matches!(refusals[5], RemoteError::Answer { status: 302, .. }), "{}", refusals[5]);
        assert!(matches!(refusals[6], RemoteError::Strange { .. }), "{}", refusals[6]);
        assert_eq!(client.get::<Vec<u32>>("/jobs/x").unwrap(), [1, 2]);
        let asked = asked.join().unwrap();
        assert!(asked[0].starts_with("GET /v1/jobs/x HTTP/1.1\r\n"), "{}", asked[0]);
        assert!(asked[0].to_lowercase().contains("authorization: bearer sh_1\r\n"), "{}", asked[0]);
    }

    #[test]
    fn an_answer_without_an_end_is_not_read_to_its_end() {
        let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n[", u64::MAX / 4);
        let text = "1,".repeat(9 << 20);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(endless.as_bytes()).unwrap();
            // The reader hangs up at some point of this.
            let _ = stream.write_all(text.as_bytes());
        });
        let refused = Client::new(profile(url)).unwrap().get::<Vec<u32>>("/jobs").unwrap_err();
        assert!(refused.to_string().contains("over 16777216 bytes"), "{refused}");
        serve.join().unwrap();
    }

    #[test]
    fn a_name_of_dots_asks_for_nothing_else() {
        let (client, _) = host(Vec::new());
        for path in ["/endpoints/..", "/endpoints/../jobs", "/jobs/."] {
            assert!(matches!(client.delete(path), Err(RemoteError::Url { .. })), "{path}");
        }
        assert!(client.request(Method::GET, "/jobs?limit=1&before=a%2Fb").is_ok());
        assert!(client.request(Method::GET, &format!("/jobs/{}", "x".repeat(MOST_ADDRESS))).is_err());
    }

    #[test]
    fn a_refusal_that_comes_before_the_file_is_sent_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer("429 Too Many Requests", r#"{"detail":"no room"}"#).as_bytes()).unwrap();
            // Until the client hangs up, so that nothing is reset before it is read.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        });
        let client = Client::new(profile(url)).unwrap();
        let refused = client.put("/uploads/u/files/f", 1 << 30, std::io::repeat(0)).unwrap_err();
        assert_eq!(refused.to_string(), "no room");
        drop(client);
        serve.join().unwrap();
    }

    #[test]
    fn a_post_is_tried_again_only_with_a_key() {
        let (client, asked) = host(vec![String::new(), answer("202 Accepted", "1")]);
        assert_eq!(client.post_once::<u32>("/endpoints/e/jobs", &"x", Some("k")).unwrap(), 1);
        for request in asked.join().unwrap() {
            let request = request.to_lowercase();
            assert!(request.contains("idempotency-key: k\r\n") && request.ends_with("\r\n\r\n\"x\""), "{request}");
        }
        let (client, asked) = host(vec![String::new()]);
        let lost = client.post_once::<u32>("/endpoints/e/jobs", &"x", None).unwrap_err();
        assert!(matches!(lost, RemoteError::Unreachable { .. }), "{lost}");
        assert_eq!(asked.join().unwrap().len(), 1);
    }
}
