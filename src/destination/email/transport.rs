//! One mail over one SMTP connection, stage by stage: what a failure means depends on where it strikes.
//!
//! A connection is never used again: one that was cut short would give the next mail the answers meant
//! for this one.

use std::future::Future;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::DEFAULT_MECHANISMS;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use tokio::time::{Instant, timeout, timeout_at};

use super::server::{Security, Server};
use super::settings::Mail;

/// How long a goodbye may take; it decides nothing.
const QUIT: Duration = Duration::from_millis(500);

/// Where a session stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Connect,
    StartTls,
    Auth,
    Sender,
    Recipient,
    Data,
    Body,
}

impl Stage {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::StartTls => "starttls",
            Self::Auth => "auth",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "data",
            Self::Body => "body",
        }
    }
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Transient,
    Rejected,
    Blocked,
    Unknown,
}

/// A failure of a session, or of one recipient.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) class: Class,
    pub(super) code: Option<u16>,
    pub(super) text: String,
}

/// A mail that was taken.
pub(super) struct Taken {
    /// The server's last line, which often names its queue id.
    pub(super) answer: String,
    /// Recipients that were refused while others were taken.
    pub(super) refused: Vec<(Address, Failure)>,
}

/// Sends the mail's bytes to every recipient.
pub(super) async fn send(
    mail: &Mail,
    server: &Server,
    to: &[Address],
    bytes: &[u8],
    deadline: Instant,
) -> Result<Taken, Failure> {
    let mut session = open(server, deadline).await?;
    let limit = server.command_timeout;
    at(Stage::Sender, limit, deadline, session.command(MailFrom::new(Some(mail.from.email.clone()), vec![])))
        .await?;
    let (mut taken, mut refused) = (0, Vec::new());
    for address in to {
        match at(Stage::Recipient, limit, deadline, session.command(Rcpt::new(address.clone(), vec![]))).await
        {
            Ok(_) => taken += 1,
            // The connection is gone: nobody gets it.
            Err(failure) if failure.code.is_none() || failure.code == Some(421) => return Err(failure),
            Err(failure) => refused.push((address.clone(), failure)),
        }
    }
    if taken == 0 {
        // One that may take it later is worth another attempt for all.
        let worth =
            |class| refused.iter().position(|(_, failure): &(Address, Failure)| failure.class == class);
        let first = worth(Class::Transient).or_else(|| worth(Class::Blocked)).unwrap_or(0);
        goodbye(session).await;
        return Err(refused.swap_remove(first).1);
    }
    // The last wait is given its own time: cut short, it would only make a second mail.
    if Instant::now() + mail.final_timeout > deadline {
        goodbye(session).await;
        let text = "it was so slow that too little time was left for its answer to the whole mail".to_owned();
        return Err(Failure { stage: Stage::Data, class: Class::Transient, code: None, text });
    }
    let go = at(Stage::Data, limit, deadline, session.command(Data)).await?;
    if !go.has_code(354) {
        // Anything else and the body would be read as commands.
        return Err(odd(Stage::Data, Class::Transient, u16::from(go.code())));
    }
    let answer = at(Stage::Body, mail.final_timeout, deadline, session.message(bytes)).await?;
    if !answer.has_code(250) {
        return Err(odd(Stage::Body, Class::Unknown, u16::from(answer.code())));
    }
    let answer = answer.message().collect::<Vec<_>>().join(" ");
    goodbye(session).await;
    Ok(Taken { answer, refused })
}

/// Connects, makes it safe and logs in.
pub(super) async fn open(server: &Server, deadline: Instant) -> Result<AsyncSmtpConnection, Failure> {
    let limit = server.command_timeout;
    let wrapper = match &server.security {
        Security::Implicit(tls) => Some(tls.clone()),
        Security::StartTls(_) | Security::Loopback => None,
    };
    let address = (server.host.as_str(), server.port);
    let connect = AsyncSmtpConnection::connect_tokio1(address, Some(limit), &server.hello, wrapper, None);
    let mut session = at(Stage::Connect, limit, deadline, connect).await?;
    if let Security::StartTls(tls) = &server.security {
        at(Stage::StartTls, limit, deadline, session.starttls(tls.clone(), &server.hello)).await?;
        // The library keeps what came before the handshake, and would take it for answers that TLS has
        // vouched for (RFC 3207 section 6). One alone is found out by the codes of the answers that follow.
        if timeout(Duration::ZERO, session.read_response()).await.is_ok() {
            let text =
                "it had answered before it was asked, and before TLS: somebody on the way may have meddled";
            return Err(Failure {
                stage: Stage::StartTls,
                class: Class::Transient,
                code: None,
                text: text.to_owned(),
            });
        }
    }
    if let Some(credentials) = &server.credentials {
        let welcome = at(Stage::Auth, limit, deadline, session.auth(DEFAULT_MECHANISMS, credentials)).await?;
        if !welcome.has_code(235) {
            return Err(odd(Stage::Auth, Class::Transient, u16::from(welcome.code())));
        }
    }
    Ok(session)
}

/// The mail has been taken or refused already: nothing depends on this.
pub(super) async fn goodbye(mut session: AsyncSmtpConnection) {
    let _ = timeout(QUIT, session.quit()).await;
}

async fn at<T>(
    stage: Stage,
    limit: Duration,
    deadline: Instant,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout_at(deadline.min(Instant::now() + limit), step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let code = error.status().map(u16::from);
            Err(Failure {
                stage,
                class: class(stage, code, error.is_client()),
                code,
                text: text(code, &error),
            })
        }
        Err(_) => {
            let class = if stage == Stage::Body { Class::Unknown } else { Class::Transient };
            Err(Failure { stage, class, code: None, text: "no answer in time".to_owned() })
        }
    }
}

/// What the server said, number first, or what became of the connection: without the library's words around it, and
/// without the system's number, which differs from one to the next.
fn text(code: Option<u16>, error: &Error) -> String {
    let inner = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    match code {
        Some(code) => format!("{code} {inner}"),
        None => inner.split(" (os error").next().unwrap_or_default().to_owned(),
    }
}

fn odd(stage: Stage, class: Class, code: u16) -> Failure {
    Failure {
        stage,
        class,
        code: Some(code),
        text: format!("the server answered {code}, which makes no sense here"),
    }
}

/// RFC 5321 section 4.2 and 4.3.2, read for one mail. `ours`: the library itself would not go on, for the
/// server lacks what our settings ask for.
fn class(stage: Stage, code: Option<u16>, ours: bool) -> Class {
    match (stage, code) {
        (_, Some(421)) => Class::Transient,
        // A refusal of the whole mail is about the mail, whatever its number.
        (Stage::Body, Some(500..=599)) => Class::Rejected,
        (_, Some(530 | 534 | 535 | 538)) | (Stage::Auth, Some(500..=599)) => Class::Blocked,
        // The server refuses us, not this mail.
        (Stage::Connect | Stage::StartTls, Some(500..=599)) => Class::Blocked,
        (Stage::Sender, Some(550 | 551 | 553 | 555)) => Class::Blocked,
        // Too many recipients: RFC 5321 section 4.5.3.1.10.
        (Stage::Recipient, Some(552)) => Class::Transient,
        (_, Some(400..=499)) => Class::Transient,
        (_, Some(_)) => Class::Rejected,
        (Stage::Body, None) => Class::Unknown,
        (_, None) if ours => Class::Blocked,
        (_, None) => Class::Transient,
    }
}
