//! Whether a lane may make attempts, and how many at once. Pure: what a broken, busy or recovering
//! destination is allowed, told from the outcomes of its attempts.
//!
//! ```text
//! open ──Blocked──► parked ──a probe succeeds──► ramping 1, 2, 4 … ──► open
//!                    ▲  └─ Blocked: the next probe waits twice as long ─┐
//!                    └──────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::delivery::{DeliveryError, Fault, Outcome};

/// After so many failures in a row a destination is failing, and a submit no longer waits for it.
const FAILING_AFTER: u32 = 3;

/// The wait between probes doubles up to this many times the first one.
const SLOWEST_PROBE: u32 = 16;

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

/// A change that somebody should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has just been parked.
    Parked,
    /// It takes leads again after having been parked.
    Recovered,
}

/// The gate of one lane.
#[derive(Debug)]
pub struct Gate {
    concurrency: usize,
    first_probe: Duration,
    mode: Mode,
    failures: u32,
    held_until: Option<Instant>,
    last_success: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Open,
    Parked { probe_at: Instant, probes: u32 },
    Ramping { limit: usize },
}

impl Gate {
    /// An open gate for `concurrency` attempts; `first_probe` is how long a parked destination rests
    /// before it is tried again.
    pub fn new(concurrency: usize, first_probe: Duration) -> Self {
        Self { concurrency, first_probe, mode: Mode::Open, failures: 0, held_until: None, last_success: None }
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

    /// Whether another lead went in after `blocked_at`: then a lead that is Blocked again is itself the
    /// reason.
    pub fn succeeded_since(&self, blocked_at: Timestamp) -> bool {
        self.last_success.is_some_and(|success| success > blocked_at)
    }

    /// Learns from an attempt that ended `now`; `clock` is the wall clock's word for the same moment.
    pub fn record(&mut self, outcome: &Outcome, now: Instant, clock: Timestamp) -> Option<Change> {
        match outcome {
            Ok(_) => {
                self.failures = 0;
                self.last_success = Some(clock);
                self.widen()
            }
            Err(DeliveryError { fault: Fault::Blocked, .. }) => self.park(now),
            // Nobody was asked.
            Err(DeliveryError { fault: Fault::Needless, .. }) => None,
            // The destination answered, and it was about this lead: it is up.
            Err(DeliveryError { fault: Fault::Rejected, .. }) => {
                self.failures = 0;
                self.widen()
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                if let Some(hold) = error.hold_lane {
                    let until = now + hold;
                    self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
                }
                if let Mode::Parked { probe_at, .. } = &mut self.mode {
                    *probe_at = (*probe_at).max(now + self.first_probe);
                }
                None
            }
        }
    }

    fn park(&mut self, now: Instant) -> Option<Change> {
        let (probes, news) = match self.mode {
            // Answers of attempts that were under way when it was parked are not probes.
            Mode::Parked { probe_at, .. } if probe_at > now => return None,
            Mode::Parked { probes, .. } => (probes.saturating_add(1), None),
            Mode::Open | Mode::Ramping { .. } => (0, Some(Change::Parked)),
        };
        let times = 1_u32.checked_shl(probes).unwrap_or(u32::MAX).min(SLOWEST_PROBE);
        self.mode = Mode::Parked { probe_at: now + self.first_probe * times, probes };
        news
    }

    fn widen(&mut self) -> Option<Change> {
        let (limit, news) = match self.mode {
            Mode::Open => return None,
            Mode::Parked { .. } => (1, Some(Change::Recovered)),
            Mode::Ramping { limit } => (limit.saturating_mul(2), None),
        };
        self.mode = if limit < self.concurrency { Mode::Ramping { limit } } else { Mode::Open };
        news
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

    fn record(gate: &mut Gate, outcome: &Outcome, now: Instant) -> Option<Change> {
        gate.record(outcome, now, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_blocked_destination_is_parked_probed_ever_more_rarely_and_ramped_up() {
        let mut gate = Gate::new(8, PROBE);
        let start = Instant::now();
        assert_eq!(gate.allowance(start), Allowance::Attempts(8));
        assert_eq!(record(&mut gate, &blocked(), start), Some(Change::Parked));
        assert_eq!(record(&mut gate, &blocked(), start), None, "others in flight say nothing new");
        assert_eq!(gate.condition(), Condition::Parked);
        assert_eq!(gate.allowance(start), Allowance::NotBefore(start + PROBE));

        let first = start + PROBE;
        assert_eq!(gate.allowance(first), Allowance::Attempts(1));
        record(&mut gate, &blocked(), first);
        assert_eq!(gate.allowance(first), Allowance::NotBefore(first + 2 * PROBE));

        let second = first + 2 * PROBE;
        assert_eq!(record(&mut gate, &Ok(Receipt::default()), second), Some(Change::Recovered));
        for limit in [1, 2, 4, 8] {
            assert_eq!(gate.allowance(second), Allowance::Attempts(limit));
            record(&mut gate, &Ok(Receipt::default()), second);
        }
        assert_eq!(gate.condition(), Condition::Ok);
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
    fn a_poison_lead_is_told_by_the_success_of_others_since() {
        let mut gate = Gate::new(8, PROBE);
        let second = |s| Timestamp::from_second(s).unwrap();
        assert!(!gate.succeeded_since(second(1)));
        gate.record(&Ok(Receipt::default()), Instant::now(), second(5));
        assert!(gate.succeeded_since(second(4)));
        assert!(!gate.succeeded_since(second(5)));
    }
}
