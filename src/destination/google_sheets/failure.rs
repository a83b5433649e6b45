//! What a call says that brought nothing: surely not done, or perhaps done.

use std::time::Duration;

use google_sheets4::common::{self, Delegate, Response, Retry};
use serde_json::Value;

use super::token::NoToken;
use crate::clock::Clock;
use crate::net::retry_after;

/// Rows went elsewhere, or nowhere.
const MISPLACED: &str = "misplaced";

/// Why a call brought nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was sent.
    Unsent,
    /// Sent, and no clear answer came.
    Lost(String),
    /// A clear answer: not done.
    Refused {
        /// The HTTP status.
        status: u16,
        /// Google's sentence.
        message: String,
        /// Google's own word for how long to wait.
        retry_after: Option<Duration>,
    },
    /// The token endpoint refuses us.
    NoAccess(String),
    /// The tab's header cannot be written under: a person has to put it right.
    BadHeader(&'static str),
    /// Another process writes the sheet by now; nothing was sent.
    Overtaken,
}

/// What the library would drop: the status and headers of a refusal.
#[derive(Default)]
pub(super) struct Heard {
    status: Option<u16>,
    retry_after: Option<Duration>,
}

impl Delegate for Heard {
    fn http_failure(&mut self, response: &Response, _: Option<&Value>) -> Retry {
        self.status = Some(response.status().as_u16());
        self.retry_after = retry_after(response.headers(), Clock::system().now());
        Retry::Abort
    }
}

impl Heard {
    /// What an error says, with what was heard.
    pub(super) fn understood(&self, error: common::Error) -> Failure {
        let message = match &error {
            common::Error::BadRequest(body) => {
                body["error"]["message"].as_str().unwrap_or_default().to_owned()
            }
            _ => String::new(),
        };
        match (error, self.status) {
            (common::Error::MissingToken(why), _) => match why.downcast_ref::<NoToken>() {
                Some(NoToken::Refused(why)) => Failure::NoAccess(why.clone()),
                _ => Failure::Unsent,
            },
            (common::Error::HttpError(error), _) if error.is_connect() => Failure::Unsent,
            (common::Error::HttpError(_), _) => Failure::Lost("connection_lost".to_owned()),
            (common::Error::JsonDecodeError(..), _) => Failure::Lost("cut_answer".to_owned()),
            (_, Some(status @ (408 | 500..=599))) => Failure::Lost(format!("http_{status}")),
            (_, Some(status)) => Failure::Refused { status, message, retry_after: self.retry_after },
            (_, None) => Failure::Lost("no_answer".to_owned()),
        }
    }
}

impl Failure {
    /// Rows went elsewhere, or nowhere.
    pub(super) fn misplaced() -> Self {
        Self::Lost(MISPLACED.to_owned())
    }

    /// Rows went somewhere else: what we know of the tab may be wrong.
    pub(super) fn is_misplaced(&self) -> bool {
        matches!(self, Self::Lost(code) if code == MISPLACED)
    }

    /// Google does not take the token, which says nothing about the key: 401, or 403 as if there were none.
    pub(super) fn is_stale_token(&self) -> bool {
        match self {
            Self::Refused { status: 401, .. } => true,
            Self::Refused { status: 403, message, .. } => message.contains("unregistered callers"),
            _ => false,
        }
    }
}
