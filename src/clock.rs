//! The one place that reads the wall clock and the one that sleeps until a moment of it.
//!
//! Code that decides takes `now: Timestamp` as an argument; code that waits takes a [`Clock`]. A
//! test hands in a [`Clock::manual`] and moves it. Timeouts are not wall-clock time: they use
//! `tokio::time`, which is monotonic.

use std::sync::Arc;
use std::time::Duration;

pub use jiff::Timestamp;
use tokio::sync::watch;

/// The longest single sleep. A wall clock that jumps is noticed after at most this long.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// A source of wall-clock time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<watch::Sender<Timestamp>>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(start))))
    }

    /// The moment it is, cut to the millisecond, for that is what the store keeps.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => millisecond(Timestamp::now()),
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// The moment of a manual clock. An engine with a clock of its own asks: the machine's clock does not replace
    /// it, a test's does.
    pub fn set_by_hand(&self) -> Option<Timestamp> {
        match &self.0 {
            Source::System => None,
            Source::Manual(now) => Some(*now.borrow()),
        }
    }

    /// Moves a manual clock forward and wakes who waits for the new time.
    ///
    /// # Panics
    /// On a system clock: only a test calls this.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System => panic!("the system clock cannot be moved"),
            Source::Manual(now) => now.send_modify(|now| *now = after(*now, by)),
        }
    }

    /// Waits until `due`. Returns at once if it has passed.
    pub async fn sleep_until(&self, due: Timestamp) {
        match &self.0 {
            Source::System => loop {
                let left = until(self.now(), due);
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST_NAP)).await;
            },
            Source::Manual(now) => {
                let mut now = now.subscribe();
                // The sender lives in `self`, so the wait can only end by reaching `due`.
                let _ = now.wait_for(|now| *now >= due).await;
            }
        }
    }
}

/// `at` plus `wait`, held at the end of time instead of overflowing.
pub fn after(at: Timestamp, wait: Duration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// How long from `now` until `due`; zero when `due` has passed.
pub fn until(now: Timestamp, due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// `at`, cut to the millisecond.
pub fn millisecond(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_a_past_moment_is_zero() {
        let now = Timestamp::from_second(1_000).unwrap();
        assert_eq!(until(now, Timestamp::from_second(999).unwrap()), Duration::ZERO);
        assert_eq!(until(now, Timestamp::from_second(1_002).unwrap()), Duration::from_secs(2));
    }

    #[test]
    fn the_end_of_time_is_held() {
        assert_eq!(after(Timestamp::MAX, Duration::from_secs(1)), Timestamp::MAX);
    }
}
