//! The accept loop of the HTTP stand-ins: it can close a connection without an answer, and everything
//! ends when the stand-in is dropped.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The connection is to be closed without (the rest of) an answer.
#[derive(Clone, Copy, Debug)]
pub struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stand-in closes the connection")
    }
}

impl std::error::Error for Dropped {}

/// A running server. Ends when dropped, with every connection.
pub struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves every request with `handler`.
#[expect(clippy::disallowed_methods, reason = "a stand-in's task ends with the stand-in")]
pub fn serve<F, A>(listener: TcpListener, handler: F) -> Server
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<BoxBody<Bytes, Dropped>>, Dropped>> + Send + 'static,
{
    Server(tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let _ = stream.set_nodelay(true);
                    let handler = handler.clone();
                    connections.spawn(async move {
                        let service = service_fn(handler);
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }))
}

/// A body that promises all of its text, gives half of it, and breaks.
#[derive(Debug)]
pub struct CutBody {
    /// The text that is promised.
    pub text: Bytes,
    /// How often it was asked; zero at first.
    pub polls: usize,
}

impl Body for CutBody {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        self.polls += 1;
        match self.polls {
            1 => Poll::Ready(Some(Ok(Frame::data(self.text.slice(..self.text.len() / 2))))),
            2 => {
                // Time for what was written to leave before the connection breaks.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Some(Err(Dropped))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}

/// A body that promises all of its text, gives half of it, and says nothing more.
#[derive(Debug)]
pub struct StalledBody {
    /// The text that is promised.
    pub text: Bytes,
    /// Whether the half was given; false at first.
    pub is_begun: bool,
}

impl Body for StalledBody {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(self.text.slice(..self.text.len() / 2)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}
