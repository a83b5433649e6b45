//! How a destination stands, for every process that shares the store: parked, held, or open. Pure.
//!
//! ```text
//! open ──Refused──► parked: one probe, then the next after twice the rest ──Works──► open
//!   └──Holds(wait)──► held until then: it has asked everybody to wait
//! ```
//! The store keeps it and hands out claims by it, so that no process has to know the others.

use std::time::Duration;

use crate::clock::Timestamp;

/// The rest between probes doubles up to this many times the first one.
pub const SLOWEST_PROBE: u32 = 16;

/// What an attempt says of its destination, beyond the one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Our credentials or settings are wrong: it is parked, if it is not.
    Refused {
        /// How long it rests before the first probe.
        rest: Duration,
    },
    /// It takes leads, or at least answers about them: no longer parked, if it was.
    Works,
    /// It asks everybody to wait.
    Holds(Duration),
}

/// A change that somebody should hear of. The store gives it to the one process whose signal made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It has just been parked.
    Parked,
    /// It takes leads again after having been parked.
    Recovered,
}

/// How a destination stands at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is parked; the next probe is so far away.
    pub probe_in: Option<Duration>,
    /// Nothing goes there for so long.
    pub held_for: Option<Duration>,
    /// When it last worked again after having been parked.
    pub recovered_at: Option<Timestamp>,
}

/// How long a parked destination rests after `probes` probes.
pub fn rest_after(probes: u32, first: Duration) -> Duration {
    first * 1_u32.checked_shl(probes).unwrap_or(u32::MAX).min(SLOWEST_PROBE)
}

/// A right that one at a time has, such as a process to write a spreadsheet, until it ends. A place among an address's
/// mails of a day is kept in the same way: a right that a delivery has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The right.
    pub name: String,
    /// The process, or a delivery.
    pub holder: String,
    /// Which of the holder's turns: a late end of an earlier one ends no later one.
    pub number: i64,
}

/// A turn that ends so much later than one that is taken now was taken by a clock that lied, and has ended.
pub const TURN_SLACK: Duration = Duration::from_secs(10 * 60);

/// How fast calls may follow each other, so that any minute has at most a certain number of them (the generic cell
/// rate algorithm, ITU-T I.371: the same as a token bucket, kept as one moment).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The steady distance between calls.
    pub every: Duration,
    /// How many may go at once after a rest.
    pub burst: u32,
}

impl Pace {
    /// At most `number` calls in any minute: a sixth of them at once, the rest spread.
    pub fn per_minute(number: u32) -> Self {
        let burst = (number / 6).max(1);
        let rest = number.saturating_sub(burst).max(1);
        Self { every: Duration::from_secs(60) / rest, burst }
    }

    /// How long after the moment that is kept the burst is whole again.
    pub fn tolerance(&self) -> Duration {
        self.every * self.burst.saturating_sub(1)
    }
}

/// The longest that calls can be booked ahead. A moment beyond it was kept by a clock that lied.
pub const LONGEST_PACE: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_sixteen_times() {
        let rests: Vec<_> =
            (0..7).map(|probes| rest_after(probes, Duration::from_secs(60)).as_secs() / 60).collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(rest_after(u32::MAX, Duration::from_secs(1)), Duration::from_secs(16));
    }

    #[test]
    fn a_minute_has_its_number() {
        for number in [1, 6, 20, 60, 300, 60_000] {
            let pace = Pace::per_minute(number);
            let later = Duration::from_secs(60).as_nanos() / pace.every.as_nanos();
            assert!(u128::from(pace.burst) + later <= u128::from(number) + 1, "{number}");
        }
    }
}
