//! How far the making of a lead or deal has come, as its step in the notebook says. Pure.

use std::fmt;

use crate::clock::Timestamp;

/// What a step says while it is under way, and after a call that surely made nothing.
const SENDING: &str = "sending";
const UNSENT: &str = "unsent";

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing was sent, or surely nothing was made.
    Unsent,
    /// It was sent for, and nobody knows whether it was made.
    Sending {
        /// When it was first sent, by Pipedrive's clock; `None`: that cannot be read.
        since: Option<Timestamp>,
    },
    /// It is there, under this id.
    Made(String),
}

impl Progress {
    /// What the step says.
    pub(super) fn of(step: Option<&String>) -> Self {
        let Some(step) = step.map(String::as_str).filter(|step| *step != UNSENT) else {
            return Self::Unsent;
        };
        match step.strip_prefix(SENDING) {
            Some(since) => Self::Sending { since: since.trim().parse().ok() },
            None => Self::Made(step.to_owned()),
        }
    }

    /// The id of what was made.
    pub(super) fn made(self) -> Option<String> {
        match self {
            Self::Made(id) => Some(id),
            Self::Unsent | Self::Sending { .. } => None,
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent => f.write_str(UNSENT),
            Self::Sending { since: Some(since) } => write!(f, "{SENDING} {since}"),
            Self::Sending { since: None } => f.write_str(SENDING),
            Self::Made(id) => f.write_str(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let made = |id: &str| Progress::Made(id.to_owned());
        let since = |since| Progress::Sending { since };
        let all = [
            Progress::Unsent,
            since(Some(Timestamp::UNIX_EPOCH)),
            since(None),
            made("12"),
            made("6f00-8000"),
        ];
        for progress in all {
            assert_eq!(Progress::of(Some(&progress.to_string())), progress);
        }
        assert_eq!(Progress::of(None), Progress::Unsent);
    }
}
