//! Whether a lane may make attempts, and how many at once. Pure: what a broken, busy or recovering
//! destination is allowed, told from the outcomes of its attempts and from how it stands for all processes.
//!
//! ```text
//! open ──Blocked──► parked ──a probe succeeds──► ramping 1, 2, 4 … ──► open
//! ```
//! The store says when a parked destination is probed and by whom ([`crate::delivery::standing`]); the gate knows it
//! as of the last claim, and is the first to know what its own attempts bring.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::delivery::standing::{Signal, Standing};
use crate::delivery::{DeliveryError, Fault, Outcome};

/// After so many failures in a row a destination is failing, and a submit no longer waits for it.
const FAILING_AFTER: u32 = 3;

/// How a destination is doing, as `/health` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Attempts succeed.
    Ok,
    /// The last three attempts failed.
    Failing,
    /// Our credentials or settings are wrong: nothing but a probe goes there.
    Parked,
}

/// What a lane may do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// So many attempts at once.
    Attempts(usize),
    /// None until then.
    NotBefore(Instant),
}

/// When an attempt began.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// By a clock that nobody moves.
    pub at: Instant,
    /// By the one that attempts are written down with.
    pub clock: Timestamp,
}

/// The gate of one lane.
#[derive(Debug)]
pub struct Gate {
    concurrency: usize,
    first_probe: Duration,
    mode: Mode,
    failures: u32,
    held_until: Option<Instant>,
    /// When the newest attempt began that went in.
    last_success: Option<Timestamp>,
    /// Signals that the store has not got yet: until then it knows less than we do.
    untold: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    Parked { since: Instant, probe_at: Instant },
    Ramping { limit: usize },
}

impl Gate {
    /// An open gate for `concurrency` attempts; `first_probe` is how long a parked destination rests
    /// before it is tried again.
    pub fn new(concurrency: usize, first_probe: Duration) -> Self {
        Self {
            concurrency,
            first_probe,
            mode: Mode::Open,
            failures: 0,
            held_until: None,
            last_success: None,
            untold: 0,
        }
    }

    /// What the lane may do.
    pub fn allowance(&self, now: Instant) -> Allowance {
        if let Some(held_until) = self.held_until.filter(|held_until| *held_until > now) {
            return Allowance::NotBefore(held_until);
        }
        match self.mode {
            Mode::Open => Allowance::Attempts(self.concurrency),
            Mode::Ramping { limit } => Allowance::Attempts(limit),
            Mode::Parked { probe_at, .. } if probe_at > now => Allowance::NotBefore(probe_at),
            Mode::Parked { .. } => Allowance::Attempts(1),
        }
    }

    /// How the destination is doing.
    pub fn condition(&self) -> Condition {
        match self.mode {
            Mode::Parked { .. } => Condition::Parked,
            _ if self.failures >= FAILING_AFTER => Condition::Failing,
            _ => Condition::Ok,
        }
    }

    /// Whether a lead that was Blocked at `blocked_at`, and now is again, is itself the reason: an attempt that began since
    /// went in, and the destination is not parked. A probe that fails says nothing of its lead.
    pub fn is_poison(&self, blocked_at: Timestamp) -> bool {
        !matches!(self.mode, Mode::Parked { .. }) && self.last_success.is_some_and(|began| began > blocked_at)
    }

    /// Learns from an attempt that ends `now`. What comes of it for everybody is to be told to the store, and then
    /// [`Gate::told`].
    pub fn record(&mut self, outcome: &Outcome, began: Began, now: Instant) -> Option<Signal> {
        let signal = match outcome {
            Ok(_) => {
                self.failures = 0;
                self.last_success = self.last_success.max(Some(began.clock));
                self.widen(began)
            }
            Err(DeliveryError { fault: Fault::Blocked, .. }) => self.park(now),
            // Nobody was asked.
            Err(DeliveryError { fault: Fault::Needless, .. }) => None,
            // The destination answered, and it was about this lead: it is up.
            Err(DeliveryError { fault: Fault::Rejected, .. }) => {
                self.failures = 0;
                self.widen(began)
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                error.hold_lane.map(|hold| {
                    self.hold(now + hold);
                    Signal::Holds(hold)
                })
            }
        };
        self.untold += u32::from(signal.is_some());
        signal
    }

    /// The store has a signal, or never will.
    pub fn told(&mut self) {
        self.untold = self.untold.saturating_sub(1);
    }

    /// Learns how the destination stood for all processes at `now`. A claim that is a probe comes with the
    /// time of the next one.
    pub fn sync(&mut self, standing: &Standing, now: Instant) {
        if let Some(held_for) = standing.held_for {
            self.hold(now + held_for);
        }
        if let Some(recovered) = standing.recovered_at {
            self.last_success = self.last_success.max(Some(recovered));
        }
        if self.untold > 0 {
            return;
        }
        match (standing.probe_in, self.mode) {
            (Some(wait), mode) => {
                let since = if let Mode::Parked { since, .. } = mode { since } else { now };
                self.mode = Mode::Parked { since, probe_at: now + wait };
            }
            (None, Mode::Parked { .. }) => self.mode = Mode::Ramping { limit: 1 },
            (None, Mode::Open | Mode::Ramping { .. }) => {}
        }
    }

    fn hold(&mut self, until: Instant) {
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }

    fn park(&mut self, now: Instant) -> Option<Signal> {
        // A probe's failure was reckoned with when it was claimed, and answers of attempts that were under way
        // when it was parked say nothing new.
        if matches!(self.mode, Mode::Parked { .. }) {
            return None;
        }
        self.mode = Mode::Parked { since: now, probe_at: now + self.first_probe };
        Some(Signal::Refused { rest: self.first_probe })
    }

    fn widen(&mut self, began: Began) -> Option<Signal> {
        let (limit, signal) = match self.mode {
            Mode::Open => return None,
            // It was under way when the destination was parked, and says nothing new either.
            Mode::Parked { since, .. } if began.at < since => return None,
            Mode::Parked { .. } => (1, Some(Signal::Works)),
            Mode::Ramping { limit } => (limit.saturating_mul(2), None),
        };
        self.mode = if limit < self.concurrency { Mode::Ramping { limit } } else { Mode::Open };
        signal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Receipt;

    const PROBE: Duration = Duration::from_secs(60);

    fn blocked() -> Outcome {
        Err(DeliveryError::blocked("http_401", ""))
    }

    fn began(at: Instant) -> Began {
        Began { at, clock: Timestamp::UNIX_EPOCH }
    }

    fn record(gate: &mut Gate, outcome: &Outcome, now: Instant) -> Option<Signal> {
        let signal = gate.record(outcome, began(now), now);
        if signal.is_some() {
            gate.told();
        }
        signal
    }

    fn parked(probe_in: Duration) -> Standing {
        Standing { probe_in: Some(probe_in), ..Standing::default() }
    }

    #[test]
    fn a_blocked_destination_is_parked_and_ramped_up() {
        let mut gate = Gate::new(8, PROBE);
        let start = Instant::now();
        assert_eq!(gate.allowance(start), Allowance::Attempts(8));
        assert_eq!(record(&mut gate, &blocked(), start), Some(Signal::Refused { rest: PROBE }));
        assert_eq!(record(&mut gate, &blocked(), start), None, "others in flight say nothing new");
        assert_eq!(gate.condition(), Condition::Parked);
        assert_eq!(gate.allowance(start), Allowance::NotBefore(start + PROBE));

        let first = start + PROBE;
        assert_eq!(gate.allowance(first), Allowance::Attempts(1));
        gate.sync(&parked(2 * PROBE), first);
        assert_eq!(record(&mut gate, &blocked(), first), None);
        assert_eq!(gate.allowance(first), Allowance::NotBefore(first + 2 * PROBE));

        let second = first + 2 * PROBE;
        assert_eq!(record(&mut gate, &Ok(Receipt::default()), second), Some(Signal::Works));
        for limit in [1, 2, 4, 8] {
            assert_eq!(gate.allowance(second), Allowance::Attempts(limit));
            record(&mut gate, &Ok(Receipt::default()), second);
        }
        assert_eq!(gate.condition(), Condition::Ok);
    }

    #[test]
    fn what_another_process_has_learned_counts_unless_we_know_better() {
        let mut gate = Gate::new(8, PROBE);
        let now = Instant::now();
        gate.sync(&parked(PROBE), now);
        assert_eq!(gate.condition(), Condition::Parked, "another one parked it");
        gate.sync(&Standing::default(), now);
        assert_eq!(gate.allowance(now), Allowance::Attempts(1), "another one's probe went in");
        assert!(gate.record(&blocked(), began(now), now).is_some());
        gate.sync(&Standing::default(), now);
        assert_eq!(gate.condition(), Condition::Parked, "the store has not heard of it yet");
        gate.told();
        let held = Standing { held_for: Some(PROBE), ..parked(Duration::ZERO) };
        gate.sync(&held, now);
        assert_eq!(gate.allowance(now), Allowance::NotBefore(now + PROBE));
    }

    #[test]
    fn a_destination_that_asks_for_a_pause_gets_it_whole() {
        let mut gate = Gate::new(8, PROBE);
        let now = Instant::now();
        let busy = |seconds| {
            Err(DeliveryError::transient("http_429", "").holding_lane(Duration::from_secs(seconds)))
        };
        record(&mut gate, &busy(30), now);
        record(&mut gate, &busy(10), now);
        assert_eq!(gate.allowance(now), Allowance::NotBefore(now + Duration::from_secs(30)));
        assert_eq!(gate.allowance(now + Duration::from_secs(30)), Allowance::Attempts(8));
    }

    #[test]
    fn three_failures_in_a_row_are_failing_and_one_success_mends_it() {
        let mut gate = Gate::new(8, PROBE);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(gate.condition(), Condition::Ok);
            record(&mut gate, &Err(DeliveryError::transient("http_500", "")), now);
        }
        assert_eq!(gate.condition(), Condition::Failing);
        record(&mut gate, &Ok(Receipt::default()), now);
        assert_eq!(gate.condition(), Condition::Ok);
    }

    #[test]
    fn a_poison_lead_is_told_by_the_success_of_others_that_began_since() {
        let mut gate = Gate::new(8, PROBE);
        let second = |s| Timestamp::from_second(s).unwrap();
        let now = Instant::now();
        let at = |s| Began { at: now, clock: second(s) };
        assert!(!gate.is_poison(second(1)));
        gate.record(&Ok(Receipt::default()), at(5), now);
        gate.record(&Ok(Receipt::default()), at(3), now);
        assert!(gate.is_poison(second(4)));
        assert!(!gate.is_poison(second(5)), "it was under way when the other one was blocked");
        gate.sync(&Standing { recovered_at: Some(second(7)), ..Standing::default() }, now);
        assert!(gate.is_poison(second(6)), "another process's lead went in");
        record(&mut gate, &blocked(), now);
        assert!(!gate.is_poison(second(6)), "a probe that fails says nothing of its lead");
    }

    #[test]
    fn what_was_under_way_when_it_was_parked_opens_nothing() {
        let (mut gate, start) = (Gate::new(8, PROBE), Instant::now());
        let second = Duration::from_secs(1);
        record(&mut gate, &blocked(), start + second);
        for outcome in [Ok(Receipt::default()), Err(DeliveryError::rejected("http_422", ""))] {
            assert_eq!(gate.record(&outcome, began(start), start + 2 * second), None);
            assert_eq!(gate.condition(), Condition::Parked);
        }
        gate.sync(&parked(PROBE), start + 3 * second);
        let probe = began(start + 2 * second);
        assert_eq!(gate.record(&Ok(Receipt::default()), probe, start + 4 * second), Some(Signal::Works));
    }
}
