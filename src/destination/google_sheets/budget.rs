//! How fast calls may follow each other, so that rate and burst together stay within a number in any minute, for
//! all processes that share the account. While they cannot be asked, each keeps to the number alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::standing::Pace;
use crate::destination::{Booked, Commons};

/// The longest that a call waits for its turn: longer than any attempt.
const PATIENCE: Duration = Duration::from_secs(300);

/// The calls of one kind.
pub(super) struct Budget {
    commons: Arc<dyn Commons>,
    name: String,
    pace: Pace,
    alone: Mutex<Bucket>,
}

/// What this process may do alone: a token bucket.
struct Bucket {
    left: f64,
    at: Instant,
    held_until: Option<Instant>,
}

impl Budget {
    /// At most `per_minute` calls in any minute of what `name` names: a sixth of them at once, the rest spread.
    pub(super) fn new(commons: &Arc<dyn Commons>, name: String, per_minute: u32) -> Self {
        let pace = Pace::per_minute(per_minute);
        let full = Bucket { left: f64::from(pace.burst), at: Instant::now(), held_until: None };
        Self { commons: Arc::clone(commons), name, pace, alone: Mutex::new(full) }
    }

    /// Takes a call if it can go at once.
    pub(super) async fn try_take(&self) -> bool {
        match self.commons.pace(&self.name, self.pace, Duration::ZERO).await {
            Some(booked) => booked != Booked::NotYet,
            None => self.alone().take(self.pace, Instant::now()).is_ok(),
        }
    }

    /// Takes a call, and waits for it if need be.
    pub(super) async fn take(&self) {
        loop {
            match self.commons.pace(&self.name, self.pace, PATIENCE).await {
                Some(Booked::In(wait)) => return tokio::time::sleep(wait).await,
                Some(Booked::NotYet) => tokio::time::sleep(self.pace.every).await,
                None => {
                    let taken = self.alone().take(self.pace, Instant::now());
                    match taken {
                        Ok(()) => return,
                        Err(then) => tokio::time::sleep_until(then).await,
                    }
                }
            }
        }
    }

    /// Nobody takes any for this long: Google has asked for it.
    pub(super) fn hold(&self, wait: Duration) {
        self.commons.rest(&self.name, self.pace, wait);
        let until = Instant::now() + wait;
        let mut alone = self.alone();
        alone.held_until = Some(alone.held_until.map_or(until, |held| held.max(until)));
    }

    fn alone(&self) -> MutexGuard<'_, Bucket> {
        self.alone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    /// Takes a call; `Err`: not before then.
    fn take(&mut self, pace: Pace, now: Instant) -> Result<(), Instant> {
        if let Some(held) = self.held_until.filter(|held| *held > now) {
            return Err(held);
        }
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed / pace.every.as_secs_f64()).min(f64::from(pace.burst));
        self.at = self.at.max(now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        Err(now + pace.every.mul_f64(1.0 - self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_than_its_number() {
        for per_minute in [6, 20, 60, 300] {
            let (pace, start) = (Pace::per_minute(per_minute), Instant::now());
            let mut bucket = Bucket { left: f64::from(pace.burst), at: start, held_until: None };
            // A hungry caller, asking every 50 ms for five minutes.
            let taken: Vec<_> = (0..6_000)
                .map(|tick| start + Duration::from_millis(50) * tick)
                .filter(|now| bucket.take(pace, *now).is_ok())
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
