//! How fast calls may follow each other, so that rate and burst together stay within a number in any
//! minute: a token bucket.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bucket of calls.
pub(super) struct Budget {
    burst: f64,
    per_second: f64,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct State {
    left: f64,
    at: Instant,
    held_until: Option<Instant>,
}

impl Budget {
    /// At most `per_minute` calls in any minute: a sixth of them at once, the rest spread.
    pub(super) fn new(per_minute: u32) -> Self {
        let burst = (per_minute / 6).max(1);
        let rest = per_minute.saturating_sub(burst).max(1);
        Self {
            burst: f64::from(burst),
            per_second: f64::from(rest) / 60.0,
            state: Mutex::new(State { left: f64::from(burst), at: Instant::now(), held_until: None }),
        }
    }

    /// Takes a call; `Err`: not before then.
    pub(super) fn try_take(&self, now: Instant) -> Result<(), Instant> {
        let mut state = self.state();
        if let Some(held) = state.held_until.filter(|held| *held > now) {
            return Err(held);
        }
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.left = (state.left + passed * self.per_second).min(self.burst);
        state.at = state.at.max(now);
        if state.left >= 1.0 {
            state.left -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - state.left) / self.per_second))
    }

    /// Takes a call, and waits for it if need be.
    pub(super) async fn take(&self) {
        while let Err(then) = self.try_take(Instant::now()) {
            tokio::time::sleep_until(then).await;
        }
    }

    /// Nobody takes any for this long: Google has asked for it.
    pub(super) fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state();
        state.held_until = Some(state.held_until.map_or(until, |held| held.max(until)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_than_its_number() {
        for per_minute in [6, 20, 60, 300] {
            let budget = Budget::new(per_minute);
            let start = Instant::now();
            // A hungry caller, asking every 50 ms for five minutes.
            let taken: Vec<_> = (0..6_000)
                .map(|tick| start + Duration::from_millis(50) * tick)
                .filter(|now| budget.try_take(*now).is_ok())
                .collect();
            for first in &taken {
                let within =
                    taken.iter().filter(|time| *time >= first && **time < *first + Duration::from_secs(60));
                assert!(within.count() <= per_minute as usize, "{per_minute}");
            }
            assert!(taken.len() > per_minute as usize * 4, "it is not slower than it must be");
        }
    }
}
