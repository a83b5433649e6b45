//! From a validated lead to an answer: plan, accept, start, wait for the inline ones until the deadline.
//! While the store cannot commit, the second home takes the lead ([`fallback`]).
//!
//! Nothing here knows of HTTP, of an engine or of a vendor.

pub mod fallback;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::delivery::plan::{Route, Verdict, verdict};
use crate::delivery::{Birth, Claim, Entry, Outcome, Planned};
use crate::dispatch::gate::Condition;
use crate::dispatch::{Lane, Lanes};
use crate::id::{IdempotencyKey, LeadId};
use crate::lead::{Digest, Lead, NewLead, Visitor};
use crate::report::Chain;
use crate::store::{Accepted, Store, StoreError};
use crate::units;
use fallback::Fallback;

/// How long a client should wait before it tries again while no home takes its lead.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A validated lead at the door.
#[derive(Debug)]
pub struct Arrival {
    /// The lead.
    pub lead: NewLead,
    /// The client's word for "the same submission".
    pub key: Option<IdempotencyKey>,
    /// What the server knows of the visitor.
    pub visitor: Visitor,
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is kept.
    Accepted(LeadId),
    /// It was kept before.
    Repeat(LeadId),
    /// The key was used before with another body.
    Conflict,
    /// Nothing could keep it.
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
}

/// `[intake]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long a submit waits for the inline destinations.
    #[serde(with = "units::duration")]
    pub deadline: Duration,
    /// How many leads may wait in memory while the store cannot commit.
    pub fallback_leads: usize,
}

/// How long a submit may wait for whom.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the inline destinations, from the arrival on.
    pub deadline: Duration,
    /// For the store's commit.
    pub commit: Duration,
}

/// The door.
pub struct Intake {
    store: Arc<dyn Store>,
    lanes: Lanes,
    clock: Clock,
    tracker: TaskTracker,
    patience: Patience,
    fallback: Option<Fallback>,
}

/// One destination of a lead, before the lead is stored.
struct Start<'a> {
    lane: &'a Arc<Lane>,
    verdict: Verdict,
    permit: Option<OwnedSemaphorePermit>,
    waited_for: bool,
}

/// Who waits for the answer, until it is given once.
struct Reply {
    to: Option<oneshot::Sender<Answer>>,
    deadline: Instant,
}

impl Reply {
    fn give(&mut self, answer: Answer) {
        if let Some(to) = self.to.take() {
            // Nobody listens when the client has hung up; that changes nothing.
            let _ = to.send(answer);
        }
    }
}

/// The work on a lead, done by whoever waits for the answer: a task of its own would cost every submit a
/// way to another thread and back. What is left of it once the answer is given, or when the caller goes away,
/// goes on without them.
struct Carried {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    answer: oneshot::Receiver<Answer>,
    tracker: TaskTracker,
}

impl Future for Carried {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        // Taken out first: work that panics is not gone on with.
        if let Some(mut work) = self.work.take()
            && work.as_mut().poll(context).is_pending()
        {
            self.work = Some(work);
        }
        match self.answer.try_recv() {
            Ok(answer) => Poll::Ready(answer),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Closed) => {
                error!("a submit failed; this is a fault of ours");
                Poll::Ready(Answer::Unavailable { retry_after: RETRY_AFTER })
            }
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            self.tracker.spawn_on(work, &runtime);
        }
    }
}

impl Intake {
    /// A door to these lanes.
    pub fn new(
        store: Arc<dyn Store>,
        lanes: Lanes,
        clock: Clock,
        tracker: TaskTracker,
        patience: Patience,
        fallback: Option<Fallback>,
    ) -> Arc<Self> {
        Arc::new(Self { store, lanes, clock, tracker, patience, fallback })
    }

    /// Takes a lead. The work goes on when the caller goes away, and after the answer.
    pub fn submit(self: &Arc<Self>, arrival: Arrival) -> impl Future<Output = Answer> + Send + use<> {
        let Arrival { lead, key, visitor } = arrival;
        let digest = lead.digest();
        let lead = Arc::new(Lead::new(lead, key.as_ref(), self.clock.now(), visitor));
        let (to, answer) = oneshot::channel();
        let reply = Reply { to: Some(to), deadline: Instant::now() + self.patience.deadline };
        let intake = Arc::clone(self);
        let work = Box::pin(async move { intake.take(lead, digest, reply).await });
        Carried { work: Some(work), answer, tracker: self.tracker.clone() }
    }

    /// Whether leads are taken even while the store cannot commit.
    pub fn has_second_home(&self) -> bool {
        self.fallback.as_ref().is_some_and(|fallback| fallback.lane().condition() != Condition::Parked)
    }

    async fn take(&self, lead: Arc<Lead>, digest: Digest, mut reply: Reply) {
        let id = lead.id;
        let mut starts: Vec<_> = self.lanes.iter().map(|lane| start(&lead.submitted, lane)).collect();
        starts.retain(|start| start.verdict != Verdict::Elsewhere);
        let deliveries = starts.iter().map(Start::planned).collect();
        if let Some(answer) = self.fallback.as_ref().and_then(|fallback| fallback.recall(id, &digest)) {
            return reply.give(answer);
        }
        let entry = Arc::new(Entry { lead, digest, deliveries });
        let mut accept = self.store.accept(Arc::clone(&entry));
        match timeout(self.patience.commit, accept.as_mut()).await {
            Ok(Ok(accepted)) => self.accepted(&entry, accepted, starts, &mut reply).await,
            Ok(Err(error)) => {
                warn!(lead = %id, error = %Chain(&error), "not accepted");
                // Boxed: it is large, and every submit would carry it.
                Box::pin(self.without_store(&entry, starts, std::future::ready(Err(error)), reply)).await;
            }
            Err(_) => {
                warn!(lead = %id, "not accepted: the store did not commit in time");
                Box::pin(self.without_store(&entry, starts, accept, reply)).await;
            }
        }
    }

    /// The store has spoken: what was born claimed starts, and the inline ones are waited for.
    async fn accepted(&self, entry: &Entry, accepted: Accepted, starts: Vec<Start<'_>>, reply: &mut Reply) {
        let id = entry.lead.id;
        match accepted {
            Accepted::New(claims) => {
                let form = &entry.lead.submitted.form_name;
                info!(lead = %id, %form, deliveries = starts.len(), "accepted");
                let waited_for = self.begin(claims, starts);
                // The deadline is no failure: the attempts go on, and the lead is stored.
                let _ = timeout_at(reply.deadline, join_all(waited_for)).await;
                reply.give(Answer::Accepted(id));
            }
            Accepted::Repeat => {
                info!(lead = %id, "repeat");
                reply.give(Answer::Repeat(id));
            }
            Accepted::Conflict => reply.give(Answer::Conflict),
        }
    }

    /// Starts every claim; returns the attempts that a submit waits for.
    fn begin(&self, claims: Vec<Claim>, mut starts: Vec<Start<'_>>) -> Vec<tokio::task::JoinHandle<()>> {
        let mut waited_for = Vec::new();
        for claim in claims {
            let start = starts.iter_mut().find(|start| *start.lane.name() == claim.delivery.destination);
            let Some((start, permit)) =
                start.and_then(|start| start.permit.take().map(|permit| (start, permit)))
            else {
                continue;
            };
            let attempt = start.lane.start(claim, permit);
            if start.waited_for {
                waited_for.push(attempt);
            }
        }
        for start in &starts {
            start.lane.wake();
        }
        waited_for
    }

    /// The store cannot commit, or has not yet: the second home is asked, and whichever takes the lead
    /// first answers for it. A commit that comes late is a fact like any other.
    async fn without_store(
        &self,
        entry: &Entry,
        mut starts: Vec<Start<'_>>,
        late: impl Future<Output = Result<Accepted, StoreError>>,
        mut reply: Reply,
    ) {
        let id = entry.lead.id;
        let goes = |fallback: &&Fallback| {
            let start = starts.iter().find(|start| Arc::ptr_eq(start.lane, fallback.lane()));
            start.is_some_and(|start| {
                start.verdict == Verdict::Goes && start.lane.condition() != Condition::Parked
            })
        };
        let fallback =
            self.fallback.as_ref().filter(goes).filter(|fallback| fallback.reserve(id, entry.digest));
        let Some(fallback) = fallback else {
            reply.give(Answer::Unavailable { retry_after: RETRY_AFTER });
            if let Ok(accepted) = late.await {
                self.accepted(entry, accepted, starts, &mut reply).await;
            }
            return;
        };
        let (asked, asked_at) = (self.clock.now(), Instant::now());
        let (kept, accepted) = both(fallback.keep(entry), late, id, &mut reply).await;
        let took = asked_at.elapsed();
        match (kept, accepted) {
            (Ok(receipt), Err(_) | Ok(Accepted::Repeat)) => {
                // The permit goes back; the others are claimed by their lanes once they are stored.
                drop(starts);
                fallback.enter(self.store.as_ref(), entry.clone(), &receipt).await;
                self.lanes.iter().for_each(|lane| lane.wake());
            }
            (kept, Ok(Accepted::New(claims))) => {
                let is_homes = |claim: &Claim| claim.delivery.destination == *fallback.lane().name();
                let (homes, others): (Vec<_>, Vec<_>) = claims.into_iter().partition(is_homes);
                let was_kept = kept.is_ok();
                let permit = starts
                    .iter_mut()
                    .find(|start| Arc::ptr_eq(start.lane, fallback.lane()))
                    .and_then(|start| start.permit.take());
                self.begin(others, starts);
                let mut outcome: Option<Outcome> = Some(kept);
                for claim in homes {
                    let Some(outcome) = outcome.take() else { break };
                    fallback.lane().finish(claim, asked, took, outcome).await;
                }
                // Born due rather than claimed: the row is a fact all the same.
                if let Some(Ok(receipt)) = outcome {
                    fallback.enter(self.store.as_ref(), entry.clone(), &receipt).await;
                } else if was_kept {
                    fallback.entered(id).await;
                } else {
                    fallback.forget(id);
                }
                drop(permit);
            }
            (Ok(_), Ok(Accepted::Conflict)) => {
                warn!(lead = %id, "kept in the sheet under a key that another submission had used before");
                fallback.entered(id).await;
            }
            (Err(_), Ok(Accepted::Repeat | Accepted::Conflict) | Err(_)) => {
                fallback.forget(id);
                reply.give(Answer::Unavailable { retry_after: RETRY_AFTER });
            }
        }
    }
}

/// Waits for both homes. The first that takes the lead answers for it; at the deadline, or when both
/// have failed, nobody has.
async fn both(
    keep: impl Future<Output = Outcome>,
    late: impl Future<Output = Result<Accepted, StoreError>>,
    id: LeadId,
    reply: &mut Reply,
) -> (Outcome, Result<Accepted, StoreError>) {
    let (mut keep, mut late) = (std::pin::pin!(keep), std::pin::pin!(late));
    let (mut kept, mut accepted) = (None, None);
    loop {
        tokio::select! {
            outcome = &mut keep, if kept.is_none() => {
                if outcome.is_ok() {
                    reply.give(Answer::Accepted(id));
                }
                kept = Some(outcome);
            }
            answer = &mut late, if accepted.is_none() => {
                match answer {
                    Ok(Accepted::New(_)) => reply.give(Answer::Accepted(id)),
                    Ok(Accepted::Repeat) => reply.give(Answer::Repeat(id)),
                    Ok(Accepted::Conflict) => reply.give(Answer::Conflict),
                    Err(_) => {}
                }
                accepted = Some(answer);
            }
            () = tokio::time::sleep_until(reply.deadline), if reply.to.is_some() => {
                reply.give(Answer::Unavailable { retry_after: RETRY_AFTER });
            }
        }
        match (kept, accepted) {
            (Some(kept), Some(accepted)) => return (kept, accepted),
            others => (kept, accepted) = others,
        }
    }
}

/// What a lane will do with a lead, asked before the lead is stored.
fn start<'a>(lead: &NewLead, lane: &'a Arc<Lane>) -> Start<'a> {
    let verdict = verdict(lead, Route { destination: lane.name(), settings: lane.settings() });
    let permit = (verdict == Verdict::Goes).then(|| lane.admit()).flatten();
    Start { lane, verdict, permit, waited_for: lane.is_waited_for() }
}

impl Start<'_> {
    fn planned(&self) -> Planned {
        let birth = match self.verdict {
            Verdict::Withheld => Birth::Withheld,
            Verdict::Goes | Verdict::Elsewhere => self.lane.birth(self.permit.is_some()),
        };
        Planned { destination: self.lane.name().clone(), kind: self.lane.nature().kind, birth }
    }
}
