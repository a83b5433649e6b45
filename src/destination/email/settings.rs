//! What mails take in the configuration: `[mail]` once, and a section for each mail that is sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::templates::Templates;
use crate::lead::Email;
use crate::net::is_loopback;
use crate::secret::Secret;
use crate::units::{self, SettingProblem};

/// `[mail]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// `smtp[s]://user:password@host:port`.
    pub smtp_url: Secret,
    /// Who the mails are from: `Name <address>`.
    pub from: String,
    /// A folder whose files replace the built-in templates of the same name.
    #[serde(default)]
    pub templates: Option<PathBuf>,
    /// The name that we greet the server with; the sender's domain when absent.
    #[serde(default)]
    pub hello_name: Option<String>,
    /// A certificate (PEM) to trust beside the platform's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long one command may take.
    #[serde(with = "units::duration")]
    pub command_timeout: Duration,
    /// How long the answer to the whole mail may take.
    #[serde(with = "units::duration")]
    pub final_timeout: Duration,
    /// The largest mail that is sent.
    #[serde(with = "units::size")]
    pub max_size: usize,
}

/// How a connection is made safe.
pub(super) enum Security {
    /// TLS from the first byte.
    Implicit(TlsParameters),
    /// STARTTLS, or no mail.
    StartTls(TlsParameters),
    /// None: loopback alone.
    Loopback,
}

/// `[mail]`, believed.
pub struct Mail {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) security: Security,
    pub(super) credentials: Option<Credentials>,
    pub(super) from: Mailbox,
    pub(super) hello: ClientId,
    pub(super) templates: Templates,
    pub(super) command_timeout: Duration,
    pub(super) final_timeout: Duration,
    pub(super) max_size: usize,
}

impl MailSettings {
    /// Believes the section; reads the templates.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(self) -> Result<Mail, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let mut wrong =
            |key: &str, message: String, hint: &str| problems.push(SettingProblem::new(key, message, hint));
        let hint = "write smtps://user:password@host:465 or smtp://user:password@host:587, with special characters percent-encoded";
        let server = self.server().map_err(|message| wrong("smtp_url", message, hint));
        let from = mailbox(&self.from).map_err(|message| {
            wrong("from", message, "write \"Your Company <hello@example.com>\"");
        });
        let templates = Templates::load(self.templates.as_deref()).map_err(|message| {
            wrong("templates", message, "correct the file, or take it out to use the built-in one");
        });
        let (Ok((host, port, security, credentials)), Ok(from), Ok(templates)) = (server, from, templates)
        else {
            return Err(problems);
        };
        let hello = self.hello_name.unwrap_or_else(|| from.email.domain().to_owned());
        Ok(Mail {
            host,
            port,
            security,
            credentials,
            from,
            hello: ClientId::Domain(hello),
            templates,
            command_timeout: self.command_timeout,
            final_timeout: self.final_timeout,
            max_size: self.max_size,
        })
    }

    fn server(&self) -> Result<(String, u16, Security, Option<Credentials>), String> {
        let url = Url::parse(self.smtp_url.expose()).map_err(|error| format!("this is no URL: {error}"))?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("this URL names no host")?.to_owned();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let plain = url.query() == Some("tls=none");
        if url.query().is_some_and(|query| !matches!(query, "tls=none" | "tls=required")) {
            return Err("what stands behind the `?` is not known".to_owned());
        }
        let tls = || {
            let mut builder = TlsParameters::builder(bare.clone());
            if let Some(path) = &self.ca_file {
                let pem =
                    std::fs::read(path).map_err(|error| format!("`ca_file` cannot be read: {error}"))?;
                let certificate =
                    Certificate::from_pem(&pem).map_err(|_| "`ca_file` holds no certificate".to_owned())?;
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
        Ok((bare, port, security, credentials))
    }
}

/// `Name <address>` or an address alone.
fn mailbox(text: &str) -> Result<Mailbox, String> {
    let (name, address) = match text.trim().strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (name.trim().trim_matches('"'), address),
        None => ("", text.trim()),
    };
    if name.chars().any(char::is_control) {
        return Err("a sender's name has no control characters".to_owned());
    }
    let address = address_of(address)?;
    Ok(Mailbox::new((!name.is_empty()).then(|| name.to_owned()), address))
}

/// An address as an envelope takes it.
pub(super) fn address_of(text: &str) -> Result<Address, String> {
    let parsed = Email::parse(text).map_err(|_| format!("`{}` is no e-mail address", text.trim()))?;
    parsed.ascii().parse().map_err(|_| format!("`{}` is no e-mail address", text.trim()))
}

/// `[destinations.NAME]` of the type `email`.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// Whom it is for.
    pub audience: Audience,
    /// The team's addresses: a list, or one text with commas.
    #[serde(default, deserialize_with = "addresses")]
    pub to: Vec<String>,
    /// Which templates it is made of.
    pub template: String,
    /// How many mails to the visitor one address gets within a day; 0 is no limit.
    #[serde(default)]
    pub per_day: usize,
}

/// Whom a mail is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// The site owner's own people.
    Team,
    /// The person who sent the form.
    Visitor,
}

fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let split = texts.iter().flat_map(|text| text.split(',')).map(|text| text.trim().to_owned());
    Ok(split.filter(|text| !text.is_empty()).collect())
}

/// A mail's section, believed.
pub struct Parsed {
    pub(super) audience: Audience,
    pub(super) to: Vec<Address>,
    pub(super) template: String,
    pub(super) per_day: usize,
    pub(super) mail: Arc<Mail>,
    /// Where the team's mails go: no confirmation goes there.
    pub(super) ours: Vec<Address>,
}

/// Tells every mail where the team's mails go.
pub fn introduce<'a>(mails: impl Iterator<Item = &'a mut Parsed>) {
    let mails: Vec<_> = mails.collect();
    let ours: Vec<_> = mails.iter().flat_map(|mail| mail.to.iter().cloned()).collect();
    for mail in mails {
        mail.ours.clone_from(&ours);
    }
}

impl Settings {
    /// Believes the section.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(self, mail: Arc<Mail>) -> Result<Parsed, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let mut to = Vec::new();
        for text in &self.to {
            match address_of(text) {
                Ok(address) if to.contains(&address) => {}
                Ok(address) => to.push(address),
                Err(message) => problems.push(SettingProblem::new(
                    "to",
                    message,
                    "write addresses with commas between them",
                )),
            }
        }
        match self.audience {
            Audience::Team if self.to.is_empty() => {
                let hint = "list the team's addresses in `to`; for the notification, EMAIL_NOTIFY_TO does so";
                problems.push(SettingProblem::new("to", "nobody would get this mail", hint));
            }
            Audience::Team if self.per_day > 0 => {
                let hint = "take it out: the team hears of every lead";
                problems.push(SettingProblem::new("per_day", "this is for mails to the visitor", hint));
            }
            Audience::Visitor if !self.to.is_empty() => {
                let hint = "take it out, or write audience = \"team\"";
                problems.push(SettingProblem::new(
                    "to",
                    "a mail to the visitor has no other recipient",
                    hint,
                ));
            }
            _ => {}
        }
        if let Err(message) = mail.templates.has(&self.template) {
            problems.push(SettingProblem::new(
                "template",
                message,
                "write \"notification\" or \"confirmation\", or add the files to `mail.templates`",
            ));
        }
        if problems.is_empty() {
            let Self { audience, template, per_day, .. } = self;
            Ok(Parsed { audience, to, template, per_day, mail, ours: Vec::new() })
        } else {
            Err(problems)
        }
    }
}
