//! The port: connections, encrypted or not, their limits, and the end.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::health::Ready;
use super::patience::Patient;
use super::places::{Places, neighbourhood};
use super::{Shared, routers};
use crate::fault;
use crate::service::host::Host;
use crate::tls::{Identity, SPEAKS_TLS, TlsStream};

/// Connections at once; the next ones wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;
/// Those of one address, or of one network of IPv6: a proxy that stands before the host for all still gets along.
const MOST_EACH: usize = 512;
/// What others are told, as far as one write goes: nothing is waited for.
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long a caller may take nothing of an answer.
const UNREAD: Duration = Duration::from_secs(30);
/// How long a caller may take for a request's first lines, also for those of the next request.
const HEADERS: Duration = Duration::from_secs(10);
/// How long a caller may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What a TLS connection begins with: a record of a handshake.
const TLS_RECORD: u8 = 0x16;
/// How long those who are being answered are waited for at the end.
const GOODBYE: Duration = Duration::from_secs(5);
/// After an error in accepting, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on `{address}`")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Threads cannot be started.
    #[error("cannot start the server's threads")]
    Threads(#[source] std::io::Error),
}

/// Where to listen, and how.
pub struct Listening {
    /// Callers' address; port 0 is any that is free.
    pub address: SocketAddr,
    /// With it the port speaks TLS, and nothing else.
    pub identity: Option<Identity>,
    /// The operator's address, for numbers of all tenants: without tokens and without TLS.
    pub metrics: Option<SocketAddr>,
}

/// A port that is open, and not served yet.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    address: SocketAddr,
    identity: Option<Arc<Identity>>,
    metrics: Option<TcpListener>,
}

impl Server {
    /// Opens the ports.
    ///
    /// # Errors
    /// If one cannot be had.
    pub fn bind(listening: Listening) -> Result<Self, ServeError> {
        let Listening { address, identity, metrics } = listening;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().thread_name("api").build().map_err(ServeError::Threads)?;
        let open = |address| {
            runtime.block_on(TcpListener::bind(address)).map_err(|source| ServeError::Listen { address, source })
        };
        let listener = open(address)?;
        let metrics = metrics.map(open).transpose()?;
        let address = listener.local_addr().map_err(|source| ServeError::Listen { address, source })?;
        Ok(Self { runtime, listener, address, identity: identity.map(Arc::new), metrics })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the operator's numbers are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    /// Serves until this process is told to end.
    pub fn serve(self, host: &Arc<Host>) {
        let Self { runtime, listener, identity, metrics, .. } = self;
        let shared = Shared::new(Arc::clone(host));
        let ready = shared.ready.clone();
        let (router, numbers) = routers(shared);
        if let Some(listener) = metrics {
            runtime.spawn(serve(listener, None, numbers, Ready::default(), Arc::clone(host)));
        }
        runtime.block_on(serve(listener, identity, router, ready, Arc::clone(host)));
        // What still reads a slow caller's body is left.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

async fn serve(listener: TcpListener, identity: Option<Arc<Identity>>, router: Router, ready: Ready, host: Arc<Host>) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_headers(100);
    let (places, ends) = (Arc::new(Semaphore::new(MOST_CONNECTIONS)), GracefulShutdown::new());
    let each = Places::new(MOST_CONNECTIONS, MOST_EACH);
    let mut told = std::pin::pin!(told_to_end());
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = &mut told => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut told => break,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(own_place) = each.take(neighbourhood(peer.ip())) else {
            if let Ok(mut stream) = stream.into_std() {
                let _ = stream.write(TOO_MANY);
            }
            continue;
        };
        // Answers are small and should not wait for more to come.
        let _ = stream.set_nodelay(true);
        let (http, service, end, identity) = (http.clone(), service.clone(), ends.watcher(), identity.clone());
        let open = Open::new(Arc::clone(&host));
        tokio::spawn(async move {
            // What a caller does to a connection is theirs.
            if let Some(identity) = identity {
                if let Some(stream) = encrypted(stream, &identity).await {
                    let _ = end.watch(http.serve_connection(TokioIo::new(Patient::new(stream, UNREAD)), service)).await;
                }
            } else {
                let _ = end.watch(http.serve_connection(TokioIo::new(Patient::new(stream, UNREAD)), service)).await;
            }
            drop((place, own_place, open));
        });
    }
    ready.close();
    drop(listener);
    let _ = tokio::time::timeout(GOODBYE, ends.shutdown()).await;
}

/// Counts a connection while it lives.
struct Open(Arc<Host>);

impl Open {
    fn new(host: Arc<Host>) -> Self {
        host.metrics().connected();
        Self(host)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics().disconnected();
    }
}

/// Agrees on keys with a caller; none with one that is too slow, or speaks something else.
async fn encrypted(stream: TcpStream, identity: &Identity) -> Option<TlsStream<TcpStream>> {
    let (acceptor, changed) = identity.acceptor();
    match changed {
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(error)) => tracing::error!(error = fault::chain(&error), "the certificate stays as it was"),
        None => {}
    }
    let agreed = async {
        let mut first = [0];
        if stream.peek(&mut first).await.ok()? == 1 && first[0].is_ascii_uppercase() {
            // What is not read would let the system reset the connection before the answer is seen.
            let _ = stream.try_read(&mut [0; 4096]);
            let head = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{SPEAKS_TLS}\n", SPEAKS_TLS.len() + 1);
            let _ = stream.try_write(answer.as_bytes());
            return None;
        }
        if first[0] != TLS_RECORD {
            return None;
        }
        acceptor.accept(stream).await.ok()
    };
    tokio::time::timeout(HANDSHAKE, agreed).await.ok().flatten()
}

/// Waits for Ctrl-C, or what service managers send.
async fn told_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
