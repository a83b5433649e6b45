//! An SMTP submission server (RFC 5321, RFC 3207, RFC 4954): plain on the loopback, STARTTLS or TLS from
//! the first byte. It keeps what it accepted, and says what was wrong with how it came.

mod mail;
mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::script::Script;
pub use mail::Mail;

/// The one account.
pub const USER: &str = "leads";

/// Its password.
pub const PASSWORD: &str = "smtp-stand-in-password";

/// How connections are made safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all; for the loopback.
    Plain,
    /// STARTTLS, and no AUTH before it.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS is not offered, as if somebody on the way had cut it out.
    Stripped,
}

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The greeting.
    Greeting,
    /// EHLO.
    Hello,
    /// STARTTLS.
    StartTls,
    /// The handshake behind it.
    Handshake,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// After the final dot.
    Dot,
    /// QUIT.
    Quit,
}

/// What happens there.
#[derive(Clone, Debug)]
pub enum What {
    /// This answer instead of the ordinary.
    Say(&'static str),
    /// The work is done, and this answer comes a piece at a time.
    Pieces(&'static [&'static str]),
    /// The work is done, these bytes come, and the connection is closed.
    Bytes(&'static [u8]),
    /// The connection is closed.
    Close,
    /// No answer comes.
    Hang,
    /// After the dot: the mail is accepted and the connection closed before the answer.
    AcceptThenClose,
}

/// The stand-in. Stops when dropped.
pub struct Smtp {
    address: SocketAddr,
    mode: Mode,
    shared: Arc<Shared>,
    certificate: String,
    server: JoinHandle<()>,
}

struct Shared {
    mode: Mode,
    script: Script<(Stage, What)>,
    refused: std::sync::Mutex<Vec<String>>,
    limits: std::sync::Mutex<Limits>,
    mails: watch::Sender<Vec<Mail>>,
    tls: TlsAcceptor,
}

/// What a server says of itself in answer to EHLO.
#[derive(Clone, Copy)]
struct Limits {
    size: usize,
    mechanisms: &'static str,
}

impl Smtp {
    /// A server on a free port.
    ///
    /// # Panics
    /// When the loopback has no free port.
    #[expect(clippy::disallowed_methods, reason = "a stand-in's task ends with the stand-in")]
    pub async fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate for the loopback");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("the key is the certificate's");
        let shared = Arc::new(Shared {
            mode,
            script: Script::new(),
            refused: std::sync::Mutex::default(),
            limits: std::sync::Mutex::new(Limits { size: 10_485_760, mechanisms: "PLAIN LOGIN" }),
            mails: watch::Sender::new(Vec::new()),
            tls: TlsAcceptor::from(Arc::new(config)),
        });
        let sessions = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        let _ = stream.set_nodelay(true);
                        open.spawn(session::run(stream, Arc::clone(&sessions)));
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        });
        Self { address, mode, shared, certificate: made.cert.pem(), server }
    }

    /// What `SMTP_URL` is to be.
    pub fn url(&self) -> String {
        let (scheme, rest) = match self.mode {
            Mode::Plain => ("smtp", "?tls=none"),
            Mode::StartTls | Mode::Stripped => ("smtp", ""),
            Mode::Implicit => ("smtps", ""),
        };
        format!("{scheme}://{USER}:{PASSWORD}@{}{rest}", self.address)
    }

    /// The certificate to trust, as PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The next time a session comes to this stage.
    pub fn next(&self, stage: Stage, what: What) {
        self.shared.script.next((stage, what));
    }

    /// Every time, until [`Smtp::mend`].
    pub fn always(&self, stage: Stage, what: What) {
        self.shared.script.always((stage, what));
    }

    /// All is well again.
    pub fn mend(&self) {
        self.shared.script.mend();
    }

    /// Whether anything is planned to go wrong.
    pub fn is_broken(&self) -> bool {
        self.shared.script.is_planned()
    }

    /// These recipients, and no others, are refused with 550 from now on.
    pub fn refuse(&self, recipients: &[&str]) {
        *self.shared.refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            recipients.iter().map(|&recipient| recipient.to_owned()).collect();
    }

    /// From now on a mail takes at most so many bytes.
    pub fn limit_size(&self, size: usize) {
        self.shared.limits().size = size;
    }

    /// From now on these are the ways to log in: `LOGIN`, or several with spaces between.
    pub fn offer(&self, mechanisms: &'static str) {
        self.shared.limits().mechanisms = mechanisms;
    }

    /// Every mail that was accepted.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.borrow().clone()
    }

    /// How often each Message-ID was accepted.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for mail in self.shared.mails.borrow().iter() {
            *counts.entry(mail.header("message-id").unwrap_or_default()).or_default() += 1;
        }
        counts
    }

    /// Waits until the mails so far fit.
    pub async fn until(&self, fits: impl FnMut(&Vec<Mail>) -> bool) -> Vec<Mail> {
        let mut mails = self.shared.mails.subscribe();
        let mails = mails.wait_for(fits).await.expect("the stand-in lives");
        mails.clone()
    }
}

impl Shared {
    fn limits(&self) -> std::sync::MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.server.abort();
    }
}
