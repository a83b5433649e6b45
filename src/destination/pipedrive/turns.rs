//! One at a time for each address, in all processes: whoever has the turn may look for its person and make one.
//!
//! Within a process the next in line is handed the turn at once; between processes it is asked for again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::destination::commons::{InTurn, Ours};

/// The addresses that somebody has, or waits for, the turn of.
pub(super) struct Turns {
    ours: Ours,
    here: Mutex<HashMap<String, Arc<Lock<()>>>>,
}

/// The turn, until it is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: String,
    lock: Option<OwnedMutexGuard<()>>,
    shared: Option<InTurn>,
}

impl Turns {
    /// Turns that are shared by `ours`.
    pub(super) fn new(ours: Ours) -> Self {
        Self { ours, here: Mutex::default() }
    }

    /// Waits for the turn; `None`: it did not come by the deadline.
    pub(super) async fn take(&self, key: String, deadline: Instant) -> Option<Turn<'_>> {
        let lock = Arc::clone(self.locked().entry(key.clone()).or_default());
        // From here on the entry is cleared up whatever happens.
        let mut turn = Turn { turns: self, key, lock: None, shared: None };
        turn.lock = Some(timeout_at(deadline, lock.lock_owned()).await.ok()?);
        turn.shared = Some(self.ours.turn(&turn.key, deadline).await?);
        Some(turn)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, Arc<Lock<()>>>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.shared.take());
        let mut turns = self.turns.locked();
        drop(self.lock.take());
        // Whoever waits has a reference of its own, and takes it under this lock.
        if turns.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::commons::Alone;
    use std::time::Duration;

    #[tokio::test]
    async fn a_turn_is_had_by_one_and_leaves_nothing_behind() {
        let turns = Turns::new(Ours { name: "pipedrive".parse().unwrap(), commons: Arc::new(Alone) });
        let soon = || Instant::now() + Duration::from_secs(10);
        let first = turns.take("a".to_owned(), soon()).await.unwrap();
        assert!(turns.take("a".to_owned(), Instant::now()).await.is_none(), "it is somebody else's");
        assert!(turns.take("b".to_owned(), soon()).await.is_some(), "another address waits for nobody");
        drop(first);
        assert!(turns.take("a".to_owned(), soon()).await.is_some());
        assert!(turns.locked().is_empty(), "no address is kept");
    }
}
