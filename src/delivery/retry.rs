//! When a failed delivery is tried again, and when it is given up. Pure.

use std::time::Duration;

use super::{Fault, LONGEST_WAIT, Outcome, Settlement};

/// The longest wait that a destination's own word can ask for.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a wait is spread to either side, so that what failed together does not return together.
const JITTER: f64 = 0.2;

/// The schedule: the wait before each further attempt. When the list is used up the delivery is a
/// dead letter; time alone never ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    waits: Vec<Duration>,
}

impl RetryPolicy {
    /// A policy that waits as the list says.
    pub fn new(waits: Vec<Duration>) -> Self {
        Self { waits }
    }

    /// The waits, in order.
    pub fn waits(&self) -> &[Duration] {
        &self.waits
    }

    /// What becomes of a delivery whose attempt brought `outcome`, with `budget_used` waits of the
    /// schedule used before it. `jitter` is a random number in `0.0..=1.0`; a half is no spread.
    ///
    /// A destination's own `Retry-After`, and the time before an unknown outcome may be looked up,
    /// are never shortened: the wait is the later of them and the schedule.
    pub fn settle(&self, budget_used: u32, outcome: &Outcome, jitter: f64) -> Settlement {
        let error = match outcome {
            Ok(receipt) => return Settlement::Delivered(receipt.clone()),
            Err(error) => error,
        };
        let at_least = match error.fault {
            Fault::Rejected => return Settlement::Dead,
            Fault::Needless => return Settlement::Cancelled,
            Fault::Blocked => return Settlement::Retry { wait: Duration::ZERO, counted: false },
            Fault::Transient { retry_after } => retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER),
            Fault::Unknown { look_after } => look_after,
        };
        let Some(wait) = self.waits.get(budget_used as usize) else {
            return Settlement::Dead;
        };
        let spread = wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0));
        Settlement::Retry { wait: spread.max(at_least).min(LONGEST_WAIT), counted: true }
    }
}
