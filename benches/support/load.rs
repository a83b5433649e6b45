//! A plain load generator: keep-alive connections that post one body again and again.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The request that a website would send.
pub(crate) fn request() -> Vec<u8> {
    let body = serde_json::json!({
        "email": "ada@example.com", "name": "Ada Lovelace", "phone": "+44 20 7946 0018",
        "source": {"url": "https://example.com/contact?utm_source=news", "utm_source": "news", "utm_campaign": "autumn"},
        "form_name": "contact", "consent_given": true, "timezone": "Europe/London",
        "form_data": {"company_size": "11 to 50", "message": "Could you send us an offer?"},
    })
    .to_string();
    format!("POST /api/submit HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
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
