//! `lead-intake health`

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::{Common, Failure};
use crate::net::Net;

/// How long the service may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct Health {
    /// The service's address; by default the one that BIND names, on this machine
    url: Option<String>,
}

impl Health {
    pub(super) async fn run(self, common: &Common) -> Result<(), Failure> {
        let url = match self.url {
            Some(url) => url,
            None => here(common.load(&common.inputs())?.server.bind),
        };
        let url = if url.contains("://") { url } else { format!("http://{url}") };
        let bare = url.trim_end_matches('/');
        // An address alone: nothing behind the host.
        let url = if bare.matches('/').count() == 2 { format!("{bare}/health") } else { url };
        let answer = Net::new().get(&url, Instant::now() + PATIENCE).await.map_err(Failure::Because)?;
        say!("{}", String::from_utf8_lossy(&answer.body));
        if answer.status.is_success() { Ok(()) } else { Err(Failure::Said) }
    }
}

/// This machine's way to a listener that listens everywhere.
fn here(bind: SocketAddr) -> String {
    let mut address = bind;
    if bind.ip().is_unspecified() {
        let loopback = if bind.is_ipv4() { "127.0.0.1" } else { "::1" };
        address.set_ip(loopback.parse().expect("these are addresses"));
    }
    format!("http://{address}")
}
