//! One destination and everything that is going on with it: the gate before the one attempter that everybody uses, the
//! permits, and what is told of it. Its loop is in `backlog`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use super::alerts::Alerts;
use super::backlog::Ahead;
use super::gate::{Allowance, Began, Condition, Gate};
use super::tally::Tally;
use super::under_way::UnderWay;
use crate::clock::Clock;
use crate::delivery::retry::RetryPolicy;
use crate::delivery::standing::{Signal, Standing, Turned};
use crate::delivery::{AttemptOutcome, Birth, Claim, Outcome};
use crate::destination::{Destination, LaneSettings, Nature, Start};
use crate::id::DestinationName;
use crate::store::Store;

/// What all lanes share.
#[derive(Clone)]
pub struct Surroundings {
    /// Where deliveries are kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// Where attempts are spawned, so that a shutdown waits for them.
    pub tracker: TaskTracker,
    /// Told after every settlement: the story of a lead may have gone on.
    pub settled: Arc<Notify>,
    /// Told when a destination parks or recovers.
    pub alerts: Alerts,
    /// No new attempts from here on.
    pub stop: CancellationToken,
    /// Attempts still under way are given up.
    pub give_up: CancellationToken,
}

/// One destination and everything that is going on with it.
pub struct Lane {
    pub(super) name: DestinationName,
    nature: Nature,
    pub(super) permits: Arc<Semaphore>,
    /// What the loop may take of them: a quarter is left to new leads, who go before the backlog.
    pub(super) backlog: Semaphore,
    pub(super) ahead: Ahead,
    pub(super) under_way: UnderWay,
    gate: Mutex<Gate>,
    pub(super) wake: Notify,
    tally: Tally,
    /// Since the process began.
    has_worked: AtomicBool,
    has_looked: AtomicBool,
    pub(super) settings: LaneSettings,
    pub(super) policy: RetryPolicy,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) around: Surroundings,
}

impl Lane {
    /// A lane to `destination`, which nobody claims for until its loop is started.
    pub fn new(
        name: DestinationName,
        nature: Nature,
        settings: LaneSettings,
        destination: Arc<dyn Destination>,
        around: Surroundings,
    ) -> Arc<Self> {
        Arc::new(Self {
            policy: RetryPolicy::new(settings.retry.clone()),
            permits: Arc::new(Semaphore::new(settings.concurrency)),
            backlog: Semaphore::new(settings.concurrency - settings.concurrency / 4),
            ahead: Ahead::default(),
            under_way: UnderWay::default(),
            gate: Mutex::new(Gate::new(settings.concurrency, settings.probe)),
            wake: Notify::new(),
            tally: Tally::default(),
            has_worked: AtomicBool::new(false),
            has_looked: AtomicBool::new(false),
            name,
            nature,
            settings,
            destination,
            around,
        })
    }

    /// The destination's name.
    pub fn name(&self) -> &DestinationName {
        &self.name
    }

    /// What it is.
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// How it is fed.
    pub fn settings(&self) -> &LaneSettings {
        &self.settings
    }

    /// How it is doing.
    pub fn condition(&self) -> Condition {
        self.gate().condition()
    }

    /// What its attempts brought since the start.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether a submit waits for it: it is inline, and neither parked nor failing.
    pub fn is_waited_for(&self) -> bool {
        self.settings.start == Start::Inline && self.condition() == Condition::Ok
    }

    /// A permit for the first attempt of a new lead, if that can start now. While parked it cannot:
    /// the probes are the loop's, for it rotates.
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        if self.around.stop.is_cancelled() || self.condition() == Condition::Parked {
            return None;
        }
        let Allowance::Attempts(allowed) = self.allowance() else { return None };
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        (self.in_flight() <= allowed).then_some(permit)
    }

    /// How a new lead's delivery is born: claimed, when [`Lane::admit`] gave a permit.
    pub fn birth(&self, admitted: bool) -> Birth {
        if admitted { Birth::Claimed { lease: self.lease() } } else { Birth::Due }
    }

    /// How long a claim lasts: the attempt, the time in which a lost one may still take effect, and
    /// room for pacing.
    pub fn lease(&self) -> Duration {
        self.settings.timeout + self.destination.quiet_period() + self.settings.lease_slack
    }

    /// Starts the attempt that `claim` gives the right to. It goes on whatever becomes of the caller.
    pub fn start(self: &Arc<Self>, claim: Claim, permit: impl Send + 'static) -> JoinHandle<()> {
        let lane = Arc::clone(self);
        self.around.tracker.spawn(async move {
            lane.attempt(claim, permit).await;
            lane.wake();
        })
    }

    /// Ends when what is still under way is to be given up.
    pub(crate) async fn given_up(&self) {
        self.around.give_up.cancelled().await;
    }

    /// Ends when no new attempt is to begin.
    pub(crate) async fn stopped(&self) {
        self.around.stop.cancelled().await;
    }

    /// Something may be due.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn in_flight(&self) -> usize {
        self.settings.concurrency.saturating_sub(self.permits.available_permits())
    }

    pub(super) fn allowance(&self) -> Allowance {
        self.gate().allowance(Instant::now())
    }

    /// Tells the gate what an attempt brought; what comes of it for everybody.
    pub(super) fn learn(&self, outcome: &Outcome, began: Began) -> Option<Signal> {
        self.count(outcome);
        self.gate().record(outcome, began, Instant::now())
    }

    /// The same of one that says nothing of the destination.
    pub(super) fn count(&self, outcome: &Outcome) {
        self.tally.count(AttemptOutcome::of(outcome));
    }

    /// Tells whoever reads the log, and the operators, how the destination has turned. `why`: what the
    /// attempt's failure said.
    pub(super) fn turned(&self, turned: Option<Turned>, code: &str, why: &str, succeeded: bool) {
        let at = self.around.clock.now();
        match turned {
            Some(Turned::Parked) => {
                error!(
                    destination = %self.name,
                    code,
                    "destination parked: its credentials or settings are wrong; its deliveries wait and it \
                     is probed until it is mended; `lead-intake check --online` says more"
                );
                self.around.alerts.say(&self.name, Some(why.to_owned()), at);
            }
            Some(Turned::Recovered) => {
                info!(destination = %self.name, "destination recovered");
                self.around.alerts.say(&self.name, None, at);
            }
            // A process that ended too early may have left the operators without that word.
            None if succeeded && !self.has_worked.swap(true, Ordering::Relaxed) => {
                self.around.alerts.say(&self.name, None, at);
            }
            None => {}
        }
    }

    /// A process that finds its destination parked when it starts says so again: the one before may have ended too early.
    /// Who has been told already is told nothing.
    pub(super) fn found(&self, standing: &Standing) {
        if !self.has_looked.swap(true, Ordering::Relaxed) && standing.probe_in.is_some() {
            let why = "It was parked before this process began; its last attempts say why.".to_owned();
            self.around.alerts.say(&self.name, Some(why), self.around.clock.now());
        }
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
