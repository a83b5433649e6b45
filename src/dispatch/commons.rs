//! What destinations share with other processes, kept in the store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::notes::everybody;
use crate::delivery::standing::{Pace, Signal, Turn};
use crate::destination::commons::{Ends, Guest};
use crate::destination::{Booked, Commons};
use crate::id::{DestinationName, ProcessId};
use crate::report::Chain;
use crate::store::{Store, StoreError};

/// How long the store may take to answer. The visitor waits meanwhile, perhaps for the second home.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a store that did not answer is not asked again.
const DOWN: Duration = Duration::from_secs(5);

/// The commons of the processes that share a store.
pub struct Shared {
    store: Arc<dyn Store>,
    process: ProcessId,
    tracker: TaskTracker,
    down_until: Mutex<Option<Instant>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what {} shares", self.process)
    }
}

impl Shared {
    /// What this process shares by the store; `tracker` is where it is given back.
    pub fn new(store: Arc<dyn Store>, process: ProcessId, tracker: TaskTracker) -> Arc<Self> {
        Arc::new(Self { store, process, tracker, down_until: Mutex::default() })
    }

    async fn ask<T>(&self, what: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
        let down = *self.down_until.lock().unwrap_or_else(PoisonError::into_inner);
        if down.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let error = match timeout(PATIENCE, what).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => Chain(&error).to_string(),
            Err(_) => "no answer in a second".to_owned(),
        };
        warn!(
            error,
            "the store cannot be asked what other processes do: see /health; what can wait waits for it"
        );
        *self.down_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + DOWN);
        None
    }

    fn turn(&self, name: &str, number: i64) -> Turn {
        Turn { name: name.to_owned(), holder: self.process.to_string(), number }
    }

    /// Each place is kept as a turn that its guest has.
    fn places(name: &str, places: u32, who: &str) -> impl Iterator<Item = Turn> {
        (0..places).map(move |place| Turn {
            name: format!("{name} {place}"),
            holder: who.to_owned(),
            number: 0,
        })
    }

    async fn leave(&self, places: impl Iterator<Item = Turn>) {
        for place in places {
            // One that cannot be given back ends by itself.
            self.ask(self.store.end_turn(&place)).await;
        }
    }

    /// Does something soon; whether it succeeds changes only how long others wait.
    fn soon(&self, work: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        self.tracker.spawn(async move {
            if let Err(error) = work.await {
                warn!(error = %Chain(&error), "other processes are not told, and wait longer than they must");
            }
        });
    }
}

#[async_trait]
impl Commons for Shared {
    async fn take_turn(&self, name: &str, number: i64, length: Duration) -> Option<bool> {
        self.ask(self.store.take_turn(&self.turn(name, number), length)).await
    }

    fn keep_turn(&self, name: &str, number: i64, length: Duration, ends: Ends, dropped: CancellationToken) {
        let (store, turn) = (Arc::clone(&self.store), self.turn(name, number));
        self.soon(async move {
            loop {
                tokio::select! {
                    () = dropped.cancelled() => return store.end_turn(&turn).await,
                    () = tokio::time::sleep(length / 3) => {
                        let asked = Instant::now();
                        // One that is lost, or cannot be lengthened, ends when it ends.
                        if let Ok(true) = store.take_turn(&turn, length).await {
                            ends.set(asked + length);
                        }
                    }
                }
            }
        });
    }

    async fn take_place(&self, name: &str, places: u32, who: Guest<'_>, length: Duration) -> Option<bool> {
        let mut places = Self::places(name, places, who.name);
        while let Some(place) = places.next() {
            if !self.ask(self.store.take_turn(&place, length)).await? {
                continue;
            }
            if who.comes_again {
                // This one may have been somebody else's before, and a later one its own.
                self.leave(places).await;
            }
            return Some(true);
        }
        Some(false)
    }

    async fn leave_place(&self, name: &str, places: u32, who: &str) {
        self.leave(Self::places(name, places, who)).await;
    }

    async fn pace(&self, name: &str, pace: Pace, patience: Duration) -> Option<Booked> {
        let booked = self.ask(self.store.pace(name, pace, patience)).await?;
        Some(booked.map_or(Booked::NotYet, Booked::In))
    }

    fn rest(&self, name: &str, pace: Pace, wait: Duration) {
        let (store, name) = (Arc::clone(&self.store), name.to_owned());
        self.soon(async move { store.rest(&name, pace, wait).await });
    }

    fn hold(&self, destination: &DestinationName, wait: Duration) {
        let (store, destination) = (Arc::clone(&self.store), destination.clone());
        self.soon(async move { store.signal(&destination, Signal::Holds(wait)).await });
    }

    async fn recall(&self, key: &str) -> Option<String> {
        self.ask(self.store.recall(&everybody(), key)).await?
    }

    fn remember(&self, key: &str, value: &str) {
        let (store, key, value) = (Arc::clone(&self.store), key.to_owned(), value.to_owned());
        self.soon(async move { store.remember(&everybody(), &key, &value).await });
    }
}
