//! One at a time for each address, in all processes: whoever has the turn may look for its person and make one.
//!
//! Within a process the next in line is handed the turn at once; between processes it is asked for again and again.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Lock, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::destination::commons::{Commons, InTurn};

/// Whose turns somebody in this process has, or waits for. It is the process's, for several destinations can be one account.
static HERE: LazyLock<Mutex<HashMap<String, Arc<Lock<()>>>>> = LazyLock::new(Mutex::default);

/// The turns of one destination; those of an account's keys are common to all.
pub(super) struct Turns {
    commons: Arc<dyn Commons>,
}

/// The turn, until it is dropped.
pub(super) struct Turn {
    key: String,
    lock: Option<OwnedMutexGuard<()>>,
    shared: Option<InTurn>,
}

impl Turns {
    /// Turns that are shared by `commons`.
    pub(super) fn new(commons: Arc<dyn Commons>) -> Self {
        Self { commons }
    }

    /// Waits for the turn; `None`: it did not come by the deadline.
    pub(super) async fn take(&self, key: String, deadline: Instant) -> Option<Turn> {
        let lock = Arc::clone(here().entry(key.clone()).or_default());
        // From here on the entry is cleared up whatever happens.
        let mut turn = Turn { key, lock: None, shared: None };
        turn.lock = Some(timeout_at(deadline, lock.lock_owned()).await.ok()?);
        turn.shared = Some(InTurn::wait(&self.commons, turn.key.clone(), Some(deadline), || false).await?);
        Some(turn)
    }
}

fn here() -> MutexGuard<'static, HashMap<String, Arc<Lock<()>>>> {
    HERE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turn {
    /// Whether it is still ours: where it was lost meanwhile, somebody else may be doing the same.
    pub(super) async fn lasts(&mut self) -> bool {
        match &mut self.shared {
            Some(shared) => shared.lasts(false).await,
            None => false,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.shared.take());
        let mut turns = here();
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
        let turns = Turns::new(Arc::new(Alone));
        let soon = || Instant::now() + Duration::from_secs(10);
        let first = turns.take("a".to_owned(), soon()).await.unwrap();
        assert!(turns.take("a".to_owned(), Instant::now()).await.is_none(), "it is somebody else's");
        assert!(turns.take("b".to_owned(), soon()).await.is_some(), "another address waits for nobody");
        drop(first);
        assert!(turns.take("a".to_owned(), soon()).await.is_some());
        assert!(!here().contains_key("a") && !here().contains_key("b"), "no address is kept");
    }
}
