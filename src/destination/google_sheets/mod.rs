//! Google Sheets: a row for each lead in a tab that people read, sort and extend.
//!
//! Google has neither an idempotency key nor a conditional write. So every row carries the lead's id, one
//! writer per spreadsheet appends, and after an unknown outcome the id column is read before anything is
//! sent again, not before Google can no longer apply what was sent.

mod a1;
mod api;
mod board;
mod budget;
mod columns;
mod desk;
mod failure;
mod fallback;
mod fault;
mod head;
mod kept;
mod queue;
pub mod settings;
mod token;
mod twins;
mod unsure;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use self::desk::Desk;
use self::fault::Sent;
use self::queue::{Errand, Waiting};
use self::unsure::Unsure;
use self::writer::Writer;
use super::{Commons, Destination, Parcel};
use crate::clock::{after, until};
use crate::delivery::{DeliveryError, Fault, Outcome, Receipt};
use crate::id::{DeliveryId, LeadId};
pub use settings::{Parsed, Settings};

/// A spreadsheet.
#[derive(Clone)]
pub struct GoogleSheets {
    writer: Arc<Writer>,
    tracker: TaskTracker,
    look_after: Duration,
    unsure: Arc<Unsure<LeadId>>,
    /// Deliveries of unknown outcome, by a clock that nobody moves. The store knows them by the wall clock.
    undelivered: Arc<Unsure<LeadId>>,
    /// The tab of deliveries that fail, whoever writes it, and its rows of unknown outcome.
    failed_tab: Arc<str>,
    listen_every: Duration,
    board: Arc<Desk<()>>,
    unsure_rows: Arc<Unsure<DeliveryId>>,
}

impl GoogleSheets {
    /// The spreadsheet that the settings name. Nothing is connected yet; the writer runs on `tracker`, and
    /// takes turns with those of other processes.
    pub fn new(parsed: &Parsed, tracker: TaskTracker, commons: &Arc<dyn Commons>) -> Self {
        let writer = Arc::new(Writer::new(parsed, commons));
        let desk = format!("sheet {} {}", parsed.spreadsheet_id, parsed.failed_tab);
        Self {
            writer,
            tracker,
            look_after: parsed.look_after,
            unsure: Arc::default(),
            undelivered: Arc::default(),
            failed_tab: parsed.failed_tab.as_str().into(),
            listen_every: parsed.listen_every,
            board: Arc::new(Desk::new(commons, desk, ())),
            unsure_rows: Arc::default(),
        }
    }

    /// Hands a row to the writer and waits for its answer.
    async fn send(&self, parcel: Parcel<'_>, cells: Vec<(String, String)>, errand: Errand) -> Outcome {
        let logged = parcel.unsure_since().map(|sent| until(parcel.now, after(sent, self.look_after)));
        let kept = self.unsure.wait(&parcel.lead.id, self.look_after);
        let sent = self.undelivered.wait(&parcel.lead.id, self.look_after);
        let unsure = logged.max(kept).max(sent);
        if let Some(wait) = unsure.filter(|wait| !wait.is_zero()) {
            let fault = Fault::Transient { retry_after: Some(wait) };
            let detail = "The row may still land from an earlier attempt; the sheet is looked at after that.";
            return Err(DeliveryError::new(fault, "too_early", detail));
        }
        let (answer, heard) = oneshot::channel();
        let waiting = Waiting {
            lead: parcel.lead.id,
            digest: parcel.lead.digest(),
            cells,
            errand: Errand { looks: errand.looks || unsure.is_some(), ..errand },
            deadline: parcel.deadline,
            handoff: Arc::clone(parcel.handoff),
            answer,
        };
        parcel.handoff.queue();
        if self.writer.queue.push(waiting) {
            let writer = Arc::clone(&self.writer);
            self.tracker.spawn(async move { writer.run().await });
        }
        match timeout_at(parcel.deadline, heard).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) if parcel.handoff.withdraw() => Err(DeliveryError::transient(
                "queued_too_long",
                "The row waited for its turn until its time was over; it was not sent. It is tried again.",
            )),
            Ok(Err(_)) => Err(self.unknown("writer_failed")),
            Err(_) => Err(self.unknown("timeout")),
        }
    }

    fn unknown(&self, code: &str) -> DeliveryError {
        failure::Failure::Lost(code.to_owned()).error(Sent::Rows { look_after: self.look_after }, "")
    }
}

#[async_trait]
impl Destination for GoogleSheets {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let cells = columns::cells(parcel.lead, parcel.crm_planned);
        let outcome = self.send(parcel, cells, Errand::default()).await;
        match &outcome {
            Ok(_) => {
                self.undelivered.remove(&parcel.lead.id);
            }
            Err(error) if matches!(error.fault, Fault::Unknown { .. }) => {
                self.undelivered.add(parcel.lead.id);
            }
            Err(_) => {}
        }
        let receipt = outcome?;
        if self.unsure.remove(&parcel.lead.id) | self.writer.kept_before.remove(&parcel.lead.id) {
            // The row that was found may be the one that was kept.
            self.unmark(parcel.lead.id);
        }
        Ok(receipt)
    }

    /// The sheet can be read and written with our key, and its header is usable.
    async fn check(&self) -> Result<(), DeliveryError> {
        let ask = async {
            let tabs = self.writer.api.tabs().await?;
            let known = tabs.iter().any(|tab| tab.title == self.writer.title);
            let head = if known { self.writer.api.head(&self.writer.title).await? } else { None };
            if let Some((_, header)) = head.filter(|(_, header)| !header.is_empty()) {
                header.id().map_err(failure::Failure::BadHeader)?;
            }
            match tabs.first() {
                Some(tab) => self.writer.api.touch(tab).await,
                None => Ok(()),
            }
        };
        ask.await.map_err(|failure: failure::Failure| failure.error(Sent::Nothing, self.writer.api.account()))
    }

    fn quiet_period(&self) -> Duration {
        self.look_after
    }
}
