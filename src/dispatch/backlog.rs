//! The background loop of a lane. It claims what is due when it has a free permit and its gate lets it, and sleeps until
//! the next delivery is due, somebody wakes it, or two seconds have passed: another process, such as
//! `lead-intake deliveries replay`, can make a delivery due without telling anyone.
//!
//! A claim takes the time of a commit, in which a fast destination could take many: a lane claims ahead of its
//! permits, twice as many as attempts ended during the last claim. They go back unsent when the gate closes before their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::gate::Allowance;
use super::lane::Lane;
use crate::delivery::Claim;
use crate::report::Chain;
use crate::store::{ClaimRequest, Claimed, StoreError};

/// The longest a lane sleeps without asking the store.
const POLL: Duration = Duration::from_secs(2);

/// How long a lane rests after the store failed it.
const STORE_REST: Duration = Duration::from_secs(1);

/// The most deliveries claimed in one transaction.
const CLAIM_BATCH: usize = 256;

/// What a lane has claimed ahead of its permits, and by what it measures how much that may be.
#[derive(Default)]
pub(super) struct Ahead {
    /// How many attempts came back since the start.
    ended: AtomicUsize,
    /// How many claims may wait for their permits.
    most: AtomicUsize,
    /// How many do.
    waiting: AtomicUsize,
}

impl Lane {
    /// An attempt came back, and its permit is free.
    pub(super) fn ended(&self) {
        self.ahead.ended.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    /// Should the destination be parked, it may be probed at once.
    pub(super) async fn probe_now(&self) {
        if let Err(error) = self.around.store.probe_now(&self.name).await {
            warn!(destination = %self.name, error = %Chain(&error), "should it be parked, its probe waits its time");
        }
    }

    /// Starts the loop. Once.
    pub(super) fn spawn_loop(self: &Arc<Self>) {
        self.around.tracker.spawn(Arc::clone(self).run());
    }

    /// Claims and attempts until the stop.
    async fn run(self: Arc<Self>) {
        let mut store_failed = false;
        while !self.around.stop.is_cancelled() {
            let room = self.room();
            let ahead = if room.is_ok() { self.ahead.most.load(Ordering::Relaxed) } else { 0 };
            let nap = match room {
                Ok(room) if room + ahead <= self.ahead.waiting.load(Ordering::Relaxed) => POLL,
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
        let (ended, waiting) =
            (self.ahead.ended.load(Ordering::Relaxed), self.ahead.waiting.load(Ordering::Relaxed));
        let limit = (room + ahead).saturating_sub(waiting).min(CLAIM_BATCH);
        let request =
            ClaimRequest { destination: self.name.clone(), limit, lease, rest: self.settings.probe };
        let Claimed { claims, standing } = self.around.store.claim_due(request).await?;
        self.gate().sync(&standing, Instant::now());
        self.found(&standing);
        let meanwhile = self.ahead.ended.load(Ordering::Relaxed).wrapping_sub(ended);
        let ahead = if self.is_open() { (meanwhile * 2).min(CLAIM_BATCH) } else { 0 };
        self.ahead.most.store(ahead, Ordering::Relaxed);
        if claims.is_empty() {
            // Until it may be asked again, whatever is due waits.
            if let Some(wait) = standing.held_for.or(standing.probe_in).filter(|wait| !wait.is_zero()) {
                return Ok(Some(wait));
            }
            return Ok(Some(self.around.store.next_due(&self.name).await?.unwrap_or(POLL)));
        }
        for (number, claim) in claims.into_iter().enumerate() {
            self.ahead.waiting.fetch_add(1, Ordering::Relaxed);
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
        self.ahead.waiting.fetch_sub(1, Ordering::Relaxed);
        match permits {
            Some(permits) if !is_ahead || self.is_open() => self.attempt(claim, permits).await,
            _ => self.release(&claim).await,
        }
        self.wake();
    }

    /// Whether it may have as many attempts under way as it is set to.
    fn is_open(&self) -> bool {
        matches!(self.allowance(), Allowance::Attempts(allowed) if allowed == self.settings.concurrency)
    }
}
