//! What a destination shares with the other processes that deliver to it: whose turn it is, how fast calls may
//! follow each other, and when nobody calls at all. The destination never meets the store that keeps it.
//!
//! While the store cannot be asked each process keeps to the pace alone, and a turn is waited for; only whoever
//! keeps a lead that would be safe nowhere else goes on without.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::delivery::standing::Pace;
use crate::id::DestinationName;

/// How soon a turn that another process has is asked for again, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// How long a turn outlives the process that has it. While that lives it is lengthened again and again.
const LENGTH: Duration = Duration::from_secs(10);

/// A turn that ends sooner than this is lengthened before anything is done in it.
const LEAST: Duration = Duration::from_secs(2);

/// What the processes have in common.
#[async_trait]
pub trait Commons: Debug + Send + Sync + 'static {
    /// Takes the turn `name`, or lengthens it; `None`: nobody can be asked. `number` tells this
    /// process's turns apart.
    async fn take_turn(&self, name: &str, number: i64, length: Duration) -> Option<bool>;

    /// Lengthens a turn that was taken until `dropped`, and then ends it. `ends` is kept true.
    fn keep_turn(&self, name: &str, number: i64, length: Duration, ends: Ends, dropped: CancellationToken);

    /// Takes one of the `places` that `name` has for `length`, or lengthens the one that `who` has; `None`: nobody
    /// can be asked.
    async fn take_place(&self, name: &str, places: u32, who: Guest<'_>, length: Duration) -> Option<bool>;

    /// `who` gives back what place it has.
    async fn leave_place(&self, name: &str, places: u32, who: &str);

    /// Books the next call of `name`; `None`: nobody can be asked.
    async fn pace(&self, name: &str, pace: Pace, patience: Duration) -> Option<Booked>;

    /// No call of `name` goes for so long.
    fn rest(&self, name: &str, pace: Pace, wait: Duration);

    /// Nobody delivers to the destination for so long.
    fn hold(&self, destination: &DestinationName, wait: Duration);

    /// What a process remembered under `key`; `None`: nothing, or nobody can be asked.
    async fn recall(&self, key: &str) -> Option<String>;

    /// Remembers `value` under `key` soon, for every process and after a restart.
    fn remember(&self, key: &str, value: &str);
}

/// Who takes a place.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it has asked before, and so may have a place already. It keeps one, wherever that is.
    pub comes_again: bool,
}

/// When a turn ends.
#[derive(Clone, Debug)]
pub struct Ends(Arc<Mutex<Instant>>);

impl Ends {
    /// It ends then.
    pub fn set(&self, at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a wish to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booked {
    /// It may go after so long.
    In(Duration),
    /// Not within the patience; nothing is booked.
    NotYet,
}

/// A turn that this process has, until it is dropped.
#[derive(Debug)]
pub struct InTurn {
    commons: Arc<dyn Commons>,
    name: String,
    number: i64,
    ends: Ends,
    /// Ends the turn; `None`: nobody could be asked, and nobody is kept out.
    kept: Option<DropGuard>,
}

impl InTurn {
    /// Waits for the turn; `None`: it did not come by the deadline. `alone` says whether to go on when
    /// nobody can be asked.
    pub async fn wait(
        commons: &Arc<dyn Commons>,
        name: String,
        deadline: Option<Instant>,
        alone: impl Fn() -> bool,
    ) -> Option<Self> {
        static NUMBER: AtomicI64 = AtomicI64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let ends = Ends(Arc::new(Mutex::new(Instant::now())));
        let mut turn = Self { commons: Arc::clone(commons), name, number, ends, kept: None };
        let (mut again, longest) = AGAIN;
        while !turn.take().await.unwrap_or_else(&alone) {
            let next = Instant::now() + again;
            if deadline.is_some_and(|deadline| deadline <= next) {
                return None;
            }
            tokio::time::sleep_until(next).await;
            again = (again * 2).min(longest);
        }
        Some(turn)
    }

    async fn take(&mut self) -> Option<bool> {
        let asked = Instant::now();
        let taken = self.commons.take_turn(&self.name, self.number, LENGTH).await?;
        if taken {
            self.ends.set(asked + LENGTH);
            self.kept.get_or_insert_with(|| {
                let dropped = CancellationToken::new();
                let (ends, until) = (self.ends.clone(), dropped.clone());
                self.commons.keep_turn(&self.name, self.number, LENGTH, ends, until);
                dropped.drop_guard()
            });
        }
        Some(taken)
    }

    /// Whether it is still this process's turn. `false`: another one may have it by now, or have had it meanwhile, and
    /// what was learned in it is out of date. `alone`: the answer when nobody can be asked.
    pub async fn lasts(&mut self, alone: bool) -> bool {
        if !alone && self.kept.is_some() && self.ends.get() < Instant::now() {
            return false;
        }
        self.ends.get() >= Instant::now() + LEAST || self.take().await.unwrap_or(alone)
    }
}

/// One destination's part in the commons.
#[derive(Clone, Debug)]
pub struct Ours {
    /// The destination's name.
    pub name: DestinationName,
    /// The commons.
    pub commons: Arc<dyn Commons>,
}

impl Ours {
    /// Nobody delivers to this destination for so long.
    pub fn hold(&self, wait: Duration) {
        self.commons.hold(&self.name, wait);
    }
}

/// For a process that shares nothing: a check, a test.
#[derive(Debug)]
pub struct Alone;

#[async_trait]
impl Commons for Alone {
    async fn take_turn(&self, _: &str, _: i64, _: Duration) -> Option<bool> {
        Some(true)
    }

    fn keep_turn(&self, _: &str, _: i64, _: Duration, _: Ends, _: CancellationToken) {}

    async fn take_place(&self, _: &str, _: u32, _: Guest<'_>, _: Duration) -> Option<bool> {
        Some(true)
    }

    async fn leave_place(&self, _: &str, _: u32, _: &str) {}

    async fn pace(&self, _: &str, _: Pace, _: Duration) -> Option<Booked> {
        None
    }

    fn rest(&self, _: &str, _: Pace, _: Duration) {}

    fn hold(&self, _: &DestinationName, _: Duration) {}

    async fn recall(&self, _: &str) -> Option<String> {
        None
    }

    fn remember(&self, _: &str, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that stood still for so long may have been overtaken, though nobody has the turn now.
    #[tokio::test]
    async fn a_turn_that_had_ended_is_not_taken_up_again() {
        let commons: Arc<dyn Commons> = Arc::new(Alone);
        let mut turn = InTurn::wait(&commons, "x".to_owned(), None, || false).await.unwrap();
        turn.ends.set(Instant::now() + LEAST / 2);
        assert!(turn.lasts(false).await, "it is lengthened in time");
        turn.ends.set(Instant::now().checked_sub(LEAST).unwrap());
        assert!(!turn.lasts(false).await);
    }
}
