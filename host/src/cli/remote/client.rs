//! Requests to a host. What goes in: a path below `/v1` and what is sent. What comes out: the answer as one of the
//! service's views, or why there is none. Every wait and every answer that is kept in memory has a bound.

use std::io::Read;
use std::time::Duration;

use backon::{BlockingRetryable, ExponentialBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Response, Uri, header};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::error::{RemoteError, plain};
use super::profile::Profile;

/// A host in the next room answers in a millisecond, one abroad in a second.
const CONNECT: Duration = Duration::from_secs(10);
/// With nothing read or written for so long, the connection is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// A host closes what was silent for ten seconds; a request that it does not hear cannot be told from one that it did.
const IDLE: Duration = Duration::from_secs(5);
/// A deployment's script is compiled and its model opened, and a model of gigabytes read, before the answer comes.
const WORK: Duration = Duration::from_secs(20 * 60);
/// Of an answer in JSON.
const MOST_JSON: u64 = 16 << 20;
/// Of a list of files: a million, with long names.
const MOST_LIST: u64 = 512 << 20;
/// Of an error's text.
const MOST_PROBLEM: u64 = 256 << 10;
/// Connections at once: uploads wait for the host's disk file by file, and hide that from each other.
pub(super) const CONNECTIONS: usize = 8;

/// A host, and who asks.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    profile: Profile,
}

/// A refusal, as RFC 9457 has it.
#[derive(Default, serde::Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    hint: Option<String>,
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

impl Client {
    pub(super) fn new(profile: Profile) -> Self {
        let config = Agent::config_builder()
            // The host is asked itself: nobody between is to see the token.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .max_idle_connections_per_host(CONNECTIONS)
            .max_idle_age(IDLE)
            .user_agent(concat!("scorehost/", env!("CARGO_PKG_VERSION")));
        Self { agent: config.build().new_agent(), profile }
    }

    /// Where the host is, without a `/` at the end.
    pub(super) fn url(&self) -> &str {
        &self.profile.url
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        let answer = self.send(self.request(Method::GET, path, ())?)?;
        self.json(answer, path, MOST_JSON)
    }

    /// As [`Client::get`], for answers that list files.
    pub(super) fn get_files<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        let answer = self.send(self.request(Method::GET, path, ())?)?;
        self.json(answer, path, MOST_LIST)
    }

    pub(super) fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, RemoteError> {
        self.get::<Page<T>>(path).map(|page| page.items)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, sent: &impl Serialize) -> Result<T, RemoteError> {
        self.json(self.change(Method::POST, path, sent, None)?, path, MOST_JSON)
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
    pub(super) fn ask(&self, path: &str) -> Result<Response<Body>, RemoteError> {
        self.send(self.working(self.request(Method::POST, path, Vec::new())?))
    }

    /// As [`Client::ask`], for an answer.
    pub(super) fn ask_for<T: DeserializeOwned>(&self, path: &str) -> Result<T, RemoteError> {
        self.json(self.ask(path)?, path, MOST_JSON)
    }

    pub(super) fn patch<T: DeserializeOwned>(&self, path: &str, sent: &impl Serialize) -> Result<T, RemoteError> {
        self.json(self.change(Method::PATCH, path, sent, None)?, path, MOST_JSON)
    }

    pub(super) fn delete(&self, path: &str) -> Result<(), RemoteError> {
        self.send(self.request(Method::DELETE, path, ())?).map(drop)
    }

    /// Puts so many bytes of a file.
    pub(super) fn put(&self, path: &str, bytes: u64, from: &mut dyn Read) -> Result<(), RemoteError> {
        let mut request = self.request(Method::PUT, path, SendBody::from_reader(from))?;
        // With its length said, a file that was cut on its way is no file.
        request.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
        let octets = header::HeaderValue::from_static("application/octet-stream");
        request.headers_mut().insert(header::CONTENT_TYPE, octets);
        self.send(self.working(request)).map(drop)
    }

    /// Opens a file of the host's, to be read up to where the caller expects its end.
    pub(super) fn open(&self, path: &str) -> Result<impl Read, RemoteError> {
        Ok(self.send(self.request(Method::GET, path, ())?)?.into_body().into_reader())
    }

    fn change(
        &self,
        method: Method,
        path: &str,
        sent: &impl Serialize,
        key: Option<&str>,
    ) -> Result<Response<Body>, RemoteError> {
        let bytes = serde_json::to_vec(sent).expect("requests are plain values; this is a bug");
        let mut request = self.request(method, path, bytes)?;
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        if let Some(key) = key {
            let key = key.parse().map_err(|_| RemoteError::Use {
                text: "the idempotency key has characters that no request can hold".to_owned(),
                hint: "letters, digits and `-` do",
            })?;
            request.headers_mut().insert("idempotency-key", key);
        }
        self.send(self.working(request))
    }

    fn address(&self, path: &str) -> String {
        format!("{}/v1{path}", self.profile.url)
    }

    fn request<B>(&self, method: Method, path: &str, body: B) -> Result<Request<B>, RemoteError> {
        let url = self.address(path);
        let reason = "it cannot be sent; is a name or path too long?";
        let address: Uri = url.parse().map_err(|_| RemoteError::Url { url, reason })?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = address;
        let token: Result<header::HeaderValue, _> = format!("Bearer {}", self.profile.token).parse();
        let mut token = token.map_err(|_| RemoteError::Use {
            text: "the token has characters that no token has".to_owned(),
            hint: "copy it again from where `token create` showed it",
        })?;
        token.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, token);
        Ok(request)
    }

    /// Lets the host take its time.
    fn working<B: AsSendBody>(&self, request: Request<B>) -> Request<B> {
        self.agent.configure_request(request).timeout_per_read(Some(WORK)).build()
    }

    fn send<B: AsSendBody>(&self, request: Request<B>) -> Result<Response<Body>, RemoteError> {
        let unreachable = |source| RemoteError::Unreachable { url: self.profile.url.clone(), source };
        let mut answer = self.agent.run(request).map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let bytes = answer.body_mut().with_config().limit(MOST_PROBLEM).read_to_vec().unwrap_or_default();
        let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
        let detail = problem.detail.or(problem.title).unwrap_or_else(|| format!("the host answers {status}"));
        let (detail, hint) = (plain(&detail), problem.hint.as_deref().map(plain));
        Err(RemoteError::Answer { status: status.as_u16(), detail, hint })
    }

    fn json<T: DeserializeOwned>(&self, mut answer: Response<Body>, path: &str, most: u64) -> Result<T, RemoteError> {
        let bytes = answer.body_mut().with_config().limit(most).read_to_vec();
        let strange = |reason| RemoteError::Strange { url: self.address(path), reason };
        let bytes = bytes.map_err(|source| match source {
            ureq::Error::BodyExceedsLimit(_) => strange(format!("its answer is over {most} bytes")),
            source => RemoteError::Unreachable { url: self.profile.url.clone(), source },
        })?;
        serde_json::from_slice(&bytes).map_err(|e| strange(e.to_string()))
    }
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
        (Client::new(Profile { url, token: "sh_1".to_owned() }), std::thread::spawn(serve))
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
            moved.to_owned(),
            answer("200 OK", "<html>"),
            answer("200 OK", "[1,2]"),
        ];
        let (client, asked) = host(answers);
        let refusals: Vec<_> = (0..4).map(|_| client.get::<Vec<u32>>("/jobs/x").unwrap_err()).collect();
        assert_eq!(refusals[0].to_string(), "there is no\u{fffd}[2J job `x`");
        assert_eq!(refusals[0].hint().as_deref(), Some("look"));
        assert_eq!(refusals[1].to_string(), "the host answers 500 Internal Server Error");
        assert!(matches!(refusals[2], RemoteError::Answer { status: 302, .. }), "{}", refusals[2]);
        assert!(matches!(refusals[3], RemoteError::Strange { .. }), "{}", refusals[3]);
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
        let profile = Profile { url: format!("http://{}", listener.local_addr().unwrap()), token: "t".into() };
        let serve = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(endless.as_bytes()).unwrap();
            // The reader hangs up at some point of this.
            let _ = stream.write_all(text.as_bytes());
        });
        let refused = Client::new(profile).get::<Vec<u32>>("/jobs").unwrap_err();
        assert!(refused.to_string().contains("over 16777216 bytes"), "{refused}");
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
