//! From a URL to the way to a database: what tokio-postgres reads, and the words for TLS that libpq knows beyond
//! it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// How long the network may take to reach a host.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a database is, and how to get there.
#[derive(Clone, Debug)]
pub struct Address {
    config: Config,
    /// A file with certificates to trust besides the platform's.
    roots: Option<PathBuf>,
}

impl Address {
    /// Reads a `postgres://` URL.
    ///
    /// # Errors
    /// What is wrong with it, without any part that could be secret.
    pub fn parse(url: &str) -> Result<Self, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut roots = None;
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                // A certificate is always verified, its name included.
                Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
                Some(("sslmode", "allow")) => kept.push("sslmode=prefer"),
                Some(("sslrootcert", "system")) => {}
                Some(("sslrootcert", path)) => {
                    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
                    roots = Some(PathBuf::from(path.as_ref()));
                }
                _ => kept.push(pair),
            }
        }
        let url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        })?;
        if config.get_hosts().is_empty() {
            return Err("it names no host".to_owned());
        }
        // Its rest would be taken for the name of the host, and shown.
        if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
            return Err("a password's `@` must be written %40".to_owned());
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("lead-intake");
        }
        // A peer that is gone without a word is noticed within half a minute, and a standby is passed over.
        config
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(15))
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self { config, roots })
    }

    /// The place, without user and password.
    pub fn place(&self) -> String {
        let name = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<_> = self.config.get_hosts().iter().map(name).collect();
        format!(
            "the database {} at {}",
            self.config.get_dbname().unwrap_or("of the user's name"),
            hosts.join(", ")
        )
    }

    /// Whether both name the same servers and the same database.
    pub fn is_same(&self, other: &Self) -> bool {
        let database = |config: &Config| config.get_dbname().or(config.get_user()).map(str::to_owned);
        let servers = |config: &Config| (config.get_hosts().to_vec(), config.get_ports().to_vec());
        let (one, two) = (&self.config, &other.config);
        servers(one) == servers(two) && database(one) == database(two)
    }

    /// The way to each of its hosts, in their order. tokio-postgres tries several by itself, but waits without end for one
    /// that takes the connection and then says nothing.
    pub(super) fn ways(&self) -> Vec<Config> {
        let all = &self.config;
        let count = all.get_hosts().len().max(all.get_hostaddrs().len());
        (0..count).map(|index| way(all, index)).collect()
    }

    /// TLS with the platform's roots. Where no connection can use it, none are read.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, StoreError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unavailable)?;
        let local = self.config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        if local || self.config.get_ssl_mode() == SslMode::Disable {
            let none = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
            return Ok(MakeRustlsConnect::new(none));
        }
        let mut extra = Vec::new();
        if let Some(path) = &self.roots {
            let unread = |error| StoreError::Unusable {
                problem: format!("the certificates in {} cannot be read", path.display()),
                hint: "let sslrootcert in store.url (DATABASE_URL) name a file with PEM certificates",
                source: Box::new(error),
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(unread)? {
                extra.push(certificate.map_err(unread)?);
            }
        }
        let verifier = Verifier::new_with_extra_roots(extra, provider).map_err(unavailable)?;
        let config =
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

/// The same for one host alone.
fn way(all: &Config, index: usize) -> Config {
    let mut one = Config::new();
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(database) = all.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(name) = all.get_application_name() {
        one.application_name(name);
    }
    match all.get_hosts().get(index) {
        Some(Host::Tcp(name)) => one.host(name),
        Some(Host::Unix(path)) => one.host_path(path),
        None => &mut one,
    };
    if let Some(address) = all.get_hostaddrs().get(index) {
        one.hostaddr(*address);
    }
    // One port is every host's.
    if let Some(port) = all.get_ports().get(index).or(all.get_ports().first()) {
        one.port(*port);
    }
    if let Some(time) = all.get_connect_timeout() {
        one.connect_timeout(*time);
    }
    if let Some(time) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*time);
    }
    if let Some(time) = all.get_keepalives_interval() {
        one.keepalives_interval(time);
    }
    if let Some(count) = all.get_keepalives_retries() {
        one.keepalives_retries(count);
    }
    one.keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .load_balance_hosts(all.get_load_balance_hosts())
        .target_session_attrs(all.get_target_session_attrs());
    one
}

fn unavailable(error: rustls::Error) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpqs_words_for_tls_are_understood() {
        let parsed =
            Address::parse("postgres://u:p@db.test/leads?sslmode=verify-full&sslrootcert=%2Fca.pem").unwrap();
        assert_eq!(parsed.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(parsed.roots, Some(PathBuf::from("/ca.pem")));
        assert_eq!(parsed.place(), "the database leads at db.test");
        assert!(
            Address::parse("postgres://u:secret@db.test:port/leads")
                .is_err_and(|why| !why.contains("secret"))
        );
        assert!(Address::parse("postgres:///leads").is_err());
        assert!(Address::parse("postgres://u:sec@ret@db.test/leads").is_err_and(|why| !why.contains("ret")));
    }

    #[test]
    fn the_ways_to_several_hosts_differ_in_their_hosts_alone() {
        let common = "leads?options=-csearch_path%3Dx&application_name=a&connect_timeout=2&channel_binding=require&\
                      sslmode=require&keepalives_interval=7&keepalives_retries=4";
        for (hosts, alone) in [("one:1,two:2", ["one:1", "two:2"]), ("one:7,two:7", ["one:7", "two:7"])] {
            let of = |hosts| Address::parse(&format!("postgres://u:p@{hosts}/{common}")).unwrap();
            assert_eq!(of(hosts).ways(), alone.map(|host| of(host).config));
        }
    }
}
