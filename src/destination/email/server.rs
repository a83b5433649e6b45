//! The mail server that `mail.smtp_url` names, and how a connection to it is made safe.

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use url::Url;

use crate::net::is_loopback;
use crate::secret::Secret;

/// How a connection is made safe.
pub(super) enum Security {
    /// TLS from the first byte.
    Implicit(TlsParameters),
    /// STARTTLS, or no mail.
    StartTls(TlsParameters),
    /// None: loopback alone.
    Loopback,
}

/// A mail server.
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
    pub(super) hello: ClientId,
    pub(super) command_timeout: Duration,
}

impl Server {
    /// Believes the URL; reads the certificate. The sentence of an error does not show the URL.
    pub(super) fn parse(
        url: &Secret,
        trusted: Option<Certificate>,
        command_timeout: Duration,
    ) -> Result<Self, String> {
        let url = Url::parse(url.expose()).map_err(|error| format!("this is no URL: {error}"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("this URL names no host")?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let plain = url.query() == Some("tls=none");
        if url.query().is_some_and(|query| !matches!(query, "tls=none" | "tls=required")) {
            return Err("what stands behind the `?` is not known".to_owned());
        }
        let tls = || {
            let mut builder = TlsParameters::builder(bare.clone());
            if let Some(certificate) = trusted {
                builder = builder.add_root_certificate(certificate);
            }
            builder.build().map_err(|error| format!("TLS cannot be set up: {error}"))
        };
        let security = match url.scheme() {
            "smtps" if !plain => Security::Implicit(tls()?),
            "smtp" if plain && is_loopback(&host) => Security::Loopback,
            "smtp" if plain => return Err("mail without TLS goes to loopback addresses only".to_owned()),
            "smtp" => Security::StartTls(tls()?),
            _ => return Err("this begins neither with smtp:// nor with smtps://".to_owned()),
        };
        let port = url.port().unwrap_or(if matches!(security, Security::Implicit(_)) { 465 } else { 587 });
        let decoded =
            |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = (!url.username().is_empty())
            .then(|| Credentials::new(decoded(url.username()), decoded(url.password().unwrap_or_default())));
        Ok(Self { host: bare, port, security, credentials, hello: ClientId::default(), command_timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_says_how_it_is_made_safe_and_where_it_listens() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let parsed = |url: &str| {
            Server::parse(&Secret::new(url), None, Duration::from_secs(1)).map(|server| {
                let security = match server.security {
                    Security::Implicit(_) => "TLS",
                    Security::StartTls(_) => "STARTTLS",
                    Security::Loopback => "none",
                };
                (security, server.port)
            })
        };
        assert_eq!(parsed("smtps://mail.test"), Ok(("TLS", 465)));
        assert_eq!(parsed("smtp://mail.test"), Ok(("STARTTLS", 587)));
        assert_eq!(parsed("smtp://mail.test:2525?tls=required"), Ok(("STARTTLS", 2525)));
        assert_eq!(parsed("smtp://127.0.0.1?tls=none"), Ok(("none", 587)));
        for unsafe_one in
            ["smtp://mail.test?tls=none", "smtps://mail.test?tls=none", "smtp://mail.test?tls=no"]
        {
            assert!(parsed(unsafe_one).is_err(), "{unsafe_one}");
        }
    }
}
