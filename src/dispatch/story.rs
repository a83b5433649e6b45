//! Brings what becomes of leads onto the boards that people read, and brings back what they ask for there.
//!
//! The store says what is not shown yet, so a crash or an outage of a board only delays it. Of the processes that
//! share the store one tells; should it die, another one goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Lanes, Surroundings};
use crate::delivery::{AttemptOutcome, DeliveryError, Kind, State};
use crate::destination::commons::InTurn;
use crate::destination::{Board, Commons, Failing, Wish};
use crate::id::{DeliveryId, DestinationName, LeadId};
use crate::report::Chain;
use crate::store::{DeliveryRecord, LeadRecord, StoreError, Unshown};

/// How many changes are shown at once.
const BATCH: u32 = 500;

/// How long changes are collected before they are shown together.
const GATHER: Duration = Duration::from_secs(1);

/// The longest that nobody asks the store: another process may have settled something, or have died.
const POLL: Duration = Duration::from_secs(5);

/// The right to tell.
const TURN: &str = "story";

/// How long to wait after a board failed, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The story's teller.
pub struct Story {
    /// Each with the destination that it is.
    boards: Vec<(DestinationName, Arc<dyn Board>)>,
    lanes: Lanes,
    around: Surroundings,
    commons: Arc<dyn Commons>,
    listen_every: Duration,
    /// Wishes that were done and whose answer could not be written: they are answered, and not done again.
    done: Mutex<HashMap<(DestinationName, DeliveryId), String>>,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the store could not be asked")]
    Store(#[from] StoreError),
    #[error("the board could not be written: {0}")]
    Board(#[from] DeliveryError),
}

impl Story {
    /// The story of these lanes, told on these boards.
    pub fn new(
        boards: Vec<(DestinationName, Arc<dyn Board>)>,
        lanes: Lanes,
        around: Surroundings,
        commons: Arc<dyn Commons>,
    ) -> Self {
        let listen_every = boards.iter().map(|(_, board)| board.listen_every()).min().unwrap_or(POLL);
        Self { boards, lanes, around, commons, listen_every, done: Mutex::default() }
    }

    /// Tells until the stop. Spawned once.
    pub async fn run(self) {
        let (mut again, longest) = AGAIN;
        let mut listen_at = Instant::now() + self.listen_every;
        let mut turn: Option<InTurn> = None;
        while !self.around.stop.is_cancelled() {
            let ours = match &mut turn {
                Some(turn) => turn.lasts(false).await,
                None => {
                    turn = InTurn::wait(&self.commons, TURN.to_owned(), Some(Instant::now()), || false).await;
                    turn.is_some()
                }
            };
            if !ours {
                turn = None;
                self.pause(POLL, false).await;
                continue;
            }
            // Dropped half way it is only told later: the store says what is missing.
            let ended = tokio::select! {
                () = self.around.stop.cancelled() => return,
                ended = self.round(&mut listen_at) => ended,
            };
            let nap = match ended {
                Ok(is_all) => {
                    again = AGAIN.0;
                    if is_all {
                        POLL.min(listen_at.saturating_duration_since(Instant::now()))
                    } else {
                        GATHER
                    }
                }
                Err(trouble) => {
                    warn!(error = %Chain(&trouble), "the sheet does not tell the latest yet");
                    let nap = again;
                    again = (again * 2).min(longest);
                    self.pause(nap, false).await;
                    continue;
                }
            };
            if self.pause(nap, true).await {
                // Neighbours of what has just settled join it.
                self.pause(GATHER, false).await;
            }
        }
    }

    /// Waits; `true` when something was settled meanwhile.
    async fn pause(&self, nap: Duration, listens: bool) -> bool {
        tokio::select! {
            () = self.around.stop.cancelled() => false,
            () = self.around.settled.notified(), if listens => true,
            () = tokio::time::sleep(nap) => false,
        }
    }

    /// Shows what is not shown, and hears what is wished when it is time. `true`: that was all.
    async fn round(&self, listen_at: &mut Instant) -> Result<bool, Trouble> {
        let mut heard = Ok(());
        if *listen_at <= Instant::now() {
            *listen_at = Instant::now() + self.listen_every;
            for (name, board) in &self.boards {
                heard = self.hear(name, board.as_ref()).await.and(heard);
            }
        }
        let unshown = self.around.store.unshown(BATCH).await?;
        let is_all = unshown.len() < BATCH as usize;
        if !unshown.is_empty() {
            let leads = self.leads(&unshown).await?;
            let mut shown = Ok(());
            for (name, board) in &self.boards {
                let (synced, failing) = self.news(&unshown, &leads, name);
                shown = board.show(&synced, &failing).await.and(shown);
            }
            shown?;
            self.around.store.shown(unshown).await?;
        }
        heard.map(|()| is_all)
    }

    /// The leads that have changed, as the store has them now.
    async fn leads(&self, unshown: &[Unshown]) -> Result<BTreeMap<LeadId, LeadRecord>, StoreError> {
        let mut leads = BTreeMap::new();
        for Unshown { lead: id, .. } in unshown {
            if !leads.contains_key(id)
                && let Some(record) = self.around.store.lead(*id).await?
            {
                leads.insert(*id, record);
            }
        }
        Ok(leads)
    }

    /// What the changes come to on the board that is the destination `board`.
    fn news(
        &self,
        unshown: &[Unshown],
        leads: &BTreeMap<LeadId, LeadRecord>,
        board: &DestinationName,
    ) -> (Vec<(LeadId, bool)>, Vec<Failing>) {
        let (mut synced, mut failing) = (Vec::new(), Vec::new());
        for Unshown { lead: id, destination, .. } in unshown {
            let Some(record) = leads.get(id) else { continue };
            match (destination, part(record, board)) {
                (_, Part::Elsewhere) => {}
                (None, _) => synced.push((*id, is_synced(record))),
                (Some(name), part) => failing.extend(
                    record
                        .deliveries
                        .iter()
                        .find(|delivery| delivery.id.destination == *name)
                        .map(|delivery| self.failing(record, delivery, part)),
                ),
            }
        }
        (synced, failing)
    }

    fn failing(&self, record: &LeadRecord, delivery: &DeliveryRecord, part: Part) -> Failing {
        let failed = |it: &&crate::delivery::Attempt| it.outcome != AttemptOutcome::Delivered;
        let last_failure = delivery.history.iter().rev().find(failed);
        let lane = self.lanes.get(&delivery.id.destination);
        let is_shown = part == Part::Whole;
        Failing {
            id: delivery.id.clone(),
            type_name: lane.map(|lane| lane.nature().type_name.to_owned()).unwrap_or_default(),
            error: match last_failure {
                Some(it) if is_shown => format!("{}: {}", it.code, it.detail),
                Some(it) => it.code.clone(),
                None => String::new(),
            },
            attempts: delivery.history.len().to_string(),
            last_attempt: delivery.history.last().map(|it| it.finished_at.to_string()).unwrap_or_default(),
            next_retry: delivery.due_at.map(|due| due.to_string()).unwrap_or_default(),
            state: match delivery.state {
                State::Pending => "retrying".to_owned(),
                state => state.to_string(),
            },
            payload: if is_shown {
                serde_json::to_string(record.lead.as_ref()).unwrap_or_default()
            } else {
                NOT_HERE.to_owned()
            },
        }
    }

    /// Reads what people wrote beside failing deliveries; `retry` is done, once.
    async fn hear(&self, name: &DestinationName, board: &dyn Board) -> Result<(), Trouble> {
        let mut answers = Vec::new();
        let mut replayed_all = Ok(());
        let mut wishes = board.wishes().await?;
        wishes.retain(|wish| wish.action.trim().eq_ignore_ascii_case("retry"));
        let is_wished = |id: &DeliveryId| wishes.iter().any(|wish| wish.id == *id);
        self.done().retain(|(board, id), _| board != name || is_wished(id));
        for wish in wishes {
            let key = (name.clone(), wish.id.clone());
            if let Some(action) = self.done().get(&key).cloned() {
                answers.push(Wish { action, ..wish });
                continue;
            }
            let replayed = match self.around.store.replay(std::slice::from_ref(&wish.id)).await {
                Ok(replayed) => replayed,
                // Those before it have their answer.
                Err(error) => {
                    replayed_all = Err(error);
                    break;
                }
            };
            let now = self.around.clock.now();
            let action = if replayed == 1 {
                info!(delivery = %wish.id, "replayed: asked for in the sheet");
                format!("retried {now}")
            } else {
                format!("nothing to retry at {now}: it is not a dead letter")
            };
            if let Some(lane) = self.lanes.get(&wish.id.destination) {
                lane.wake();
            }
            self.done().insert(key, action.clone());
            answers.push(Wish { action, ..wish });
        }
        if !answers.is_empty() {
            board.answer(&answers).await?;
            self.done().retain(|(board, _), _| board != name);
        }
        Ok(replayed_all?)
    }

    fn done(&self) -> MutexGuard<'_, HashMap<(DestinationName, DeliveryId), String>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands in the place of a lead that the sheet does not get.
const NOT_HERE: &str = "withheld: the lead is not in this sheet; see `lead-intake leads show`";

/// What a board says of a lead that fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// That it fails, and nothing personal: the board's sheet may not have it, or no sheet has, and somebody must hear of it.
    Bare,
    /// Nothing: it is another sheet's.
    Elsewhere,
}

fn part(record: &LeadRecord, board: &DestinationName) -> Part {
    match record.deliveries.iter().find(|it| it.id.destination == *board) {
        Some(here) if here.state == State::Withheld => Part::Bare,
        Some(_) => Part::Whole,
        None if record.deliveries.iter().any(|it| it.kind == Kind::Sheet) => Part::Elsewhere,
        None => Part::Bare,
    }
}

/// Whether every CRM and webhook has the lead.
fn is_synced(record: &LeadRecord) -> bool {
    let mut crms = record.deliveries.iter().filter(|delivery| delivery.kind == Kind::Crm).peekable();
    crms.peek().is_some() && crms.all(|delivery| delivery.state == State::Delivered)
}
