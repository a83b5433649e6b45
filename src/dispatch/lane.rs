//! The background loop of one destination, and the gate before the one attempter that everybody uses.
//!
//! A lane claims what is due when it has a free permit and its [`Gate`] lets it, and sleeps until the
//! next delivery is due, somebody wakes it, or two seconds have passed: another process, such as
//! `lead-intake deliveries replay`, can make a delivery due without telling anyone.
//!
//! A claim takes the time of a commit, in which a fast destination could take many: a lane claims ahead of its
//! permits, twice as many as attempts ended during the last claim. They go back unsent when the gate closes before their turn.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::alerts::Alerts;
use super::gate::{Allowance, Condition, Gate};
use super::tally::Tally;
use super::under_way::UnderWay;
use crate::clock::Clock;
use crate::delivery::retry::RetryPolicy;
use crate::delivery::standing::{Signal, Turned};
use crate::delivery::{Birth, Claim, Outcome};
use crate::destination::{Destination, LaneSettings, Nature, Start};
use crate::id::DestinationName;
use crate::report::Chain;
use crate::store::{ClaimRequest, Claimed, Store, StoreError};

/// The longest a lane sleeps without asking the store.
const POLL: Duration = Duration::from_secs(2);

/// How long a lane rests after the store failed it.
const STORE_REST: Duration = Duration::from_secs(1);

/// The most deliveries claimed in one transaction.
const CLAIM_BATCH: usize = 256;

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
    name: DestinationName,
    nature: Nature,
    permits: Arc<Semaphore>,
    /// What the loop may take of them: a quarter is left to new leads, who go before the backlog.
    backlog: Arc<Semaphore>,
    /// How many attempts came back since the start.
    ended: AtomicUsize,
    /// How many claims may wait for their permits.
    ahead: AtomicUsize,
    /// How many do.
    waiting: AtomicUsize,
    pub(super) under_way: UnderWay,
    gate: Mutex<Gate>,
    wake: Notify,
    tally: Tally,
    /// Since the process began.
    has_worked: AtomicBool,
    pub(super) settings: LaneSettings,
    pub(super) policy: RetryPolicy,
    pub(super) destination: Arc<dyn Destination>,
    pub(super) around: Surroundings,
}

impl Lane {
    /// A lane to `destination`. `crm` tells CRMs and webhooks from the sheet and the mailboxes.
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
            backlog: Arc::new(Semaphore::new(settings.concurrency - settings.concurrency / 4)),
            ended: AtomicUsize::new(0),
            ahead: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            under_way: UnderWay::default(),
            gate: Mutex::new(Gate::new(settings.concurrency, settings.probe)),
            wake: Notify::new(),
            tally: Tally::default(),
            has_worked: AtomicBool::new(false),
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

    /// An attempt came back, and its permit is free.
    pub(super) fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.wake();
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

    /// Starts the loop. Once.
    pub(super) fn spawn_loop(self: &Arc<Self>) {
        self.around.tracker.spawn(Arc::clone(self).run());
    }

    /// Claims and attempts until the stop.
    async fn run(self: Arc<Self>) {
        let mut store_failed = false;
        // A restart is how settings are mended.
        if let Err(error) = self.around.store.probe_now(&self.name).await {
            warn!(destination = %self.name, error = %Chain(&error), "should it be parked, its probe waits its time");
        }
        while !self.around.stop.is_cancelled() {
            let room = self.room();
            let ahead = if room.is_ok() { self.ahead.load(Ordering::Relaxed) } else { 0 };
            let nap = match room {
                Ok(room) if room + ahead <= self.waiting.load(Ordering::Relaxed) => POLL,
                room => match self.claim_and_start(room.unwrap_or(0), ahead).await {
                    Ok(next) => {
                        store_failed = false;
                        let Some(nap) = next else { continue };
                        // What another process has learned meanwhile may have shortened the wait.
                        let until = self.room().err();
                        until.map_or(nap, |until| until.saturating_duration_since(Instant::now())).min(POLL)
                    }
                    Err(error) => {
                        if !std::mem::replace(&mut store_failed, true) {
                            warn!(destination = %self.name, error = %Chain(&error), "cannot claim; trying on");
                        }
                        STORE_REST
                    }
                },
            };
            tokio::select! {
                () = self.around.stop.cancelled() => return,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(nap) => {}
            }
        }
    }

    /// Claims deliveries for `room` permits and some `ahead` of them, and starts them in turn; with neither it only
    /// learns how the destination stands. `Some(nap)`: nothing was due, and nothing will be for so long.
    async fn claim_and_start(
        self: &Arc<Self>,
        room: usize,
        ahead: usize,
    ) -> Result<Option<Duration>, StoreError> {
        let lease = self.lease();
        let (ended, waiting) = (self.ended.load(Ordering::Relaxed), self.waiting.load(Ordering::Relaxed));
        let limit = (room + ahead).saturating_sub(waiting).min(CLAIM_BATCH);
        let request =
            ClaimRequest { destination: self.name.clone(), limit, lease, rest: self.settings.probe };
        let Claimed { claims, standing } = self.around.store.claim_due(request).await?;
        self.gate().sync(&standing, Instant::now());
        let meanwhile = self.ended.load(Ordering::Relaxed).wrapping_sub(ended);
        let ahead = if self.is_open() { (meanwhile * 2).min(CLAIM_BATCH) } else { 0 };
        self.ahead.store(ahead, Ordering::Relaxed);
        if claims.is_empty() {
            // Until it may be asked again, whatever is due waits.
            if let Some(wait) = standing.held_for.or(standing.probe_in).filter(|wait| !wait.is_zero()) {
                return Ok(Some(wait));
            }
            return Ok(Some(self.around.store.next_due(&self.name).await?.unwrap_or(POLL)));
        }
        for (number, claim) in claims.into_iter().enumerate() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            let is_ahead = waiting + number >= room;
            self.around.tracker.spawn(Arc::clone(self).start_in_turn(claim, is_ahead));
        }
        Ok(None)
    }

    /// How many attempts the loop may have begin now. A quarter of the permits is left to new leads, who
    /// go before the backlog.
    fn room(&self) -> Result<usize, Instant> {
        let allowed = match self.allowance() {
            Allowance::NotBefore(then) => return Err(then),
            Allowance::Attempts(allowed) => allowed,
        };
        let kept_for_new = self.settings.concurrency / 4;
        let free = self.permits.available_permits().saturating_sub(kept_for_new);
        Ok(free.min(allowed.saturating_sub(self.in_flight())))
    }

    /// Makes the attempt of a claim that the loop made, when there is a permit for it.
    async fn start_in_turn(self: Arc<Self>, claim: Claim, is_ahead: bool) {
        // A permit can have gone to a new lead meanwhile; then this one waits its turn, and the attempt renews the
        // lease if that took long.
        let permits = async {
            let backlog = self.backlog.acquire().await;
            (backlog, self.permits.acquire().await)
        };
        let permits = tokio::select! {
            biased;
            () = self.around.stop.cancelled() => None,
            permits = permits => Some(permits),
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        match permits {
            Some(permits) if !is_ahead || self.is_open() => self.attempt(claim, permits).await,
            _ => self.release(claim).await,
        }
        self.wake();
    }

    /// Whether it may have as many attempts under way as it is set to.
    fn is_open(&self) -> bool {
        matches!(self.allowance(), Allowance::Attempts(allowed) if allowed == self.settings.concurrency)
    }

    fn in_flight(&self) -> usize {
        self.settings.concurrency.saturating_sub(self.permits.available_permits())
    }

    fn allowance(&self) -> Allowance {
        self.gate().allowance(Instant::now())
    }

    /// Tells the gate what an attempt brought; what comes of it for everybody.
    pub(super) fn learn(&self, outcome: &Outcome) -> Option<Signal> {
        self.tally.count(crate::delivery::AttemptOutcome::of(outcome));
        self.gate().record(outcome, Instant::now(), self.around.clock.now())
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

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
