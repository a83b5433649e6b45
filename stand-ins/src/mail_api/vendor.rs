//! How each vendor answers: who may call, what a mail that was taken looks like, and its errors.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// resend.com
    Resend,
    /// postmarkapp.com
    Postmark,
    /// sendgrid.com
    SendGrid,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::status(status).with("content-type", "application/json").saying(&body.to_string())
    }

    /// A page, as of a proxy on the way.
    pub fn page(status: u16) -> Self {
        let page = "<html><body>Your request was stopped.</body></html>";
        Self::status(status).with("content-type", "text/html; charset=utf-8").saying(page)
    }

    /// An error of Resend's.
    pub fn resend(status: u16, name: &str, message: &str) -> Self {
        Self::json(status, &json!({ "statusCode": status, "name": name, "message": message }))
    }

    /// An error of Postmark's.
    pub fn postmark(status: u16, number: u64, message: &str) -> Self {
        Self::json(status, &json!({ "ErrorCode": number, "Message": message }))
    }

    /// An error of SendGrid's.
    pub fn sendgrid(status: u16, message: &str, field: Option<&str>) -> Self {
        Self::json(status, &json!({ "errors": [{ "message": message, "field": field, "help": null }] }))
    }

    /// With this header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    pub fn saying(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

impl Vendor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Resend, Self::Postmark, Self::SendGrid];

    /// What `mail.transport` is to be.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Postmark => "postmark",
            Self::SendGrid => "sendgrid",
        }
    }

    /// The one key.
    pub fn key(self) -> &'static str {
        match self {
            Self::Resend => "re_stand_in_key",
            Self::Postmark => "postmark-stand-in-token",
            Self::SendGrid => "SG.stand-in.key",
        }
    }

    /// Who may call. A wrong key is quoted, as careless servers do.
    pub(super) fn admits(self, headers: &BTreeMap<String, String>) -> Result<(), Reply> {
        let name = if self == Self::Postmark { "x-postmark-server-token" } else { "authorization" };
        let given = headers.get(name).map(String::as_str).unwrap_or_default();
        let given =
            if self == Self::Postmark { given } else { given.strip_prefix("Bearer ").unwrap_or_default() };
        if given == self.key() {
            return Ok(());
        }
        Err(match self {
            Self::Resend if given.is_empty() => Reply::resend(401, "missing_api_key", "There is no key."),
            Self::Resend => Reply::resend(403, "invalid_api_key", &format!("API key is invalid: {given}")),
            Self::Postmark => Reply::postmark(401, 10, &format!("No server has the token {given}.")),
            Self::SendGrid => Reply::sendgrid(401, &format!("The grant {given} is no grant of ours."), None),
        })
    }

    /// What it answers to the question that a check asks.
    pub(super) fn looks(self, can_only_send: bool, scopes: Option<&[String]>) -> Reply {
        match self {
            Self::Resend if can_only_send => {
                Reply::resend(401, "restricted_api_key", "This key may send mails and nothing else.")
            }
            Self::Resend => Reply::json(200, &json!({ "object": "list", "data": [] })),
            Self::Postmark => Reply::json(200, &json!({ "ID": 1, "Name": "stand-in" })),
            Self::SendGrid => {
                let usual = ["mail.send".to_owned(), "user.scopes.read".to_owned()];
                Reply::json(200, &json!({ "scopes": scopes.unwrap_or(&usual) }))
            }
        }
    }

    /// How it says that it took a mail.
    pub(super) fn takes(self, id: &str) -> Reply {
        match self {
            Self::Resend => Reply::json(200, &json!({ "id": id })),
            Self::Postmark => Reply::json(200, &json!({ "MessageID": id, "ErrorCode": 0, "Message": "OK" })),
            Self::SendGrid => Reply::status(202).with("x-message-id", id),
        }
    }

    /// How it says that a request has the wrong shape.
    pub(super) fn dislikes(self, wrong: &str) -> Reply {
        match self {
            Self::Resend => Reply::resend(422, "validation_error", wrong),
            Self::Postmark => Reply::postmark(422, 300, wrong),
            Self::SendGrid => Reply::sendgrid(400, wrong, None),
        }
    }
}
