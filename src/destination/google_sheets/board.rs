//! What the sheet tells beyond the leads' rows: `crm_synced`, and the tab of deliveries that fail.
//!
//! Google addresses cells by number and has no conditional write, and a person may sort between our read
//! and our write. So every write is followed by a read of the same cells: what went astray is mended.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;

use super::GoogleSheets;
use super::api::Tab;
use super::columns::{Header, SYNCED, cut, yes};
use super::desk::Seat;
use super::failure::Failure;
use super::fault::Sent;
use crate::delivery::DeliveryError;
use crate::destination::{Board, Failing, Wish};
use crate::id::LeadId;

/// The columns of the tab of failing deliveries, in the order in which they are made.
const COLUMNS: [&str; 11] = [
    "id",
    "lead id",
    "type",
    "destination",
    "error",
    "attempts",
    "last attempt",
    "next retry",
    "state",
    "payload",
    "action",
];

/// Where people write what they want.
const ACTION: &str = "action";

/// How often cells that a sort sent astray are mended.
const TRIES: usize = 4;

/// What some columns are to say, by the id of the row; a cell that is `None` is left alone.
type Wanted = HashMap<String, Vec<Option<String>>>;

/// What the columns say: the row (from 1) and the cells, by the id of the row.
type Read = HashMap<String, (usize, Vec<String>)>;

/// Calls that were paid for before the writer's desk was taken: appends do not wait for our pace.
#[derive(Default)]
pub(super) struct Purse {
    looks: u8,
    write: bool,
}

impl GoogleSheets {
    /// What one ordinary round takes: a look, a write and a look.
    pub(super) async fn purse(&self) -> Purse {
        self.writer.take_look().await;
        self.writer.take_look().await;
        self.writer.marks.take().await;
        Purse { looks: 2, write: true }
    }

    /// Brings cells to what they are to say, found by the ids of their rows. Ids without a row are left
    /// out. The caller sits at the tab's desk, so that no row of ours is appended meanwhile.
    pub(super) async fn bring(
        &self,
        tab: &Tab,
        id: usize,
        places: &[usize],
        wanted: &Wanted,
        purse: &mut Purse,
        seat: &mut Seat<'_, impl Sized>,
    ) -> Result<(), Failure> {
        let before = self.read(tab, id, places, purse).await?;
        let (mut now, mut touched) = (before.clone(), BTreeSet::new());
        for _ in 0..TRIES {
            let mut cells = Vec::new();
            for (id, (row, texts)) in &now {
                let right = match wanted.get(id) {
                    Some(wanted) => wanted.clone(),
                    // A row of somebody else: what we wrote over is put back, and nothing more.
                    None if touched.contains(row) => before
                        .get(id)
                        .map_or_else(Vec::new, |(_, texts)| texts.iter().cloned().map(Some).collect()),
                    None => continue,
                };
                for ((place, text), right) in places.iter().zip(texts).zip(right) {
                    if let Some(right) = right.filter(|right| right != text) {
                        cells.push((*row, *place, right));
                    }
                }
            }
            if cells.is_empty() {
                return Ok(());
            }
            touched.extend(cells.iter().map(|(row, ..)| *row));
            if !std::mem::take(&mut purse.write) {
                self.writer.marks.take().await;
            }
            seat.may_write().await?;
            self.writer.api.write(tab, &cells).await?;
            now = self.read(tab, id, places, purse).await?;
        }
        // Somebody sorts without end; the next round begins anew.
        Err(Failure::Lost("sorted_meanwhile".to_owned()))
    }

    async fn read(&self, tab: &Tab, id: usize, places: &[usize], purse: &mut Purse) -> Result<Read, Failure> {
        match purse.looks.checked_sub(1) {
            Some(left) => purse.looks = left,
            None => self.writer.take_look().await,
        }
        let all: Vec<_> = std::iter::once(id).chain(places.iter().copied()).collect();
        let mut columns = self.writer.api.columns(tab, &all).await?.into_iter();
        let ids = columns.next().unwrap_or_default();
        let columns: Vec<_> = columns.collect();
        let cells =
            |at: usize| columns.iter().map(|column| column.get(at).cloned().unwrap_or_default()).collect();
        // The first row below the header is row 2.
        let row = |(at, id): (usize, String)| (id, (at + 2, cells(at)));
        Ok(ids.into_iter().enumerate().filter(|(_, id)| !id.is_empty()).map(row).collect())
    }

    /// Marks the leads' rows.
    async fn mark(&self, synced: &[(LeadId, bool)]) -> Result<(), Failure> {
        let mut purse = self.purse().await;
        let mut seat = self.writer.desk.sit(|| false).await;
        let Some((tab, id, place)) = self.writer.place_of(&mut seat, SYNCED).await? else { return Ok(()) };
        let wanted = synced.iter().map(|(lead, all)| (lead.to_string(), vec![Some(yes(*all))]));
        self.bring(&tab, id, &[place], &wanted.collect(), &mut purse, &mut seat).await
    }

    /// The tab of failing deliveries and its header; made when `make` and it is not there.
    async fn failures(&self, make: bool) -> Result<Option<(Tab, Header)>, Failure> {
        let title = &self.failed_tab;
        self.writer.take_look().await;
        let mut read = self.writer.api.head(title).await?;
        if read.is_none() && make {
            self.writer.marks.take().await;
            self.writer.api.add_tab(title, COLUMNS.len()).await?;
            read = self.writer.api.head(title).await?;
        }
        let Some((tab, header)) = read else { return Ok(None) };
        let missing: Vec<_> = COLUMNS
            .iter()
            .filter(|name| header.position(name).is_none())
            .map(|name| (*name).to_owned())
            .collect();
        if missing.is_empty() || !make {
            return Ok(Some((tab, header)));
        }
        let mut names = header.0;
        self.writer.marks.take().await;
        self.writer.api.add_headers(&tab, names.len(), &missing).await?;
        names.extend(missing);
        Ok(Some((tab, Header(names))))
    }

    /// Brings the rows of failing deliveries to their newest, and adds those that are not there.
    async fn list(&self, failing: &[Failing]) -> Result<(), Failure> {
        let mut seat = self.board.sit(|| false).await;
        let Some((tab, header)) = self.failures(true).await? else { return Ok(()) };
        let id = header.id().map_err(Failure::BadHeader)?;
        // Everything but the payload, which never changes, and what people write.
        let told: Vec<_> = COLUMNS[1..9].iter().filter_map(|name| header.position(name)).collect();
        let cells = |it: &Failing| cells(it);
        let mut purse = Purse::default();
        let there = self.read(&tab, id, &[], &mut purse).await?;
        let (known, new): (Vec<_>, Vec<_>) =
            failing.iter().partition(|it| there.contains_key(&it.id.to_string()));
        if !known.is_empty() {
            let wanted = known.iter().map(|it| {
                (it.id.to_string(), cells(it)[1..9].iter().map(|(_, text)| Some(text.clone())).collect())
            });
            self.bring(&tab, id, &told, &wanted.collect(), &mut purse, &mut seat).await?;
            for it in known {
                self.unsure_rows.remove(&it.id);
            }
        }
        // One that may still land is looked for in a later round.
        let may_land = |it: &&Failing| {
            self.unsure_rows.wait(&it.id, self.look_after).is_some_and(|wait| !wait.is_zero())
        };
        let (later, new): (Vec<_>, Vec<_>) = new.into_iter().partition(may_land);
        let rows: Vec<_> = new.into_iter().map(|it| (it, header.row(&cells(it)))).collect();
        if rows.is_empty() {
            return if later.is_empty() { Ok(()) } else { Err(Failure::Lost("too_early".to_owned())) };
        }
        self.writer.marks.take().await;
        seat.may_write().await?;
        let (added, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
        match self.writer.api.append(&tab, header.first(), rows).await {
            Ok(_) => {
                for it in added {
                    self.unsure_rows.remove(&it.id);
                }
                if later.is_empty() { Ok(()) } else { Err(Failure::Lost("too_early".to_owned())) }
            }
            Err(failure) => {
                if matches!(failure, Failure::Lost(_)) {
                    added.iter().for_each(|it| self.unsure_rows.add(it.id.clone()));
                }
                Err(failure)
            }
        }
    }

    async fn read_wishes(&self) -> Result<Vec<Wish>, Failure> {
        let Some((tab, header)) = self.failures(false).await? else { return Ok(Vec::new()) };
        let (Ok(id), Some(action)) = (header.id(), header.position(ACTION)) else { return Ok(Vec::new()) };
        let read = self.read(&tab, id, &[action], &mut Purse::default()).await?;
        let wish = |(id, (_, mut cells)): (String, (usize, Vec<String>))| {
            let action = cells.pop().filter(|text| !text.trim().is_empty())?;
            Some(Wish { id: id.parse().ok()?, action })
        };
        Ok(read.into_iter().filter_map(wish).collect())
    }

    async fn write_answers(&self, answers: &[Wish]) -> Result<(), Failure> {
        let mut seat = self.board.sit(|| false).await;
        let Some((tab, header)) = self.failures(false).await? else { return Ok(()) };
        let (Ok(id), Some(action)) = (header.id(), header.position(ACTION)) else { return Ok(()) };
        let wanted = answers.iter().map(|wish| (wish.id.to_string(), vec![Some(wish.action.clone())]));
        self.bring(&tab, id, &[action], &wanted.collect(), &mut Purse::default(), &mut seat).await
    }

    fn told(&self, failure: &Failure) -> DeliveryError {
        if let Some(wait) = failure.hold() {
            self.writer.marks.hold(wait);
        }
        failure.error(Sent::Nothing, self.writer.api.account())
    }
}

/// A row's cells, by column.
fn cells(it: &Failing) -> Vec<(String, String)> {
    let values = [
        it.id.to_string(),
        it.id.lead.to_string(),
        it.type_name.clone(),
        it.id.destination.to_string(),
        it.error.clone(),
        it.attempts.clone(),
        it.last_attempt.clone(),
        it.next_retry.clone(),
        it.state.clone(),
        it.payload.clone(),
        String::new(),
    ];
    COLUMNS.iter().zip(values).map(|(name, text)| ((*name).to_owned(), cut(text))).collect()
}

#[async_trait]
impl Board for GoogleSheets {
    async fn show(&self, synced: &[(LeadId, bool)], failing: &[Failing]) -> Result<(), DeliveryError> {
        // Two tabs: what is wrong with one keeps nothing out of the other.
        let marked = if synced.is_empty() { Ok(()) } else { self.mark(synced).await };
        let listed = if failing.is_empty() { Ok(()) } else { self.list(failing).await };
        marked.and(listed).map_err(|failure| self.told(&failure))
    }

    fn listen_every(&self) -> Duration {
        self.listen_every
    }

    async fn wishes(&self) -> Result<Vec<Wish>, DeliveryError> {
        self.read_wishes().await.map_err(|failure| self.told(&failure))
    }

    async fn answer(&self, answers: &[Wish]) -> Result<(), DeliveryError> {
        self.write_answers(answers).await.map_err(|failure| self.told(&failure))
    }
}
