//! `[server]`, believed while it is read.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::destination::SettingProblem;
use crate::secret::Secret;
use crate::units;

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to listen.
    #[serde(deserialize_with = "bind")]
    pub bind: SocketAddr,
    /// Websites whose pages may send leads.
    pub allowed_origins: Vec<Origin>,
    /// Proxies whose word for the client's address is believed.
    pub trusted_proxies: Vec<Network>,
    /// The key of address hashes; made once and kept in the store when absent.
    #[serde(default)]
    pub ip_hash_key: Option<Secret>,
    /// The largest body, in bytes.
    #[serde(with = "units::size")]
    pub body_limit: usize,
    /// How long a client may take to send its headers.
    #[serde(with = "units::limit")]
    pub header_timeout: Duration,
    /// How long a client may take to send its body.
    #[serde(with = "units::limit")]
    pub body_timeout: Duration,
    /// How many connections may be open at once.
    pub max_connections: usize,
    /// How long a shutdown goes on taking leads while `/health/ready` says no already.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// How long a shutdown waits for what is in flight.
    #[serde(with = "units::duration")]
    pub shutdown_timeout: Duration,
}

impl Settings {
    /// Values that fit their types and yet cannot be used.
    pub fn problems(&self) -> Vec<SettingProblem> {
        let mut problems = Vec::new();
        if self.max_connections == 0 {
            problems.push(SettingProblem::new("max_connections", "nobody could connect", "write 10000"));
        }
        if self.body_limit < 1_024 {
            problems.push(SettingProblem::new(
                "body_limit",
                "no lead fits into less than 1 KiB",
                "write \"64KiB\"",
            ));
        }
        problems
    }
}

fn bind<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "`{text}` is no address and port; write numbers, such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\""
        ))
    })
}

/// A website: scheme, host and port as a browser's `Origin` header writes them (RFC 6454 section 6.2),
/// or any.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Origin {
    /// `*`
    Any,
    /// One site.
    Site(String),
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let wrong =
            || format!("`{text}` is no origin; write scheme and host alone, such as \"https://example.com\"");
        let url = url::Url::parse(text.trim()).map_err(|_| wrong())?;
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let fits = bare && matches!(url.scheme(), "http" | "https") && url.username().is_empty();
        if fits { Ok(Self::Site(url.origin().ascii_serialization())) } else { Err(wrong()) }
    }
}

/// An address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let text = text.trim();
        let single = text.parse::<IpAddr>().map(IpNet::from);
        let network = single.or_else(|_| text.parse::<IpNet>());
        network.map(Self).map_err(|_| {
            format!("`{text}` is neither an address nor a network; write \"10.0.0.7\" or \"10.0.0.0/8\"")
        })
    }
}
