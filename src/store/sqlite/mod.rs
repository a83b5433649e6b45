//! The embedded engine: SQLite in WAL mode with synchronous FULL, by rusqlite. One thread writes and
//! commits whatever is waiting (`writer.rs`); readers have connections of their own.

mod accept;
mod archive;
mod claim;
#[cfg(test)]
mod compiled;
mod read;
mod schema;
mod share;
mod story;
mod tide;
mod write;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode};
use tokio::time::Instant;

use self::writer::Writer;
use super::migrations::Opening;
use super::{
    Accepted, ClaimRequest, Claimed, DeliveryFilter, DeliveryRecord, LeadFilter, LeadRecord, Settle, Settled,
    Store, StoreError, Unshown,
};
use crate::clock::{Clock, Timestamp};
use crate::delivery::standing::{Pace, Signal, Turn};
use crate::delivery::{Claim, Entry, State};
use crate::id::{DeliveryId, DestinationName, LeadId};

/// How long a statement waits for another process that holds the file, such as a command that replays.
const BUSY: Duration = Duration::from_millis(500);

/// The most idle reading connections that are kept.
const IDLE_READERS: usize = 4;

/// Leads and deliveries in one SQLite file.
pub struct Sqlite {
    writer: Arc<Writer>,
    readers: Arc<Readers>,
    clock: Clock,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// An SQLite error, as the store's: what the disk or a lock did is `Unavailable`, a file that SQLite
/// cannot make sense of is `Corrupt`.
fn failed(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Corrupt("the file is no SQLite database".to_owned()),
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Corrupt(format!("the file is damaged ({error})")),
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

impl Sqlite {
    /// Opens the file to work in it. Blocks.
    ///
    /// # Errors
    /// Those of [`Self::open_for`].
    pub fn open(path: &Path, clock: Clock) -> Result<Self, StoreError> {
        Self::open_for(Opening::Work, path, clock)
    }

    /// Opens the file; unless it is to be looked into alone, creates it if it is not there, and brings its schema up to date.
    /// Blocks.
    ///
    /// # Errors
    /// The folder cannot be written, the file is not ours, or is another release's.
    pub fn open_for(opening: Opening, path: &Path, clock: Clock) -> Result<Self, StoreError> {
        let writer = Writer::start(schema::open_writer(path, BUSY, opening)?, clock.clone())?;
        let readers = Readers { path: path.to_owned(), idle: Mutex::new(Vec::new()) };
        Ok(Self { writer: Arc::new(writer), readers: Arc::new(readers), clock })
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(&self.readers);
        let asked = tokio::task::spawn_blocking(move || {
            let db = match readers.idle().pop() {
                Some(db) => db,
                None => schema::open_reader(&readers.path, BUSY)?,
            };
            let answer = ask(&db);
            let mut idle = readers.idle();
            if answer.is_ok() && idle.len() < IDLE_READERS {
                idle.push(db);
            }
            answer
        });
        asked.await.unwrap_or_else(|error| Err(StoreError::Unavailable(Box::new(error))))
    }
}

impl Readers {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn accept(&self, entry: Arc<Entry>) -> Result<Accepted, StoreError> {
        let asked = Instant::now();
        let draft = accept::Draft::new(entry)?;
        self.writer.run(move |db, now| accept::accept(db, &draft, now, asked)).await
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<Claimed, StoreError> {
        let asked = Instant::now();
        self.writer.run(move |db, now| claim::claim_due(db, &request, now, asked)).await
    }

    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError> {
        self.writer.run(move |db, now| claim::settle(db, &settle, now)).await
    }

    async fn release(&self, claim: &Claim) -> Result<bool, StoreError> {
        let (delivery, attempt) = (claim.delivery.clone(), claim.attempt);
        self.writer.run(move |db, now| claim::release(db, &delivery, attempt, now)).await
    }

    async fn renew(&self, delivery: &DeliveryId, attempt: u32, lease: Duration) -> Result<bool, StoreError> {
        let delivery = delivery.clone();
        self.writer.run(move |db, now| claim::renew(db, &delivery, attempt, now + write::millis(lease))).await
    }

    async fn finish_step(&self, delivery: &DeliveryId, name: &str, value: &str) -> Result<(), StoreError> {
        let (delivery, name, value) = (delivery.clone(), name.to_owned(), value.to_owned());
        self.writer.run(move |db, _| write::finish_step(db, &delivery, &name, &value)).await
    }

    async fn recall(&self, destination: &DestinationName, key: &str) -> Result<Option<String>, StoreError> {
        let (destination, key) = (destination.clone(), key.to_owned());
        self.read(move |db| read::recall(db, &destination, &key)).await
    }

    async fn remember(
        &self,
        destination: &DestinationName,
        key: &str,
        value: &str,
    ) -> Result<(), StoreError> {
        let (destination, key, value) = (destination.clone(), key.to_owned(), value.to_owned());
        self.writer.run(move |db, _| write::remember(db, &destination, &key, &value)).await
    }

    async fn signal(&self, destination: &DestinationName, signal: Signal) -> Result<(), StoreError> {
        let destination = destination.clone();
        self.writer.run(move |db, now| share::signal(db, destination.as_str(), signal, now).map(drop)).await
    }

    async fn probe_now(&self, destination: &DestinationName) -> Result<(), StoreError> {
        let destination = destination.clone();
        self.writer.run(move |db, now| share::probe_now(db, destination.as_str(), now)).await
    }

    async fn take_turn(&self, turn: &Turn, length: Duration) -> Result<bool, StoreError> {
        let turn = turn.clone();
        self.writer.run(move |db, now| share::take_turn(db, &turn, length, now)).await
    }

    async fn end_turn(&self, turn: &Turn) -> Result<(), StoreError> {
        let turn = turn.clone();
        self.writer.run(move |db, now| share::end_turn(db, &turn, now)).await
    }

    async fn pace(&self, name: &str, pace: Pace, patience: Duration) -> Result<Option<Duration>, StoreError> {
        let name = name.to_owned();
        self.writer.run(move |db, now| share::pace(db, &name, pace, patience, now)).await
    }

    async fn rest(&self, name: &str, pace: Pace, wait: Duration) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.writer.run(move |db, now| share::rest(db, &name, pace, wait, now)).await
    }

    async fn next_due(&self, destination: &DestinationName) -> Result<Option<Duration>, StoreError> {
        let (destination, now) = (destination.clone(), self.now());
        let due = self.read(move |db| read::next_due(db, &destination)).await?;
        Ok(due.map(|due| Duration::from_millis(due.saturating_sub(now).max(0).unsigned_abs())))
    }

    async fn lead(&self, id: LeadId) -> Result<Option<LeadRecord>, StoreError> {
        self.read(move |db| read::lead(db, &id.to_string())).await
    }

    async fn leads(&self, filter: LeadFilter) -> Result<Vec<LeadRecord>, StoreError> {
        self.read(move |db| read::leads(db, &filter)).await
    }

    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError> {
        self.read(move |db| read::deliveries(db, &filter)).await
    }

    async fn replay(&self, deliveries: &[DeliveryId]) -> Result<u64, StoreError> {
        let deliveries = deliveries.to_vec();
        self.writer.run(move |db, now| write::replay(db, &deliveries, now)).await
    }

    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, StoreError> {
        let deliveries = deliveries.to_vec();
        self.writer.run(move |db, _| write::cancel(db, &deliveries)).await
    }

    async fn consent(&self, lead: LeadId, at: Timestamp) -> Result<Option<u64>, StoreError> {
        self.writer.run(move |db, now| write::consent(db, lead, at, now)).await
    }

    async fn waited_for(&self) -> Result<Vec<DestinationName>, StoreError> {
        self.read(read::waited_for).await
    }

    async fn counts(&self) -> Result<Vec<(DestinationName, State, u64)>, StoreError> {
        self.read(read::counts).await
    }

    async fn unshown(&self, limit: u32) -> Result<Vec<Unshown>, StoreError> {
        self.read(move |db| story::unshown(db, limit)).await
    }

    async fn shown(&self, told: Vec<Unshown>) -> Result<(), StoreError> {
        self.writer.run(move |db, _| story::shown(db, &told)).await
    }

    async fn keep(&self, name: &'static str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.writer.run(move |db, _| write::keep(db, name, &fresh)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        // What is there is written once more: a transaction that changes nothing ends well on a full disk, too.
        self.writer.run(|db, _| tide::touch(db)).await
    }

    async fn close(&self) {
        self.readers.idle().clear();
        let writer = Arc::clone(&self.writer);
        let _ = tokio::task::spawn_blocking(move || writer.close()).await;
    }
}
