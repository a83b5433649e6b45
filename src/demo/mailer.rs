//! What sends the demo's mails: a mail server, or one of the mail APIs.

use clap::ValueEnum;
use serde_json::{Value, json};
use stand_ins::mail_api::{Fault, MailApi, Reply, Vendor};
use stand_ins::smtp::{Mode, Smtp, Stage, What};

/// What the demo can send mails by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// A mail server
    #[default]
    Smtp,
    /// Resend's API
    Resend,
    /// Postmark's API
    Postmark,
    /// SendGrid's API
    #[value(name = "sendgrid")]
    SendGrid,
}

/// The stand-in that takes the mails.
pub(super) enum Mailer {
    Server(Smtp),
    Api(Vendor, MailApi),
}

impl Mailer {
    pub(super) async fn start(transport: Transport) -> Self {
        let vendor = match transport {
            Transport::Smtp => return Self::Server(Smtp::start(Mode::Plain).await),
            Transport::Resend => Vendor::Resend,
            Transport::Postmark => Vendor::Postmark,
            Transport::SendGrid => Vendor::SendGrid,
        };
        Self::Api(vendor, MailApi::start().await)
    }

    /// The variables that an operator would set for it.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Server(smtp) => vec![("SMTP_URL", smtp.url())],
            Self::Api(vendor, api) => vec![
                ("LEAD_INTAKE__MAIL__TRANSPORT", vendor.word().to_owned()),
                ("LEAD_INTAKE__MAIL__API_KEY", vendor.key().to_owned()),
                ("LEAD_INTAKE__MAIL__BASE_URL", api.base_url()),
            ],
        }
    }

    /// What the page calls it in a sentence and alone, and what it does when it is down.
    pub(super) fn words(&self) -> [&'static str; 3] {
        match self {
            Self::Server(_) => ["a mail server", "Mail server", "closes with 421"],
            Self::Api(Vendor::Resend, _) => ["Resend", "Resend", "answers 500"],
            Self::Api(Vendor::Postmark, _) => ["Postmark", "Postmark", "answers 500"],
            Self::Api(Vendor::SendGrid, _) => ["SendGrid", "SendGrid", "answers 500"],
        }
    }

    /// Every mail that it took, as the page shows it; `team` is the team's address.
    pub(super) fn mails(&self, team: &str) -> Vec<Value> {
        let shown = |to: &str, subject: Option<String>, html: Option<String>| json!({"team": to == team, "to": to, "subject": subject, "html": html});
        match self {
            Self::Server(smtp) => smtp
                .mails()
                .iter()
                .map(|mail| {
                    shown(&mail.recipients.join(", "), mail.header("subject"), mail.part("text/html"))
                })
                .collect(),
            Self::Api(_, api) => api
                .mails()
                .into_iter()
                .map(|mail| shown(&mail.to, Some(mail.subject), Some(mail.html)))
                .collect(),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        match self {
            Self::Server(smtp) => smtp.is_broken(),
            Self::Api(_, api) => api.script().is_planned(),
        }
    }

    pub(super) fn take_down(&self) {
        match self {
            Self::Server(smtp) => {
                smtp.always(Stage::Greeting, What::Say("421 4.3.2 down for maintenance"));
            }
            Self::Api(vendor, api) => api.script().always(Fault::Answer(match vendor {
                Vendor::Resend => Reply::resend(500, "application_error", "An unexpected error occurred."),
                Vendor::Postmark => Reply::status(500),
                Vendor::SendGrid => Reply::sendgrid(500, "Something went wrong.", None),
            })),
        }
    }

    pub(super) fn mend(&self) {
        match self {
            Self::Server(smtp) => smtp.mend(),
            Self::Api(_, api) => api.script().mend(),
        }
    }
}
