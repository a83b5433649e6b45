//! One attempt, from claim to settlement. There is no other way to a destination.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::gate::Began;
use super::lane::Lane;
use super::notes::Notes;
use crate::clock::Timestamp;
use crate::delivery::standing::{Signal, Turned};
use crate::delivery::{Attempt, AttemptOutcome, Claim, DeliveryError, Fault, Outcome, Settlement};
use crate::destination::{Handoff, Parcel};
use crate::report::Chain;
use crate::store::{Settle, Settled};

/// The first and the longest wait before the store is told again what it could not take.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long after its deadline an attempt that did not come back is given up: a fault of ours.
const OVERRUN: Duration = Duration::from_secs(5);

/// What the store calls an attempt whose claim ended unsettled.
const LOST: &str = "lost";

impl Lane {
    /// Makes the attempt and settles it. The permit is for the destination alone: the next one goes there while
    /// this one is written down.
    pub(super) async fn attempt(&self, mut claim: Claim, permit: impl Send) {
        let Some(_alone) = self.under_way.begin(claim.delivery.lead).await else {
            // What the other attempt brought is read by the next claim.
            return self.release(&claim).await;
        };
        if !self.covers_attempt(&mut claim).await {
            return;
        }
        let started_at = self.around.clock.now();
        let start = Instant::now();
        if let Some(lost) = lost(&claim) {
            warn!(delivery = %claim.delivery, attempt = lost, "an attempt was lost: the process that made it has ended");
            // What ends a process may be the lead itself.
            if claim.budget_used as usize > self.policy.waits().len() {
                let detail = "The process ended while the attempt was under way, and no further is left.";
                return self
                    .finish(claim, started_at, Duration::ZERO, Err(DeliveryError::unknown(LOST, detail)))
                    .await;
            }
        }
        // It was planned where that was not asked for yet.
        if self.settings.requires_consent && !claim.lead.submitted.consent_given {
            let detail = "The visitor has not consented, and `requires_consent` asks for it by now. With consent (`lead-intake leads consent`) it can be replayed.";
            let outcome = Err(DeliveryError::rejected("no_consent", detail));
            self.count(&outcome);
            let settle = self.write_down(claim, started_at, Duration::ZERO, &outcome, None);
            return self.settle(settle).await;
        }
        match self.deliver(&claim, started_at).await {
            Some(outcome) => {
                let settle = self.judge(claim, started_at, start.elapsed(), outcome);
                drop(permit);
                self.ended();
                self.settle(settle).await;
            }
            None => self.release(&claim).await,
        }
    }

    /// Sending needs a lease that still covers the attempt and the quiet period after it.
    async fn covers_attempt(&self, claim: &mut Claim) -> bool {
        let now = Instant::now();
        if claim.lease_ends >= now + self.settings.timeout + self.destination.quiet_period() {
            return true;
        }
        match self.around.store.renew(&claim.delivery, claim.attempt, self.lease()).await {
            Ok(renewed) => {
                claim.lease_ends = now + self.lease();
                renewed
            }
            Err(error) => {
                warn!(delivery = %claim.delivery, error = %Chain(&error), "lease not renewed; nothing sent");
                self.release(claim).await;
                false
            }
        }
    }

    /// Hands the parcel over. `None`: a shutdown took it back before anything was sent.
    async fn deliver(&self, claim: &Claim, now: Timestamp) -> Option<Outcome> {
        let handoff = Arc::new(Handoff::default());
        let deadline = Instant::now() + self.settings.timeout;
        let store = Arc::clone(&self.around.store);
        let notebook = Notes { store, delivery: claim.delivery.clone(), deadline };
        let parcel = Parcel {
            lead: &claim.lead,
            delivery: &claim.delivery,
            attempt: claim.attempt,
            earlier: &claim.earlier,
            deadline,
            now,
            crm_planned: claim.crm_planned,
            handoff: &handoff,
            steps: &claim.steps,
            notebook: &notebook,
        };
        let cut_short = |code: &str, detail: &str| {
            let look_after = self.destination.quiet_period();
            Err(DeliveryError::new(Fault::Unknown { look_after }, code, detail))
        };
        // Not begun: surely nothing is sent.
        if self.around.give_up.is_cancelled() {
            return None;
        }
        tokio::select! {
            biased;
            ended = AssertUnwindSafe(self.destination.deliver(parcel)).catch_unwind() => {
                Some(ended.unwrap_or_else(|_| {
                    error!(delivery = %claim.delivery, "an attempt panicked");
                    cut_short("panic", "lead-intake failed in the middle of the attempt: a fault of ours, please report it.")
                }))
            }
            // Only at the end of the process, and where a destination broke its promise to come back by
            // the deadline, is a delivery dropped half way.
            () = self.around.give_up.cancelled() => (!handoff.withdraw())
                .then(|| cut_short("shutdown", "The service was stopped while the attempt was under way.")),
            () = tokio::time::sleep_until(deadline + OVERRUN) => {
                error!(delivery = %claim.delivery, "an attempt overran its deadline");
                Some(cut_short("overrun", "The attempt did not end in its time and was given up."))
            }
        }
    }

    /// Settles an attempt that is over.
    pub(crate) async fn finish(&self, claim: Claim, started_at: Timestamp, took: Duration, outcome: Outcome) {
        let settle = self.judge(claim, started_at, took, outcome);
        self.settle(settle).await;
    }

    /// What becomes of an attempt that is over, and what the lane learns of it.
    fn judge(&self, claim: Claim, started_at: Timestamp, took: Duration, outcome: Outcome) -> Settle {
        let (outcome, signal) = if self.is_poison(&claim, &outcome) {
            let outcome = outcome.map_err(as_poison);
            self.count(&outcome);
            (outcome, None)
        } else {
            let now = Instant::now();
            let began = Began { at: now.checked_sub(took).unwrap_or(now), clock: started_at };
            let signal = self.learn(&outcome, began);
            (outcome, signal)
        };
        self.write_down(claim, started_at, took, &outcome, signal)
    }

    /// The settlement of an attempt, logged.
    fn write_down(
        &self,
        claim: Claim,
        started_at: Timestamp,
        took: Duration,
        outcome: &Outcome,
        signal: Option<Signal>,
    ) -> Settle {
        let settlement = self.policy.settle(claim.budget_used, outcome, fastrand::f64());
        let (code, detail) = match outcome {
            Ok(receipt) => ("ok".to_owned(), receipt.note.clone().unwrap_or_default()),
            Err(error) => (error.code.clone(), error.detail.clone()),
        };
        let attempt = Attempt {
            number: claim.attempt,
            started_at,
            finished_at: self.around.clock.now(),
            outcome: AttemptOutcome::of(outcome),
            code,
            detail,
        };
        self.log(&claim, &attempt, took, outcome, &settlement);
        Settle { claim, attempt, settlement, signal }
    }

    /// A lead that is Blocked again although others went in since is itself the reason.
    fn is_poison(&self, claim: &Claim, outcome: &Outcome) -> bool {
        let mut earlier = claim.earlier.iter().rev();
        let blocked_before = earlier.find(|attempt| attempt.outcome == AttemptOutcome::Blocked);
        outcome.as_ref().is_err_and(|error| error.fault == Fault::Blocked)
            && blocked_before.is_some_and(|attempt| self.gate().is_poison(attempt.finished_at))
    }

    /// A settlement is a fact: it is held until the store takes it, or the process ends.
    async fn settle(&self, settle: Settle) {
        let (mut wait, longest) = AGAIN;
        let delivery = settle.claim.delivery.clone();
        let _told = settle.signal.map(|_| Told(self));
        let (mut next, mut is_repeat) = (settle, false);
        loop {
            let again = next.again();
            match self.around.store.settle(next).await {
                Ok(Settled { changed, turned }) => {
                    if !changed {
                        info!(%delivery, "the settlement changed nothing: the delivery has gone on");
                    }
                    // Whether it was this one that parked it, the answer may have said that was lost.
                    let refused = matches!(again.signal, Some(Signal::Refused { .. }));
                    let turned = turned.or((is_repeat && refused).then_some(Turned::Parked));
                    let attempt = &again.attempt;
                    let succeeded = attempt.outcome == AttemptOutcome::Delivered;
                    self.turned(turned, &attempt.code, &attempt.detail, succeeded);
                    self.around.settled.notify_one();
                    return;
                }
                Err(error) => warn!(%delivery, error = %Chain(&error), "cannot settle yet"),
            }
            if !self.rests(wait).await {
                error!(%delivery, "not settled before the end; its lease will end and it is looked at again");
                return;
            }
            wait = (wait * 2).min(longest);
            is_repeat = true;
            next = again;
        }
    }

    /// Gives a claim back unsent. Else its lease would have to end, and it would count as a lost attempt: so it is said
    /// until the store takes it, or the process ends.
    pub(super) async fn release(&self, claim: &Claim) {
        let delivery = &claim.delivery;
        let (mut wait, longest) = AGAIN;
        loop {
            match self.around.store.release(claim).await {
                Ok(_) => return info!(%delivery, "released unsent"),
                Err(error) => warn!(%delivery, error = %Chain(&error), "cannot release yet"),
            }
            if !self.rests(wait).await {
                return warn!(%delivery, "not released before the end; its lease will end");
            }
            wait = (wait * 2).min(longest);
        }
    }

    /// Waits. `false`: the process ends.
    async fn rests(&self, wait: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = self.around.give_up.cancelled() => false,
        }
    }

    /// Every attempt is logged: ids, numbers and codes, nothing that a visitor typed.
    fn log(
        &self,
        claim: &Claim,
        attempt: &Attempt,
        took: Duration,
        outcome: &Outcome,
        settlement: &Settlement,
    ) {
        let lead = claim.lead.id;
        let destination = self.name();
        let number = attempt.number;
        let brought = attempt.outcome.as_str();
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let code = attempt.code.as_str();
        let cause = outcome.as_ref().err().and_then(|error| error.source.as_deref());
        let cause = cause.map(|cause| Chain(cause).to_string());
        let cause = cause.as_deref();
        match settlement {
            Settlement::Delivered(_) => {
                info!(%lead, %destination, attempt = number, outcome = brought, took_ms, "delivered");
            }
            Settlement::Retry { wait, .. } => warn!(
                %lead, %destination, attempt = number, outcome = brought, code, cause, took_ms,
                retry_in_s = wait.as_secs(), "attempt failed; it will be tried again"
            ),
            Settlement::Cancelled => info!(
                %lead, %destination, attempt = number, outcome = brought, code, "cancelled: not to be sent"
            ),
            Settlement::Dead => error!(
                %lead, %destination, attempt = number, outcome = brought, code, cause, took_ms,
                "dead letter: see `lead-intake leads show`, then replay or cancel it"
            ),
        }
    }
}

/// The attempt before this one, if no process settled it.
fn lost(claim: &Claim) -> Option<u32> {
    let last = claim.earlier.last().filter(|last| last.code == LOST && last.number + 1 == claim.attempt);
    last.map(|last| last.number)
}

fn as_poison(mut error: DeliveryError) -> DeliveryError {
    error.fault = Fault::Rejected;
    error.detail.push_str(" Other leads went in meanwhile, so it is this lead that is refused.");
    error
}

/// Tells the gate at the end of a settlement that the store knows its signal, or never will.
struct Told<'a>(&'a Lane);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.gate().told();
    }
}
