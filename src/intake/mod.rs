//! From a validated lead to an answer: plan, accept, start, wait for the inline ones until the deadline.
//! While the store cannot commit, the second home takes the lead ([`fallback`]).
//!
//! Nothing here knows of HTTP, of an engine or of a vendor.

mod carried;
pub mod fallback;
mod homes;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::delivery::plan::{Route, Verdict, verdict};
use crate::delivery::{Birth, Claim, Entry, Planned};
use crate::dispatch::gate::Condition;
use crate::dispatch::{Lane, Lanes};
use crate::id::{IdempotencyKey, LeadId};
use crate::lead::{Digest, Lead, NewLead, Visitor};
use crate::report::Chain;
use crate::store::{Accepted, Store};
use crate::units;
use carried::{Carried, Reply};
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
        let digest = key.as_ref().map(|_| lead.digest());
        let lead = Arc::new(Lead::new(lead, key.as_ref(), self.clock.now(), visitor));
        let digest = digest.unwrap_or_else(|| lead.digest());
        let (intake, deadline) = (Arc::clone(self), Instant::now() + self.patience.deadline);
        Carried::new(deadline, self.tracker.clone(), |reply| async move {
            intake.take(lead, digest, reply).await;
        })
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
                let form = loggable(entry.lead.submitted.form_name.as_str());
                info!(lead = %id, form, deliveries = starts.len(), "accepted");
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

/// A form's name for the log, where it is a plain word: it comes with the submission, and a client can write anything there,
/// such as an address.
fn loggable(form: &str) -> &str {
    let is_plain = form.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.'));
    if is_plain { form } else { "(not a plain word)" }
}
