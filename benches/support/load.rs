//! A plain load generator: keep-alive connections that post one body again and again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The request that a website would send.
pub(crate) fn request() -> Vec<u8> {
    let body = serde_json::json!({
        "email": "ada@example.com", "name": "Ada Lovelace", "phone": "+44 20 7946 0018",
        "source": {"url": "https://example.com/contact?utm_source=news", "utm_source": "news", "utm_campaign": "autumn"},
        "form_name": "contact", "consent_given": true, "timezone": "Europe/London",
        "form_data": {"company_size": "11 to 50", "message": "Could you send us an offer?"},
    })
    .to_string();
    post_of("/api/submit", &body)
}

/// A request that posts JSON.
pub(crate) fn post_of(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A connection that posts.
pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).await.expect("the service listens");
    connection.set_nodelay(true).expect("a socket takes options");
    connection
}

/// One request on a connection; whether it was answered 200.
pub(crate) async fn post(connection: &mut TcpStream, request: &[u8]) -> bool {
    let mut answer = [0; 1_024];
    if connection.write_all(request).await.is_err() {
        return false;
    }
    // An answer is one short packet.
    match connection.read(&mut answer).await {
        Ok(length) => answer[..length].starts_with(b"HTTP/1.1 200"),
        Err(_) => false,
    }
}

/// Posts on so many connections at once until the time is over or `most` have been; how many were answered 200.
///
/// # Panics
/// At any other answer.
pub(crate) async fn many(address: SocketAddr, connections: usize, length: Duration, most: usize) -> usize {
    let (begun, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let request = Arc::new(request());
    let end = Instant::now() + length;
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (begun, good, request) = (Arc::clone(&begun), Arc::clone(&good), Arc::clone(&request));
        clients.spawn(async move {
            let mut connection = connect(address).await;
            while Instant::now() < end && begun.fetch_add(1, Ordering::Relaxed) < most {
                assert!(post(&mut connection, &request).await, "an answer that is not 200");
                good.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.expect("every answer is 200");
    }
    good.load(Ordering::Relaxed)
}

/// Posts so many a second, each on a connection that is free, and waits for all; how long each took, and how many were
/// not answered 200.
pub(crate) async fn steadily(
    address: SocketAddr,
    request: Vec<u8>,
    per_second: usize,
    length: Duration,
) -> (Vec<Duration>, usize) {
    let (request, idle) = (Arc::new(request), Arc::new(std::sync::Mutex::new(Vec::<TcpStream>::new())));
    let free = |idle: &std::sync::Mutex<Vec<TcpStream>>| idle.lock().expect("nobody panics").pop();
    let total = (length.as_secs_f64() * per_second as f64) as usize;
    let mut waits = JoinSet::new();
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut sent = 0;
    while sent < total {
        ticks.tick().await;
        // As many as are due by now: a late tick is made up for.
        let due = ((start.elapsed().as_secs_f64() * per_second as f64) as usize).min(total);
        for _ in sent..due {
            let (request, idle) = (Arc::clone(&request), Arc::clone(&idle));
            waits.spawn(async move {
                let mut connection = match free(&idle) {
                    Some(connection) => connection,
                    None => connect(address).await,
                };
                let began = Instant::now();
                let good = post(&mut connection, &request).await;
                let took = began.elapsed();
                if good {
                    idle.lock().expect("nobody panics").push(connection);
                }
                (took, good)
            });
        }
        sent = due;
    }
    let (mut times, mut bad) = (Vec::with_capacity(total), 0);
    while let Some(ended) = waits.join_next().await {
        let (took, good) = ended.expect("a request does not panic");
        times.push(took);
        bad += usize::from(!good);
    }
    times.sort();
    (times, bad)
}
