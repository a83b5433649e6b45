//! The one writer of a spreadsheet. Whoever brings a row joins the group that is waiting; the group goes
//! out as one append, as fast as Google's quota lets it, and every row gets its own answer.
//!
//! The writer runs while rows wait and ends when there are none: nothing has to stop it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tracing::{info, warn};

use super::a1::first_row;
use super::api::{Api, Tab};
use super::budget::Budget;
use super::columns::MARK;
use super::desk::{Desk, Seat};
use super::failure::Failure;
use super::fault::Sent;
use super::head::Head;
use super::kept::{KeptBefore, Rows, There};
use super::queue::{Queue, Served, Waiting};
use super::settings::Parsed;
use crate::delivery::{DeliveryError, Receipt};
use crate::destination::Commons;

/// The writer and what waits for it.
pub(super) struct Writer {
    pub(super) api: Api,
    /// The tab's name in the configuration.
    pub(super) title: String,
    /// The tab itself, once it is known.
    pub(super) tab: Mutex<Option<Tab>>,
    /// Where its number is kept for other processes, and for the next one.
    pub(super) commons: Arc<dyn Commons>,
    pub(super) tab_key: String,
    pub(super) max_columns: usize,
    append_size: usize,
    look_after: Duration,
    /// Appends and headers.
    pub(super) writes: Budget,
    /// What is told beyond the rows: one write in six is kept for it.
    pub(super) marks: Budget,
    /// Reads of tab and header.
    pub(super) heads: Budget,
    looks: Budget,
    pub(super) queue: Queue,
    pub(super) kept_before: KeptBefore,
    /// Where whoever writes to the tab sits: the running writer, or a mark that is cleared.
    pub(super) desk: Desk<Option<Head>>,
}

/// A seat at it.
pub(super) type AtDesk<'a> = Seat<'a, Option<Head>>;

impl Writer {
    pub(super) fn new(parsed: &Parsed, commons: &Arc<dyn Commons>) -> Self {
        // Google counts by account, whichever of its spreadsheets is meant.
        let budget = |what: &str, number| {
            Budget::new(commons, format!("google {} {what}", parsed.key.client_email), number)
        };
        let desk = format!("sheet {} {}", parsed.spreadsheet_id, parsed.tab);
        Self {
            api: Api::new(parsed),
            title: parsed.tab.clone(),
            tab: Mutex::default(),
            commons: Arc::clone(commons),
            max_columns: parsed.max_columns,
            append_size: parsed.append_size,
            look_after: parsed.look_after,
            writes: budget("writes", parsed.writes_per_minute - parsed.writes_per_minute / 6),
            marks: budget("marks", parsed.writes_per_minute / 6),
            heads: budget("heads", parsed.reads_per_minute / 3),
            looks: budget("looks", parsed.reads_per_minute / 2),
            queue: Queue::default(),
            kept_before: KeptBefore::default(),
            tab_key: format!("{desk} has the number"),
            desk: Desk::new(commons, desk, None),
        }
    }

    /// Writes until nothing waits.
    pub(super) async fn run(&self) {
        let _served = Served(&self.queue);
        while !self.queue.is_done() {
            // Paced first, so that whoever comes meanwhile joins the group.
            self.writes.take().await;
            let alone = || {
                self.kept_before.forget();
                self.queue.keeps()
            };
            let mut seat = self.desk.sit(alone).await;
            let group = self.queue.group(self.append_size);
            seat.alone = group.iter().any(|row| row.errand.keeps);
            self.cycle(&mut seat, group).await;
        }
    }

    async fn cycle(&self, seat: &mut AtDesk<'_>, group: Vec<Waiting>) {
        if group.is_empty() {
            return;
        }
        if let Err(failure) = self.refresh(seat).await {
            return self.fail(group, &failure, Sent::Nothing);
        }
        if !seat.alone
            && let Err(failure) = self.learn_who_was_kept(seat).await
        {
            return self.fail(group, &failure, Sent::Nothing);
        }
        let group = self.without_those_that_are_there(seat, group).await;
        if group.is_empty() {
            return;
        }
        if let Err(failure) = self.widen(seat, &group).await {
            // Whether the new headers are there must be read again.
            *seat.kept = None;
            return self.fail(group, &failure, Sent::Header);
        }
        self.append(seat, group).await;
    }

    /// Answers for the rows that are in the sheet already. One read tells for all of them.
    async fn without_those_that_are_there(&self, seat: &mut AtDesk<'_>, group: Vec<Waiting>) -> Vec<Waiting> {
        // Who writes alone has not read the marks: any lead may have been kept before.
        let (alone, head) = (seat.alone, &mut *seat.kept);
        let looks = |waiting: &Waiting| {
            waiting.errand.looks
                || alone && waiting.lead.is_of_key()
                || self.kept_before.contains(&waiting.lead)
        };
        let (looking, mut rest): (Vec<_>, Vec<_>) = group.into_iter().partition(looks);
        if looking.is_empty() {
            return rest;
        }
        self.looks.take().await;
        let rows = match (self.id_column(head), head.as_ref()) {
            (Ok(id), Some(known)) => {
                let places: Vec<_> = [Some(id), known.header.position(MARK)].into_iter().flatten().collect();
                self.api.columns(&known.tab, &places).await
            }
            (Err(failure), _) => Err(failure),
            (Ok(_), None) => Err(Failure::Lost("no_tab".to_owned())),
        };
        match rows.map(Rows::of) {
            Ok(rows) => {
                for waiting in looking {
                    match rows.find(&waiting) {
                        There::Yes => {
                            let note = "found in the sheet after an answer was lost".to_owned();
                            waiting.give(Ok(Receipt { remote_id: None, note: Some(note) }));
                        }
                        There::Unclear => waiting.give(Err(DeliveryError::transient(
                            "key_used_before",
                            "A row has this lead's id, and whether it is of the same submission only our own store knows.",
                        ))),
                        There::No => rest.push(waiting),
                    }
                }
            }
            Err(failure) => self.fail(looking, &failure, Sent::Nothing),
        }
        rest
    }

    /// Sends the group. A group that Google refuses because of one row is halved until that row stands
    /// alone: the others go in.
    async fn append(&self, seat: &mut AtDesk<'_>, group: Vec<Waiting>) {
        let mut groups = vec![group];
        let mut found_again = false;
        while let Some(mut group) = groups.pop() {
            // Whoever brought one whose time is over has settled it already: sent now, it could land after the look.
            group.retain(|waiting| waiting.deadline > Instant::now());
            if group.is_empty() {
                continue;
            }
            if let Err(failure) = seat.may_write().await {
                self.fail(group, &failure, Sent::Nothing);
                continue;
            }
            let Some(known) = seat.kept.as_ref() else {
                self.fail(group, &Failure::Lost("no_tab".to_owned()), Sent::Nothing);
                continue;
            };
            let (tab, first) = (known.tab.clone(), known.header.first());
            let rows: Vec<Vec<Value>> =
                group.iter().map(|waiting| known.header.row(&waiting.cells)).collect();
            match self.api.append(&tab, first, rows).await {
                Ok(appended) => {
                    info!(rows = appended.rows, "appended to the sheet");
                    let (before, row) = first_row(&appended.range);
                    for (down, waiting) in group.into_iter().enumerate() {
                        waiting.give(Ok(Receipt::of(format!("{before}{}", row + down))));
                    }
                }
                Err(failure) if failure.is_about_the_tab() && !found_again => {
                    // Renamed or narrowed since the last look: looked at again, once.
                    found_again = true;
                    self.heads.take().await;
                    if let Err(failure) = self.read_head(seat).await {
                        self.fail(group, &failure, Sent::Nothing);
                        continue;
                    }
                    // A new tab has none of the forms' columns, nor that of the marks.
                    if let Err(failure) = self.widen(seat, &group).await {
                        *seat.kept = None;
                        self.fail(group, &failure, Sent::Header);
                        continue;
                    }
                    self.writes.take().await;
                    groups.push(group);
                }
                Err(failure) if failure.is_about_a_row() && group.len() > 1 => {
                    let second = group.split_off(group.len() / 2);
                    groups.extend([second, group]);
                    self.writes.take().await;
                }
                Err(failure) => {
                    if let Some(known) = seat.kept.as_mut().filter(|_| failure.is_misplaced()) {
                        known.grow_old();
                    }
                    if failure.hold().is_some() {
                        // The others would only hear the same; they were not sent.
                        groups.drain(..).for_each(|unsent| self.fail(unsent, &failure, Sent::Nothing));
                    }
                    self.fail(group, &failure, Sent::Rows { look_after: self.look_after });
                }
            }
        }
    }

    fn fail(&self, group: Vec<Waiting>, failure: &Failure, sent: Sent) {
        if let Some(wait) = failure.hold() {
            self.writes.hold(wait);
            self.heads.hold(wait);
        }
        warn!(rows = group.len(), ?failure, "not appended");
        for waiting in group {
            let error: DeliveryError = failure.error(sent, self.api.account());
            waiting.give(Err(error));
        }
    }

    /// One read's worth of the budget for looking.
    pub(super) async fn take_look(&self) {
        self.looks.take().await;
    }
}
