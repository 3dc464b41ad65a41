//! The port: connections, their limits, and the end.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::patience::Patient;
use super::places::{Places, neighbourhood};
use super::{Shared, router};
use crate::service::host::Host;

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

/// A port that is open, and not served yet.
pub struct Server {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Opens the port; 0 is any that is free.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().thread_name("api").build().map_err(ServeError::Threads)?;
        let listening = |source| ServeError::Listen { address, source };
        let listener = runtime.block_on(TcpListener::bind(address)).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        Ok(Self { runtime, listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until this process is told to end.
    pub fn serve(self, host: &Arc<Host>) {
        let Self { runtime, listener, .. } = self;
        runtime.block_on(serve(listener, Arc::clone(host)));
        // What still reads a slow caller's body is left.
        runtime.shutdown_timeout(Duration::from_millis(100));
    }
}

async fn serve(listener: TcpListener, host: Arc<Host>) {
    let shared = Shared::new(host);
    let ready = shared.ready.clone();
    let service = TowerToHyperService::new(router(shared));
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
        let connection = ends.watch(http.serve_connection(TokioIo::new(Patient::new(stream, UNREAD)), service.clone()));
        tokio::spawn(async move {
            // What a caller does to a connection is theirs.
            let _ = connection.await;
            drop((place, own_place));
        });
    }
    ready.close();
    drop(listener);
    let _ = tokio::time::timeout(GOODBYE, ends.shutdown()).await;
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
