//! What mails take in the configuration: `[mail]` once, and a section for each mail that is sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::Certificate;
use lettre::transport::smtp::extension::ClientId;
use serde::{Deserialize, Deserializer};

use super::api::{Api, Vendor};
use super::server::Server;
use super::templates::Templates;
use crate::lead::Email;
use crate::secret::Secret;
use crate::units::{self, SettingProblem};

/// How many mails of one kind an address gets a day, unless the settings say so.
const A_DAY: u32 = 1;

/// The largest limit of mails to one address a day: beyond it there might as well be none.
const MOST_A_DAY: u32 = 100;

/// `[mail]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailSettings {
    /// How mails are sent.
    pub transport: Transport,
    /// `smtp[s]://user:password@host:port`.
    #[serde(default)]
    pub smtp_url: Option<Secret>,
    /// What a mail API knows us by.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// What stands before a mail API's own path; the vendor's public address when absent.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Whether plain http to a mail API is fine beyond the loopback.
    pub allow_http: bool,
    /// Who the mails are from: `Name <address>`.
    #[serde(default)]
    pub from: Option<String>,
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
    #[serde(with = "units::limit")]
    pub command_timeout: Duration,
    /// How long the answer to the whole mail may take.
    #[serde(with = "units::limit")]
    pub final_timeout: Duration,
    /// The largest mail that is sent.
    #[serde(with = "units::size")]
    pub max_size: usize,
}

/// How mails are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// To a mail server.
    Smtp,
    /// Through Resend's API.
    Resend,
    /// Through Postmark's API.
    Postmark,
    /// Through SendGrid's API.
    SendGrid,
}

/// The transport, believed.
pub(super) enum Way {
    /// To a mail server.
    Smtp(Box<Server>),
    /// Through a mail API.
    Api(Box<Api>),
}

/// `[mail]`, believed.
pub struct Mail {
    pub(super) way: Way,
    pub(super) from: Mailbox,
    pub(super) templates: Templates,
    pub(super) final_timeout: Duration,
    pub(super) max_size: usize,
}

impl Mail {
    /// The shortest time that an attempt needs: the wait for the answer to the whole mail, which is never cut, and half
    /// as long again for all that comes before it.
    pub fn least_timeout(&self) -> Duration {
        self.final_timeout * 3 / 2
    }
}

fn certificate(path: &Path) -> Result<Certificate, String> {
    let pem = std::fs::read(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    Certificate::from_pem(&pem).map_err(|_| format!("`{}` holds no certificate", path.display()))
}

impl MailSettings {
    /// Believes the section; reads the templates.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(self) -> Result<Mail, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let way = self.way().map_err(|wrong| problems.extend(wrong));
        let from = match &self.from {
            None => Err(missing("from", "EMAIL_FROM")),
            Some(from) => mailbox(from).map_err(|message| {
                SettingProblem::new("from", message, "write \"Your Company <hello@example.com>\"")
            }),
        };
        let from = from.map_err(|problem| problems.push(problem));
        let templates = Templates::load(self.templates.as_deref()).map_err(|message| {
            let hint = "correct the file, or take it out to use the built-in one";
            problems.push(SettingProblem::new("templates", message, hint));
        });
        let (Ok(mut way), Ok(from), Ok(templates)) = (way, from, templates) else {
            return Err(problems);
        };
        if let Way::Smtp(server) = &mut way {
            let hello = self.hello_name.unwrap_or_else(|| from.email.domain().to_owned());
            server.hello = ClientId::Domain(hello);
        }
        Ok(Mail { way, from, templates, final_timeout: self.final_timeout, max_size: self.max_size })
    }

    fn way(&self) -> Result<Way, Vec<SettingProblem>> {
        let vendor = match self.transport {
            Transport::Smtp => return self.server().map(|server| Way::Smtp(Box::new(server))),
            Transport::Resend => Vendor::Resend,
            Transport::Postmark => Vendor::Postmark,
            Transport::SendGrid => Vendor::SendGrid,
        };
        let api = Api::parse(vendor, self.api_key.as_ref(), self.base_url.as_deref(), self.allow_http)?;
        Ok(Way::Api(Box::new(api)))
    }

    fn server(&self) -> Result<Server, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        for (key, is_set) in [("api_key", self.api_key.is_some()), ("base_url", self.base_url.is_some())] {
            if is_set {
                let hint = "write transport = \"resend\", \"postmark\" or \"sendgrid\", or take it out";
                let message = "this is for mail APIs, but `mail.transport` is \"smtp\"";
                problems.push(SettingProblem::new(key, message, hint));
            }
        }
        let trusted = self.ca_file.as_deref().map(certificate).transpose().unwrap_or_else(|message| {
            let hint = "name a certificate (PEM) that this user may read, or take it out";
            problems.push(SettingProblem::new("ca_file", message, hint));
            None
        });
        let server = match &self.smtp_url {
            None => Err(missing("smtp_url", "SMTP_URL")),
            Some(url) => Server::parse(url, trusted, self.command_timeout).map_err(|message| {
                let hint = "write smtps://user:password@host:465 or smtp://user:password@host:587, with special characters percent-encoded";
                SettingProblem::new("smtp_url", message, hint)
            }),
        };
        match server {
            Ok(server) if problems.is_empty() => Ok(server),
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }
}

fn missing(key: &str, variable: &str) -> SettingProblem {
    SettingProblem::new(key, format!("`{key}` is missing"), format!("set it in the file, or by {variable}"))
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
    /// How many mails to the visitor one address gets within a day; 0 is no limit, and 1 when absent.
    #[serde(default)]
    pub per_day: Option<u32>,
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
    pub(super) per_day: u32,
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
    pub fn parse(self, mail: Option<&Arc<Mail>>) -> Result<Parsed, Vec<SettingProblem>> {
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
        let per_day = match self.audience {
            Audience::Team => self.per_day.unwrap_or(0),
            Audience::Visitor => self.per_day.unwrap_or(A_DAY),
        };
        match self.audience {
            Audience::Team if self.to.is_empty() => {
                let hint = "list the team's addresses in `to`; for the notification, EMAIL_NOTIFY_TO does so";
                problems.push(SettingProblem::new("to", "nobody would get this mail", hint));
            }
            Audience::Team if per_day > 0 => {
                let hint = "take it out: the team hears of every lead";
                problems.push(SettingProblem::new("per_day", "this is for mails to the visitor", hint));
            }
            Audience::Visitor if per_day > MOST_A_DAY => {
                let message = format!("{per_day} mails a day to one address are no limit");
                let hint = "write at most 100, or 0 for no limit";
                problems.push(SettingProblem::new("per_day", message, hint));
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
        if let Some(Err(message)) = mail.map(|mail| mail.templates.has(&self.template)) {
            problems.push(SettingProblem::new(
                "template",
                message,
                "write \"notification\" or \"confirmation\", or add the files to `mail.templates`",
            ));
        }
        match mail {
            Some(mail) if problems.is_empty() => {
                let Self { audience, template, .. } = self;
                Ok(Parsed { audience, to, template, per_day, mail: Arc::clone(mail), ours: Vec::new() })
            }
            _ => Err(problems),
        }
    }
}
