//! The one writer of a spreadsheet. Whoever brings a row joins the group that is waiting; the group goes
//! out as one append, as fast as Google's quota lets it, and every row gets its own answer.
//!
//! The writer runs while rows wait and ends when there are none: nothing has to stop it.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use super::api::{Api, Failure, Tab};
use super::budget::Budget;
use super::columns::{Header, core};
use super::desk::{Desk, Seat};
use super::fault::Sent;
use super::kept::KeptBefore;
use super::settings::Parsed;
use crate::delivery::{DeliveryError, Outcome, Receipt};
use crate::destination::{Commons, Handoff};
use crate::id::LeadId;

/// How old our word for tab and header may be when rows are sent.
const FRESH: Duration = Duration::from_secs(3);

/// What a cell takes in an append beyond its text.
const CELL: usize = 4;

/// What is particular about a row.
#[derive(Clone, Copy, Default)]
pub(super) struct Errand {
    /// It may be in the sheet already.
    pub(super) looks: bool,
    /// The sheet is the only home that the lead has.
    pub(super) keeps: bool,
}

/// A row that waits.
pub(super) struct Waiting {
    pub(super) lead: LeadId,
    pub(super) cells: Vec<(String, String)>,
    pub(super) errand: Errand,
    pub(super) deadline: Instant,
    pub(super) handoff: Arc<Handoff>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

impl Waiting {
    fn size(&self) -> usize {
        self.cells.iter().map(|(_, text)| text.len() + text.len() / 8 + CELL).sum::<usize>() + 200
    }

    fn give(self, outcome: Outcome) {
        // Nobody listens when the attempt was given up.
        let _ = self.answer.send(outcome);
    }
}

/// Tab and header as they were a moment ago.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) tab: Tab,
    pub(super) header: Header,
    read_at: Instant,
}

/// The writer and what waits for it.
pub(super) struct Writer {
    pub(super) api: Api,
    title: String,
    max_columns: usize,
    append_size: usize,
    look_after: Duration,
    /// Appends and headers.
    writes: Budget,
    /// What is told beyond the rows: one write in six is kept for it.
    pub(super) marks: Budget,
    heads: Budget,
    looks: Budget,
    queue: Mutex<Queue>,
    pub(super) kept_before: KeptBefore,
    /// Where whoever writes to the tab sits: the running writer, or a mark that is cleared.
    pub(super) desk: Desk<Option<Head>>,
}

/// A seat at it.
pub(super) type AtDesk<'a> = Seat<'a, Option<Head>>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    is_running: bool,
}

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
            max_columns: parsed.max_columns,
            append_size: parsed.append_size,
            look_after: parsed.look_after,
            writes: budget("writes", parsed.writes_per_minute - parsed.writes_per_minute / 6),
            marks: budget("marks", parsed.writes_per_minute / 6),
            heads: budget("heads", parsed.reads_per_minute / 3),
            looks: budget("looks", parsed.reads_per_minute / 2),
            queue: Mutex::default(),
            kept_before: KeptBefore::default(),
            desk: Desk::new(commons, desk, None),
        }
    }

    /// The tab's name in the configuration.
    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// Adds a row. `true`: the caller must start [`Writer::run`].
    pub(super) fn push(&self, waiting: Waiting) -> bool {
        let mut queue = self.queue();
        queue.waiting.push_back(waiting);
        !std::mem::replace(&mut queue.is_running, true)
    }

    /// Writes until nothing waits.
    pub(super) async fn run(&self) {
        // A panic must not leave the queue with a writer that is gone.
        let _ended = Ended(self);
        while !self.is_idle() {
            // Paced first, so that whoever comes meanwhile joins the group.
            self.writes.take().await;
            let alone = || {
                self.kept_before.forget();
                self.queue().waiting.iter().any(|row| row.errand.keeps)
            };
            let mut seat = self.desk.sit(alone).await;
            let group = self.group();
            seat.alone = group.iter().any(|row| row.errand.keeps);
            self.cycle(&mut seat, group).await;
        }
    }

    fn is_idle(&self) -> bool {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.is_running = false;
        }
        !queue.is_running
    }

    /// As many rows as fit into one append. One that was withdrawn, or whose time is over, is left out:
    /// its caller has spoken for it.
    fn group(&self) -> Vec<Waiting> {
        let mut queue = self.queue();
        let (mut group, mut size) = (Vec::new(), 0);
        while let Some(next) = queue.waiting.front() {
            size += next.size();
            if !group.is_empty() && size > self.append_size {
                break;
            }
            let Some(next) = queue.waiting.pop_front() else { break };
            if next.deadline > Instant::now() && next.handoff.take() {
                group.push(next);
            }
        }
        group
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
        let group = self.without_those_that_are_there(&mut seat.kept, group).await;
        if group.is_empty() {
            return;
        }
        if let Err(failure) = self.widen(seat, &group).await {
            // Whether the new headers are there must be read again.
            *seat.kept = None;
            return self.fail(group, &failure, Sent::Nothing);
        }
        self.append(seat, group).await;
    }

    /// Reads tab and header when our word for them is old; makes what is missing.
    pub(super) async fn refresh(&self, seat: &mut AtDesk<'_>) -> Result<(), Failure> {
        match &*seat.kept {
            Some(known) if known.read_at.elapsed() < FRESH => return Ok(()),
            // At high load an older word will do: what a person changes meanwhile is seen by the next read.
            Some(_) if !self.heads.try_take().await => return Ok(()),
            Some(_) => {}
            None => self.heads.take().await,
        }
        self.read_head(seat).await
    }

    /// Reads tab and header, and makes what is missing. The read is paid for.
    async fn read_head(&self, seat: &mut AtDesk<'_>) -> Result<(), Failure> {
        let now = Instant::now();
        let head = &*seat.kept;
        let title = head.as_ref().map_or(&self.title, |known| &known.tab.title).clone();
        let mut read = self.api.head(&title).await?;
        // A tab keeps its number when it is renamed, and its name can go to another one.
        if let Some(known) = head.as_ref()
            && read.as_ref().is_none_or(|(tab, _)| tab.sheet_id != known.tab.sheet_id)
        {
            let tabs = self.api.tabs().await?;
            if let Some(renamed) = tabs.into_iter().find(|tab| tab.sheet_id == known.tab.sheet_id) {
                read = self.api.head(&renamed.title).await?;
            }
        }
        if read.is_none() {
            self.writes.take().await;
            seat.may_write().await?;
            self.api.add_tab(&self.title, core().count()).await?;
            info!("made the tab that leads go to");
            read = self.api.head(&self.title).await?;
        }
        let Some((tab, mut header)) = read else { return Err(Failure::Lost("no_tab".to_owned())) };
        if header.is_empty() {
            let names: Vec<_> = core().map(str::to_owned).collect();
            self.writes.take().await;
            seat.may_write().await?;
            self.api.add_headers(&tab, 0, &names).await?;
            header = Header(names);
        }
        *seat.kept = Some(Head { tab, header, read_at: now });
        self.id_column(&mut seat.kept).map(|_| ())
    }

    fn id_column(&self, head: &mut Option<Head>) -> Result<usize, Failure> {
        let known = head.as_ref().ok_or_else(|| Failure::Lost("no_tab".to_owned()))?;
        let place = known.header.id();
        place.map_err(|why| {
            *head = None;
            Failure::BadHeader(why)
        })
    }

    /// Answers for the rows that are in the sheet already. One read tells for all of them.
    async fn without_those_that_are_there(
        &self,
        head: &mut Option<Head>,
        group: Vec<Waiting>,
    ) -> Vec<Waiting> {
        let looks = |waiting: &Waiting| waiting.errand.looks || self.kept_before.contains(&waiting.lead);
        let (looking, mut rest): (Vec<_>, Vec<_>) = group.into_iter().partition(looks);
        if looking.is_empty() {
            return rest;
        }
        self.looks.take().await;
        let ids = match (self.id_column(head), head.as_ref()) {
            (Ok(place), Some(known)) => self.api.columns(&known.tab, &[place]).await,
            (Err(failure), _) => Err(failure),
            (Ok(_), None) => Err(Failure::Lost("no_tab".to_owned())),
        };
        match ids {
            Ok(columns) => {
                let there: HashSet<_> = columns.into_iter().flatten().collect();
                for waiting in looking {
                    if there.contains(&waiting.lead.to_string()) {
                        let note = "found in the sheet after an answer was lost".to_owned();
                        waiting.give(Ok(Receipt { remote_id: None, note: Some(note) }));
                    } else {
                        rest.push(waiting);
                    }
                }
            }
            Err(failure) => self.fail(looking, &failure, Sent::Nothing),
        }
        rest
    }

    /// Adds the columns that the group needs, in one write; looks first whether another process has added
    /// them meanwhile.
    async fn widen(&self, seat: &mut AtDesk<'_>, group: &[Waiting]) -> Result<(), Failure> {
        let rows: Vec<_> = group.iter().map(|waiting| waiting.cells.as_slice()).collect();
        let missing = |seat: &AtDesk<'_>| match &*seat.kept {
            Some(known) => Ok((known.header.missing(&rows, self.max_columns), known.read_at)),
            None => Err(Failure::Lost("no_tab".to_owned())),
        };
        let (mut lacking, read_at) = missing(seat)?;
        if !lacking.is_empty() && read_at < seat.since {
            self.heads.take().await;
            self.read_head(seat).await?;
            (lacking, _) = missing(seat)?;
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let missing = lacking;
        self.writes.take().await;
        seat.may_write().await?;
        let Some(known) = seat.kept.as_mut() else { return Err(Failure::Lost("no_tab".to_owned())) };
        let first = known.header.0.len();
        self.api.add_headers(&known.tab, first, &missing).await?;
        known.header.0.extend(missing);
        known.tab.columns = known.tab.columns.max(known.header.0.len());
        Ok(())
    }

    /// Sends the group. A group that Google refuses because of one row is halved until that row stands
    /// alone: the others go in.
    async fn append(&self, seat: &mut AtDesk<'_>, group: Vec<Waiting>) {
        let mut groups = vec![group];
        let mut found_again = false;
        while let Some(mut group) = groups.pop() {
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
                        known.read_at = Instant::now().checked_sub(FRESH).unwrap_or(known.read_at);
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

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tab, and the places of the id column and of this one, read anew. `None`: there is no such tab, or
    /// no such column.
    pub(super) async fn place_of(
        &self,
        seat: &mut AtDesk<'_>,
        column: &str,
    ) -> Result<Option<(Tab, usize, usize)>, Failure> {
        *seat.kept = None;
        self.heads.take().await;
        let title = self.title.clone();
        let Some((tab, header)) = self.api.head(&title).await? else { return Ok(None) };
        let id = header.id().map_err(Failure::BadHeader)?;
        Ok(header.position(column).map(|place| (tab, id, place)))
    }

    /// One read's worth of the budget for looking.
    pub(super) async fn take_look(&self) {
        self.looks.take().await;
    }
}

/// Frees the queue when a writer ends, however it ends.
struct Ended<'a>(&'a Writer);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.queue();
            queue.is_running = false;
            // Their callers hear that nobody answers, and withdraw or settle as unknown.
            queue.waiting.clear();
        }
    }
}

/// `Leads!A7:Q9` as `Leads!A` and 7.
fn first_row(range: &str) -> (&str, usize) {
    let first = range.split(':').next().unwrap_or_default();
    let digits = first.len() - first.bytes().rev().take_while(u8::is_ascii_digit).count();
    (&first[..digits], first[digits..].parse().unwrap_or(0))
}
