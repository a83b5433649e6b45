//! The sheet as a lead's second home: the whole lead stands as JSON in a column of its own, the mark,
//! until the store has it.

use async_trait::async_trait;
use tracing::warn;

use super::failure::Failure;
use super::fault::Sent;
use super::{Errand, GoogleSheets, columns};
use crate::delivery::{DeliveryError, Fault, Receipt};
use crate::destination::{FallbackHome, Parcel};
use crate::id::LeadId;
use crate::lead::Lead;
use crate::report::Chain;

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
        // A client that repeats may have come to another process before, and the store cannot be asked.
        let looks = parcel.lead.id.is_of_key();
        let outcome = self.send(parcel, cells, Errand { looks, keeps: true }).await;
        match &outcome {
            Ok(_) => {
                self.unsure.remove(&parcel.lead.id);
                self.writer.kept_before.add(parcel.lead.id);
            }
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
        let mut seat = self.writer.desk.sit(|| false).await;
        let read = async {
            let Some((tab, id, mark)) = self.writer.place_of(&mut seat, columns::MARK).await? else {
                return Ok(Vec::new());
            };
            self.writer.take_look().await;
            let marks = self.writer.api.columns(&tab, &[id, mark]).await?.pop();
            Ok(marks.unwrap_or_default())
        };
        let marks =
            read.await.map_err(|failure: Failure| failure.error(Sent::Nothing, self.writer.api.account()))?;
        let lead = |text: String| serde_json::from_str(&text).map_err(|_| text);
        Ok(marks.into_iter().filter(|text| !text.is_empty()).map(lead).collect())
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

    /// Empties the leads' marks; one that is taken off a wrong row is put back. Rows that a lead has beyond its
    /// first are removed before.
    async fn clear_marks(&self, leads: &[LeadId]) -> Result<(), Failure> {
        let mut purse = self.purse().await;
        let mut seat = self.writer.desk.sit(|| false).await;
        let Some((tab, header)) = self.writer.head_anew(&mut seat).await? else { return Ok(()) };
        let Some(mark) = header.position(columns::MARK) else { return Ok(()) };
        let id = header.id().map_err(Failure::BadHeader)?;
        let synced = self.unite(&tab, &header, id, leads, &mut seat).await?;
        let (mut places, mut cells) = (vec![mark], vec![Some(String::new())]);
        places.extend(header.position(columns::SYNCED));
        cells.resize(places.len(), None);
        let wanted = leads.iter().map(|lead| {
            let lead = lead.to_string();
            let mut cells = cells.clone();
            if let (true, Some(cell)) = (synced.contains(&lead), cells.get_mut(1)) {
                *cell = Some(columns::yes(true));
            }
            (lead, cells)
        });
        self.bring(&tab, id, &places, &wanted.collect(), &mut purse, &mut seat).await?;
        for lead in leads {
            self.writer.kept_before.remove(lead);
        }
        Ok(())
    }
}
