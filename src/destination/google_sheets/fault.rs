//! What a failed call means for the deliveries that it carried.

use std::time::Duration;

use super::failure::Failure;
use crate::delivery::{DeliveryError, Fault};

/// How long to wait after a 429 without a time: quotas are refilled each minute.
const QUOTA: Duration = Duration::from_secs(30);

/// Whether rows were on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Rows were sent.
    Rows {
        /// How long they may still land.
        look_after: Duration,
    },
    /// New headers were sent: no row can have landed.
    Header,
    /// Only a question was sent.
    Nothing,
}

impl Failure {
    /// How long Google wants nobody to call.
    pub(super) fn hold(&self) -> Option<Duration> {
        match self {
            Self::Refused { status: 429, retry_after, .. } => Some(retry_after.unwrap_or(QUOTA)),
            _ => None,
        }
    }

    /// Whether what we know of tab and header is out of date.
    pub(super) fn is_about_the_tab(&self) -> bool {
        match self {
            Self::Refused { status: 400, message, .. } => {
                ["Unable to parse range", "No grid with id", "exceeds grid limits"]
                    .iter()
                    .any(|text| message.contains(text))
            }
            _ => false,
        }
    }

    /// Whether one row of several may be the reason.
    pub(super) fn is_about_a_row(&self) -> bool {
        matches!(self, Self::Refused { status: 400 | 413, message, .. }
            if !self.is_about_the_tab() && !is_protected(message) && !message.contains("number of cells in the workbook"))
    }

    /// The words for one delivery. `account` is whom the sheet must be shared with.
    pub(super) fn error(&self, sent: Sent, account: &str) -> DeliveryError {
        match self {
            Self::Unsent => DeliveryError::transient(
                "not_connected",
                "Google could not be reached, or gave no access token. It is tried again.",
            ),
            Self::Overtaken => DeliveryError::transient(
                "overtaken",
                "Another process has taken over the sheet, or our own store could not say so; nothing was sent. It is tried again.",
            ),
            Self::NoAccess(why) => DeliveryError::blocked("key_refused", why.clone()),
            Self::BadHeader(why) => DeliveryError::blocked("bad_header", *why),
            Self::Lost(code) => match sent {
                Sent::Rows { look_after } => DeliveryError::new(
                    Fault::Unknown { look_after },
                    code.clone(),
                    "Google gave no clear answer; the row may be there. The sheet is looked at before it is sent again.",
                ),
                Sent::Header | Sent::Nothing => DeliveryError::transient(
                    code.clone(),
                    "Google gave no clear answer when asked about the sheet; no row was sent. It is tried again.",
                ),
            },
            Self::Refused { status: 429, .. } => {
                let wait = self.hold().unwrap_or(QUOTA);
                let fault = Fault::Transient { retry_after: Some(wait) };
                DeliveryError::new(
                    fault,
                    "http_429",
                    "Google's quota is used up for the moment. It is tried again.",
                )
                .holding_lane(wait)
            }
            Self::Refused { status, message, .. } => refused(*status, message, self, (sent, account)),
        }
    }
}

/// Google has said it with either status.
fn is_protected(message: &str) -> bool {
    message.contains("protected cell")
}

fn refused(status: u16, message: &str, failure: &Failure, (sent, account): (Sent, &str)) -> DeliveryError {
    let code = format!("http_{status}");
    let what = match status {
        400 | 403 if is_protected(message) => format!("The tab, or a part of it, is protected. Let {account} edit it (in the sheet: Data, Protect sheets and ranges)."),
        401 => "Google refuses the access token, even a fresh one. Make a new key for the service account.".to_owned(),
        403 => format!("Google refuses access. Share the sheet with {account} as Editor, and enable the Sheets API in the key's project."),
        404 => "There is no such spreadsheet. Check GOOGLE_SHEETS_ID; it may have been deleted.".to_owned(),
        400 if failure.is_about_the_tab() => "The tab cannot be found or written. Check its name in `tab`.".to_owned(),
        400 if message.contains("number of cells in the workbook") => {
            "The spreadsheet is full: Google allows ten million cells. Move old rows to another, or give a new one.".to_owned()
        }
        // One lead's field, perhaps; the others go without it next time.
        400 | 413 if sent == Sent::Header => {
            let what = "Google refuses a new column, of this lead or of one that was to go with it. It is tried again.";
            return DeliveryError::transient(code, format!("{what} It said: {message}"));
        }
        400 | 413 if sent == Sent::Nothing => {
            "Google does not answer questions about this spreadsheet. Check that GOOGLE_SHEETS_ID is a Google Sheet, not an Excel file.".to_owned()
        }
        400 | 413 => return DeliveryError::rejected(code, format!("Google refuses this row. It said: {message}")),
        _ => format!("Google refused with {status}."),
    };
    DeliveryError::blocked(code, format!("{what} It said: {message}"))
}
