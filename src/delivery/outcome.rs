//! What an attempt brought, in the words that decide what happens next.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::AttemptOutcome;
use super::retry::LONGEST_RETRY_AFTER;

/// What an attempt brought.
pub type Outcome = Result<Receipt, DeliveryError>;

/// Proof of arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The destination's own name for it: a sheet's range, a contact's id, a mail's queue id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_id: Option<String>,
    /// What a person should know of it, such as a refused second recipient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Receipt {
    /// A receipt that holds the destination's own id.
    pub fn of(remote_id: impl Into<String>) -> Self {
        Self { remote_id: Some(remote_id.into()), note: None }
    }
}

/// A failed attempt: what to do about it, and what to tell whom.
///
/// `Display` shows the code alone and is safe to log; [`DeliveryError::detail`] may quote the vendor,
/// who may quote the lead, so it goes to the store and never to a log.
#[derive(Debug)]
pub struct DeliveryError {
    /// What to do about it.
    pub fault: Fault,
    /// A short word for the reason: `a-z 0-9 _`, such as `http_503`.
    pub code: String,
    /// One or two sentences for a person: what is wrong and what to do next. Holds no secret.
    pub detail: String,
    /// Set when the destination asked everybody to wait, not this delivery alone.
    pub hold_lane: Option<Duration>,
    /// The cause below, if there is one.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// What a failure means for the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Surely not done; later.
    Transient {
        /// The destination's own word for how long to wait.
        retry_after: Option<Duration>,
    },
    /// May have been done: bytes were sent and no readable answer came.
    Unknown {
        /// Not before this may the destination be asked whether it was done, or sent it again.
        look_after: Duration,
    },
    /// This lead will never go in as it is: a dead letter.
    Rejected,
    /// Our credentials or settings: parks the destination and costs no lead an attempt.
    Blocked,
    /// A rule of ours says that this is not to be sent: the delivery is cancelled. Nobody has to act.
    Needless,
}

impl Fault {
    /// The fault as the word that is stored and logged.
    pub fn outcome(self) -> AttemptOutcome {
        match self {
            Self::Transient { .. } => AttemptOutcome::Transient,
            Self::Unknown { .. } => AttemptOutcome::Unknown,
            Self::Rejected | Self::Needless => AttemptOutcome::Rejected,
            Self::Blocked => AttemptOutcome::Blocked,
        }
    }
}

impl DeliveryError {
    /// A failure of the given kind.
    pub fn new(fault: Fault, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { fault, code: code.into(), detail: detail.into(), hold_lane: None, source: None }
    }

    /// Surely not done; later.
    pub fn transient(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Fault::Transient { retry_after: None }, code, detail)
    }

    /// May have been done; a repeat is harmless at any time.
    pub fn unknown(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Fault::Unknown { look_after: Duration::ZERO }, code, detail)
    }

    /// This lead will never go in as it is.
    pub fn rejected(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Fault::Rejected, code, detail)
    }

    /// A rule of ours says that this is not to be sent.
    pub fn needless(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Fault::Needless, code, detail)
    }

    /// Our credentials or settings.
    pub fn blocked(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Fault::Blocked, code, detail)
    }

    /// Adds the cause below.
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Asks the whole lane to wait, a day at most.
    pub fn holding_lane(mut self, wait: Duration) -> Self {
        self.hold_lane = Some(wait.min(LONGEST_RETRY_AFTER));
        self
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.fault.outcome().as_str())
    }
}

impl Error for DeliveryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
