//! The sheet as a lead's second home: the whole lead stands as JSON in a column of its own, the mark,
//! until the store has it.

use std::collections::HashMap;

use async_trait::async_trait;
use tracing::warn;

use super::api::{Failure, Tab};
use super::fault::Sent;
use super::{GoogleSheets, columns};
use crate::delivery::{DeliveryError, Fault, Receipt};
use crate::destination::{FallbackHome, Parcel};
use crate::id::LeadId;
use crate::lead::Lead;
use crate::report::Chain;

/// How often a mark that a sort sent astray is mended.
const TRIES: usize = 3;

/// The marks by lead id: row (from 1) and text.
type Marks = HashMap<String, (usize, String)>;

#[async_trait]
impl FallbackHome for GoogleSheets {
    async fn keep(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let mark = serde_json::to_string(parcel.lead.as_ref()).map_err(|error| {
            DeliveryError::rejected("not_json", "The lead cannot be written as JSON.").with_source(error)
        })?;
        if !columns::fits(&mark) {
            return Err(DeliveryError::rejected(
                "too_long",
                "The lead is too long for one cell, so the sheet cannot keep it whole.",
            ));
        }
        let mut cells = columns::cells(parcel.lead, parcel.crm_planned);
        cells.push((columns::MARK.to_owned(), mark));
        let outcome = self.send(parcel, cells).await;
        match &outcome {
            Ok(_) => drop(self.unsure.remove(parcel.lead.id)),
            Err(error) if matches!(error.fault, Fault::Unknown { .. }) => self.unsure.add(parcel.lead.id),
            Err(_) => {}
        }
        outcome
    }

    async fn clear(&self, leads: &[LeadId]) -> Result<(), DeliveryError> {
        self.clear_marks(leads)
            .await
            .map_err(|failure| failure.error(Sent::Nothing, self.writer.api.account()))
    }

    async fn kept(&self) -> Result<Vec<Result<Lead, String>>, DeliveryError> {
        let mut head = self.writer.head.lock().await;
        let read = async {
            let Some((tab, id, mark)) = self.writer.marks(&mut head).await? else { return Ok(Marks::new()) };
            self.read_marks(&tab, id, mark).await
        };
        let marks =
            read.await.map_err(|failure: Failure| failure.error(Sent::Nothing, self.writer.api.account()))?;
        let lead = |(_, text): (usize, String)| serde_json::from_str(&text).map_err(|_| text);
        Ok(marks.into_values().filter(|(_, text)| !text.is_empty()).map(lead).collect())
    }
}

impl GoogleSheets {
    /// Takes a mark off behind the delivery's back: the lead is safe, only the mark is one too many.
    pub(super) fn unmark(&self, lead: LeadId) {
        let sheets = self.clone();
        self.tracker.spawn(async move {
            if let Err(error) = sheets.clear(&[lead]).await {
                warn!(%lead, error = %Chain(&error), "mark not cleared; `lead-intake leads import` clears it");
            }
        });
    }

    /// Google addresses cells by number, and a person may sort between our read and our write. So the
    /// marks are read back, and one that was taken off the wrong row is put back where its lead is now.
    async fn clear_marks(&self, leads: &[LeadId]) -> Result<(), Failure> {
        let mut head = self.writer.head.lock().await;
        let Some((tab, id, mark)) = self.writer.marks(&mut head).await? else { return Ok(()) };
        let ids: Vec<_> = leads.iter().map(ToString::to_string).collect();
        let before = self.read_marks(&tab, id, mark).await?;
        for _ in 0..TRIES {
            let now = self.read_marks(&tab, id, mark).await?;
            let marked = |lead: &&String| now.get(*lead).is_some_and(|(_, text)| !text.is_empty());
            let cleared = ids.iter().filter(marked).map(|lead| (now[lead].0, String::new()));
            let astray = before.iter().filter(|(lead, (_, text))| {
                !text.is_empty()
                    && !ids.contains(lead)
                    && now.get(*lead).is_some_and(|(_, text)| text.is_empty())
            });
            let mended = astray.map(|(lead, (_, text))| (now[lead].0, text.clone()));
            let cells: Vec<_> = cleared.chain(mended).collect();
            if cells.is_empty() {
                return Ok(());
            }
            self.writer.writes.take().await;
            self.writer.api.write(&tab, mark, &cells).await?;
        }
        Ok(())
    }

    async fn read_marks(&self, tab: &Tab, id: usize, mark: usize) -> Result<Marks, Failure> {
        self.writer.take_look().await;
        let mut columns = self.writer.api.columns(tab, &[id, mark]).await?.into_iter();
        let (ids, marks) = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
        // The first row below the header is row 2.
        let row = |(at, id): (usize, String)| (id, (at + 2, marks.get(at).cloned().unwrap_or_default()));
        Ok(ids.into_iter().enumerate().filter(|(_, id)| !id.is_empty()).map(row).collect())
    }
}
