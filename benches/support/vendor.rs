//! A vendor that costs next to nothing: it counts the requests that it gets and answers each after a while, or never.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// What a request meets.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// 200 with this JSON, after so long.
    Answers(Duration, &'static str),
    /// Nothing, ever.
    Hangs,
}

/// A vendor on a free port.
pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    taken: Arc<AtomicUsize>,
}

impl Vendor {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let taken = Arc::new(AtomicUsize::new(0));
        let (tracker, counted) = (TaskTracker::new(), Arc::clone(&taken));
        tracker.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Arc::clone(&counted);
                tracker.spawn(async move { serve(stream, manner, &counted).await });
            }
        });
        Self { address, taken }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests were answered.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Waits until so many were.
    pub(crate) async fn until(&self, count: usize) {
        while self.taken() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn serve(mut stream: TcpStream, manner: Manner, taken: &AtomicUsize) {
    let _ = stream.set_nodelay(true);
    let mut held = Vec::with_capacity(4_096);
    loop {
        let Some(length) = whole(&held) else {
            match stream.read_buf(&mut held).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        held.drain(..length);
        let Manner::Answers(after, body) = manner else {
            return std::future::pending().await;
        };
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
        if stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.is_err() {
            return;
        }
        taken.fetch_add(1, Ordering::Relaxed);
    }
}

/// How long the first request is, once all of it is there.
fn whole(held: &[u8]) -> Option<usize> {
    let head = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&held[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let end = head + length.unwrap_or(0);
    (held.len() >= end).then_some(end)
}
