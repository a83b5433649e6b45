//! From a validated lead to an answer: plan, accept, start, wait for the inline ones until the deadline.
//!
//! Nothing here knows of HTTP, of an engine or of a vendor.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::delivery::plan::{Route, Verdict, verdict};
use crate::delivery::{Birth, Entry, Planned};
use crate::dispatch::{Lane, Lanes};
use crate::id::{IdempotencyKey, LeadId};
use crate::lead::{Lead, NewLead, Visitor};
use crate::report::Chain;
use crate::store::{Accepted, Store};
use crate::units;

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
    ) -> Arc<Self> {
        Arc::new(Self { store, lanes, clock, tracker, patience })
    }

    /// Takes a lead. The work goes on when the caller goes away.
    pub async fn submit(self: &Arc<Self>, arrival: Arrival) -> Answer {
        let intake = Arc::clone(self);
        let taken = self.tracker.spawn(async move { intake.take(arrival, Instant::now()).await });
        taken.await.unwrap_or_else(|panic| {
            error!(error = %Chain(&panic), "a submit failed; this is a fault of ours");
            Answer::Unavailable { retry_after: RETRY_AFTER }
        })
    }

    async fn take(&self, arrival: Arrival, arrived: Instant) -> Answer {
        let Arrival { lead, key, visitor } = arrival;
        let digest = lead.digest();
        let mut starts: Vec<_> = self.lanes.iter().map(|lane| start(&lead, lane)).collect();
        starts.retain(|start| start.verdict != Verdict::Elsewhere);
        let deliveries = starts.iter().map(Start::planned).collect();
        let lead = Arc::new(Lead::new(lead, key.as_ref(), self.clock.now(), visitor));
        let id = lead.id;
        let form = lead.submitted.form_name.clone();
        let accept = self.store.accept(Entry { lead, digest, deliveries });
        let claims = match timeout(self.patience.commit, accept).await {
            Ok(Ok(Accepted::New(claims))) => claims,
            Ok(Ok(Accepted::Repeat)) => {
                info!(lead = %id, "repeat");
                return Answer::Repeat(id);
            }
            Ok(Ok(Accepted::Conflict)) => return Answer::Conflict,
            Ok(Err(error)) => {
                warn!(lead = %id, error = %Chain(&error), "not accepted");
                return Answer::Unavailable { retry_after: RETRY_AFTER };
            }
            Err(_) => {
                warn!(lead = %id, "not accepted: the store did not commit in time");
                return Answer::Unavailable { retry_after: RETRY_AFTER };
            }
        };
        info!(lead = %id, %form, deliveries = starts.len(), "accepted");
        let mut waited_for = Vec::new();
        for claim in claims {
            let Some(start) =
                starts.iter_mut().find(|start| *start.lane.name() == claim.delivery.destination)
            else {
                continue;
            };
            let Some(permit) = start.permit.take() else { continue };
            let attempt = start.lane.start(claim, permit);
            if start.waited_for {
                waited_for.push(attempt);
            }
        }
        for start in &starts {
            start.lane.wake();
        }
        // The deadline is no failure: the attempts go on, and the lead is stored.
        let _ = timeout_at(arrived + self.patience.deadline, join_all(waited_for)).await;
        Answer::Accepted(id)
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
        Planned { destination: self.lane.name().clone(), crm: self.lane.is_crm(), birth }
    }
}
