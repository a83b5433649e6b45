//! The accept loop: connections in, with a bound on how many, how long their headers may take, and an
//! ordered end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{Outside, Settings};

/// How long the loop rests when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// How long after the stop whoever has connected, and was not heard yet, may take for the first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Serves until `stop`, then takes whoever has connected by then, lets every open request end and returns.
pub async fn serve(listener: TcpListener, outside: &Outside, settings: &Settings, stop: &CancellationToken) {
    let room = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
    let open = TaskTracker::new();
    let begin = |stream, peer, permit: Option<OwnedSemaphorePermit>| {
        // A token of its own: each is asked, under its lock, whenever its connection goes on.
        let stop = stop.child_token();
        let connection = connection(stream, peer, outside.clone(), settings.header_timeout, stop);
        open.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection ended early");
            }
            drop(permit);
        });
    };
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => begin(stream, peer, permit.ok()),
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
    // Who stands in the system's queue has been told that there is somebody: closing would break their word.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            match stream {
                Ok(stream) => begin(stream, peer, None),
                Err(error) => debug!(%error, "connection ended early"),
            }
        }
    }
    open.close();
    open.wait().await;
}

/// One connection, until its client has had enough; after the stop, until its request is answered.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    outside: Outside,
    header_timeout: Duration,
    stop: CancellationToken,
) -> hyper::Result<()> {
    // Answers are small and wait for nobody.
    let _ = stream.set_nodelay(true);
    let heard = Notify::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        heard.notify_one();
        request.extensions_mut().insert(ConnectInfo(peer));
        let outside = &outside;
        async move { Ok::<_, Infallible>(outside.answer(request.map(Body::new)).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = stop.cancelled() => {}
    }
    // A connection that hyper has read nothing from yet would be closed at once, though a request may lie in it.
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = heard.notified() => {}
        () = tokio::time::sleep(FIRST_REQUEST) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
